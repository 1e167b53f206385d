"""Naive binning: every number of a chunk is a token of its own, as in RT-2, OpenVLA and openpi's baseline.

The arithmetic and the ids are those of openpi's `BinningTokenizer` (`src/openpi/models/tokenizer.py`): id `i`
of `n` means `i / n * 2 - 1`, ids stand time by time, and id `i` is text id 257023 - i, as FAST ids are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.codec.numbered import NumberCodec, fields_of, is_number
from pioxide.errors import InputError


class BinningCodec(NumberCodec):
    """A uniform bin for every number.

    openpi only decodes, and so fixes what an id means; ids here are those of the nearest meaning. A number
    from -limit to limit comes back within half a bin (`limit / bins`), and within a whole one above the last
    bin's meaning, `limit * (1 - 2 / bins)`. Numbers outside are errors, or clipped and counted.

    >>> codec = BinningCodec()
    >>> ids, clipped = codec.encode([[-1.0, 0.0], [0.5, 1.0]])
    >>> ids.tolist(), clipped
    ([0, 128, 192, 255], 0)
    >>> codec.decode(ids, horizon=2, dim=2).actions.tolist()
    [[-1.0, 0.0], [0.5, 0.9921875]]
    """

    def __init__(
        self, bins: int = 256, limit: float = 1.0, *, horizon: int | None = None, dim: int | None = None
    ) -> None:
        """Makes bins of one width from -limit to limit.

        Args:
            bins: Ids.
            limit: Largest normalised number; openpi's is 1.
            horizon: H of the chunks it is for, as a check; None for any.
            dim: D of the chunks it is for, as a check; None for any.

        Raises:
            InputError: Too few bins, or a limit that is none.
        """
        super().__init__(bins, horizon, dim)
        if not is_number(limit) or not 0 < limit < float("inf"):
            raise InputError(f"limit: expected a number above 0, got {limit!r}")
        self.limit = float(limit)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BinningCodec:
        """Reads what `save` wrote.

        Raises:
            InputError: A field is missing, unknown, or not what it should be.
        """
        said = fields_of(document, ("bins", "limit"))
        return cls(**said, horizon=document["time_horizon"], dim=document["action_dim"])

    @property
    def kind(self) -> str:
        """Returns "binning"."""
        return "binning"

    @property
    def steps(self) -> int | None:
        """Returns None: a dimension has as many tokens as the chunk has actions."""
        return None

    @property
    def coefficient_range(self) -> tuple[float, float]:
        """Returns -limit and limit."""
        return -self.limit, self.limit

    @property
    def description(self) -> str:
        """Returns the bins and what they cover."""
        return f"binning, {self.bins:,} bins from {-self.limit:g} to {self.limit:g}"

    def settings(self) -> dict[str, Any]:
        """Returns all that ids depend on."""
        return {"bins": self.bins, "limit": self.limit}

    def _quantise(self, chunks: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        with np.errstate(over="ignore"):
            nearest = np.rint((chunks / self.limit + 1) / 2 * self.bins)
        outside = (nearest < 0) | (chunks > self.limit)
        return np.clip(nearest, 0, self.bins - 1).astype(np.int64), outside

    def _actions(self, ids: NDArray[np.int64], horizon: int) -> NDArray[np.float64]:
        return (ids / self.bins * 2 - 1) * self.limit

    def _overflow(self, chunk: NDArray[np.float64], step: int, dim: int) -> str:
        return (
            f"step {step}, dimension {dim}: {chunk[step, dim]:.6g} has no bin ({-self.limit:g} to "
            f"{self.limit:g} have); are the actions normalised?"
        )

    def __repr__(self) -> str:
        return f"BinningCodec(bins={self.bins}, limit={self.limit:g})"
