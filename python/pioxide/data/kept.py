"""Which frames of a dataset are used, as spans of each episode; `data.keeping` reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class KeptFrames:
    """Which frames of a dataset are used.

    Attributes:
        said: The file or the column.
        digest: Of which frames these are, wherever the file lies.
        kept: How many.
        total: Of so many.
        spans: By episode, [n, 2] where a span begins and ends, rising and apart; no entry for none.
    """

    said: str
    digest: str
    kept: int
    total: int
    spans: Mapping[int, NDArray[np.int64]] = field(compare=False, repr=False)

    @classmethod
    def of(cls, said: str, spans: Mapping[int, NDArray[np.int64]], total: int) -> KeptFrames:
        """Counts spans, by episode, of a dataset of `total` frames."""
        kept = {index: spans[index] for index in sorted(spans) if len(spans[index])}
        number = sum(int((of[:, 1] - of[:, 0]).sum()) for of in kept.values())
        digest = hashlib.sha256()
        for index, of in kept.items():
            digest.update(f"{index}:".encode() + np.ascontiguousarray(of, "<i8").tobytes())
        return cls(said, digest.hexdigest()[:16], number, total, kept)

    def __str__(self) -> str:
        """Returns what is said of it while something is made."""
        return f"{self.kept:,} of {self.total:,} are used ({self.said})"

    @property
    def identity(self) -> str:
        """Returns what a run keeps of it, the same wherever the file lies."""
        return f"{self.kept:,} of {self.total:,} ({self.digest})"

    def as_json(self) -> dict[str, Any]:
        """Returns what is written beside what is made."""
        return {"digest": self.digest, "kept": self.kept, "of": self.total}

    def number(self, index: int) -> int:
        """Returns how many frames of an episode are used."""
        of = self.spans.get(index)
        return 0 if of is None else int((of[:, 1] - of[:, 0]).sum())

    def frames(self, index: int) -> NDArray[np.int64]:
        """Returns the frames of an episode that are used, rising."""
        of = self.spans.get(index)
        if of is None:
            return np.zeros(0, np.int64)
        return np.concatenate([np.arange(start, stop, dtype=np.int64) for start, stop in of.tolist()])


def spans_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns [n, 2] where runs of True begin and end.

    >>> spans_of(np.array([True, False, True, True])).tolist()
    [[0, 1], [2, 4]]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return edges.reshape(-1, 2).astype(np.int64)
