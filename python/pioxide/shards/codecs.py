"""Which action codec `fit` makes and how: one frozen class a codec, with the options that people type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import BeastCodec, BinningCodec, FastCodec
from pioxide.errors import InputError

CodecName = Literal["fast", "binning", "beast"]
Chunks = NDArray[np.float64] | Sequence[NDArray[np.float64]]


@dataclass(frozen=True)
class FastOptions:
    """FAST: see `FastCodec.fit`."""

    vocab_size: int = 1024
    scale: float = 10.0
    regex_split: bool | None = None

    def fit(self, chunks: Chunks) -> FastCodec:
        """Makes the codec from normalised chunks [N, H, D], or N of them that differ in width."""
        return FastCodec.fit(
            chunks, vocab_size=self.vocab_size, scale=self.scale, regex_split=self.regex_split
        )

    @property
    def label(self) -> str:
        """Returns it in a few words, for a table."""
        split = {None: "", True: ", split", False: ", no split"}[self.regex_split]
        return f"FAST, scale {self.scale:g}, {self.vocab_size:,} tokens{split}"

    def __str__(self) -> str:
        split = "" if self.regex_split is None else f" --regex-split {'on' if self.regex_split else 'off'}"
        return f"--codec fast --scale {self.scale:g} --vocab-size {self.vocab_size}{split}"


@dataclass(frozen=True)
class BinningOptions:
    """Naive binning: see `BinningCodec`. Nothing of it is fitted."""

    bins: int = 256
    limit: float = 1.0

    def fit(self, chunks: Chunks) -> BinningCodec:
        """Makes the codec."""
        return BinningCodec(self.bins, self.limit)

    @property
    def label(self) -> str:
        """Returns it in a few words, for a table."""
        return f"binning, {self.bins} bins to ±{self.limit:g}"

    def __str__(self) -> str:
        return f"--codec binning --bins {self.bins} --limit {self.limit:g}"


@dataclass(frozen=True)
class BeastOptions:
    """BEAST: see `BeastCodec.fit`."""

    control_points: int = 10
    degree: int = 3
    bins: int = 256

    def fit(self, chunks: Chunks) -> BeastCodec:
        """Makes the codec from normalised chunks [N, H, D]."""
        return BeastCodec.fit(chunks, control_points=self.control_points, degree=self.degree, bins=self.bins)

    @property
    def label(self) -> str:
        """Returns it in a few words, for a table."""
        return f"BEAST, {self.control_points} points of degree {self.degree}, {self.bins} bins"

    def __str__(self) -> str:
        return (
            f"--codec beast --control-points {self.control_points} --degree {self.degree} --bins {self.bins}"
        )


CodecOptions = FastOptions | BinningOptions | BeastOptions

# Which options each codec has.
_OPTIONS: dict[CodecName, tuple[type[CodecOptions], tuple[str, ...]]] = {
    "fast": (FastOptions, ("vocab_size", "scale", "regex_split")),
    "binning": (BinningOptions, ("bins", "limit")),
    "beast": (BeastOptions, ("control_points", "degree", "bins")),
}


def codec_options(codec: CodecName, said: dict[str, Any]) -> CodecOptions:
    """Returns how a codec is made from what a person said; what nobody said is its default.

    Args:
        codec: Which.
        said: Every codec's options; None for one that nobody said. What stands at FAST's own default is
            taken for not said.

    Raises:
        InputError: There is no such codec, or an option was said that is another's.
    """
    if codec not in _OPTIONS:
        raise InputError(f"codec {codec!r}: expected one of {', '.join(_OPTIONS)}")
    kind, own = _OPTIONS[codec]
    nobody = dict(vars(FastOptions())) if kind is not FastOptions else {}
    given = {n: value for n, value in said.items() if value is not None and value != nobody.get(n)}
    if foreign := sorted(set(given) - set(own)):
        other = ", ".join(f"--{name.replace('_', '-')}" for name in own)
        raise InputError(
            f"{foreign[0]} is no option of the codec {codec}, which has {other}; leave it out, or choose "
            "another --codec"
        )
    return kind(**given)
