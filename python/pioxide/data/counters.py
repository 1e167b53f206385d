"""Counts the numbers of a dataset pass by pass: a state, and action chunks of which none is stored.

Part of `data.stats`. An absolute action counts with its number of windows; relative ones are made in blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.data.quantiles import Block, Counted, ExactQuantiles, Moments
from pioxide.data.windows import window_weights, windows
from pioxide.errors import InputError
from pioxide.transforms import Stats
from pioxide.transforms.stats import FIELDS

# Numbers of relative actions made at a time.
BLOCK_NUMBERS = 1 << 20
QUANTILES = (0.01, 0.99, 0.1, 0.9)


class WiderError(Exception):
    """An episode has more bits a number than those before it."""


class Blocks:
    """Keeps blocks that `Moments` elsewhere are to join, in their order."""

    def __init__(self, origin: NDArray[np.float64]):
        self.origin = origin
        self.all: list[Block] = []

    @property
    def count(self) -> int:
        """Returns how many values there are, by their weights."""
        return sum(block.number for block in self.all)

    def add(self, values: NDArray, weights: NDArray[np.int64] | None = None) -> None:
        """Adds up a block, as `Moments.add` does."""
        self.all.append(Block.of(values, weights, self.origin))


class Tally(NamedTuple):
    """What a fork of a `Counter` counted in a pass.

    Attributes:
        blocks: for the moments, in the first pass.
        low: [D] smallest values, in the first pass.
        high: [D] largest, likewise.
        counted: for the quantiles.
    """

    blocks: list[Block]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    counted: Counted


class Counter:
    """Moments (in the first pass) and quantiles of some dimensions, made when the first block shows them."""

    def __init__(self, what: str, dtype: np.dtype | None = None):
        self.what = what
        self.dtype = dtype
        self.moments: Moments | Blocks | None = None
        self.quantiles: ExactQuantiles | None = None
        self.low = self.high = np.zeros(0)
        self.passed = 0

    def begin(self, values: NDArray) -> None:
        """Sees from the first values [n, D] what is to be counted, and counts nothing yet."""
        origin = np.array(values[0], np.float64) if len(values) else None
        self.moments = Moments(values.shape[1], origin)
        self.quantiles = ExactQuantiles(values.shape[1], self.dtype or values.dtype, QUANTILES)
        self.low, self.high = np.full(values.shape[1], np.inf), np.full(values.shape[1], -np.inf)

    def fork(self) -> Counter:
        """Returns one that counts other values in this pass, anywhere; `tally` is what it counted."""
        other = Counter(self.what, self.dtype)
        other.passed = self.passed
        if self.moments is not None and self.quantiles is not None:
            other.moments, other.quantiles = Blocks(self.moments.origin), self.quantiles.fork()
            other.low, other.high = np.full_like(self.low, np.inf), np.full_like(self.high, -np.inf)
        return other

    def tally(self) -> Tally | None:
        """Returns what this fork counted; None where it was given nothing that counts."""
        if not isinstance(self.moments, Blocks) or self.quantiles is None or self.done:
            return None
        return Tally(self.moments.all, self.low, self.high, self.quantiles.counted())

    def join(self, tally: Tally | None) -> None:
        """Adds what a fork counted; the same bits as if this one had counted it, where forks are in order."""
        if tally is None or not isinstance(self.moments, Moments) or self.quantiles is None:
            return
        for block in tally.blocks:
            self.moments.join(block)
        self.low, self.high = np.minimum(self.low, tally.low), np.maximum(self.high, tally.high)
        self.quantiles.join(tally.counted)

    def add(self, values: NDArray, weights: NDArray[np.int64] | None = None) -> None:
        """Counts values [n, D], each row as often as its weight says.

        Raises:
            InputError: An episode has another number of dimensions.
            WiderError: It has more bits a number than the first.
        """
        if self.moments is None or self.quantiles is None:
            self.begin(values)
        assert self.moments is not None
        assert self.quantiles is not None
        if self.done:
            return
        if values.shape[1] != self.quantiles.dim:
            raise InputError(
                f"{self.what}: an episode has {values.shape[1]} dimensions, earlier ones {self.quantiles.dim}"
            )
        if values.dtype.itemsize > self.quantiles.dtype.itemsize:
            raise WiderError
        if self.passed == 0:
            self.moments.add(values, weights)
            self.low = np.minimum(self.low, values.min(axis=0, initial=np.inf))
            self.high = np.maximum(self.high, values.max(axis=0, initial=-np.inf))
        self.quantiles.add(values.astype(self.quantiles.dtype, copy=False), weights)

    def next_pass(self) -> None:
        """Closes a pass over all values.

        Raises:
            InputError: There were fewer than two.
        """
        if self.moments is None or self.quantiles is None or self.moments.count < 2:
            raise InputError(f"{self.what}: statistics need at least two frames")
        if not self.done:
            self.quantiles.next_pass()
            self.passed += 1

    @property
    def done(self) -> bool:
        """Returns whether no pass is missing."""
        return self.quantiles is not None and self.passed == self.quantiles.passes

    def stats(self) -> Stats:
        """Returns what was counted, once all passes are done."""
        assert isinstance(self.moments, Moments)
        assert self.quantiles is not None
        q01, q99, q10, q90 = self.quantiles.values
        # Adding 0.0 turns a negative zero into a plain one, as in the quantiles.
        low, high = self.low + 0.0, self.high + 0.0
        return Stats(self.moments.mean, self.moments.std, q01, q99, low, high, q10, q90)


class ActionCounter:
    """Action chunks: absolute dimensions by weight, relative ones by making them."""

    def __init__(self, horizon: int, mask: tuple[bool, ...], dtype: np.dtype | None = None):
        if horizon < 1:
            raise InputError(f"horizon is {horizon}, expected at least 1")
        self.horizon = horizon
        self.mask = mask
        self.absolute = Counter("actions", dtype)
        self.relative = Counter("actions", dtype)
        self.dims: NDArray[np.bool_] | None = None  # [D], True where relative

    def begin(self, states: NDArray, actions: NDArray) -> None:
        """Sees from the first episode what is to be counted, and counts nothing yet.

        Raises:
            InputError: The mask covers more dimensions than there are.
        """
        dims = self.dims = self._relative_dims(states.shape[1], actions.shape[1])
        if not dims.all():
            self.absolute.begin(actions[:1, ~dims])
        if dims.any():
            self.relative.begin(actions[:1, dims] - states[:1, np.flatnonzero(dims)])

    def fork(self) -> ActionCounter:
        """Does what `Counter.fork` does."""
        other = ActionCounter(self.horizon, self.mask)
        other.absolute, other.relative, other.dims = self.absolute.fork(), self.relative.fork(), self.dims
        return other

    def tally(self) -> tuple[Tally | None, Tally | None]:
        """Returns what this fork counted of absolute and of relative dimensions."""
        return self.absolute.tally(), self.relative.tally()

    def join(self, tallies: tuple[Tally | None, Tally | None]) -> None:
        """Does what `Counter.join` does."""
        for counter, tally in zip((self.absolute, self.relative), tallies, strict=True):
            counter.join(tally)

    def add(
        self, states: NDArray, actions: NDArray, weight: int, kept: NDArray[np.int64] | None = None
    ) -> None:
        """Counts the chunks of an episode of states [T, S] and actions [T, D], each `weight` times.

        Where only some frames are `kept`, theirs.

        Raises:
            InputError: Other numbers of dimensions, or a mask that covers more than there are.
            WiderError: It has more bits a number than the first.
        """
        if self.dims is None:
            self.dims = self._relative_dims(states.shape[1], actions.shape[1])
        dims = self.dims
        if actions.shape[1] != dims.size:
            raise InputError(
                f"actions: an episode has {actions.shape[1]} dimensions, earlier ones {dims.size}"
            )
        if not dims.all():
            weights = weight * window_weights(len(actions), self.horizon, kept)
            seen = weights > 0
            absolute = actions[:, ~dims]
            self.absolute.add(absolute if seen.all() else absolute[seen], weights[seen])
        if dims.any():
            relative = np.flatnonzero(dims)
            chunks = windows(actions[:, relative], self.horizon)
            step = max(1, BLOCK_NUMBERS // (self.horizon * relative.size))
            for start in range(0, len(actions) if kept is None else len(kept), step):
                # Made with dimensions outermost in memory, as the counters take them.
                part = slice(start, start + step) if kept is None else kept[start : start + step]
                block = np.subtract(
                    chunks[part].transpose(2, 0, 1), states[part][:, relative].T[:, :, None], order="C"
                )
                numbers = block.reshape(relative.size, -1).T
                self.relative.add(numbers, repeated(len(numbers), weight))

    def _relative_dims(self, state_dim: int, action_dim: int) -> NDArray[np.bool_]:
        if len(self.mask) > min(action_dim, state_dim):
            raise InputError(
                f"the delta mask covers {len(self.mask)} dimensions, but the actions have {action_dim} "
                f"and the state has {state_dim}"
            )
        dims = np.zeros(action_dim, bool)
        dims[: len(self.mask)] = self.mask
        return dims

    @property
    def used(self) -> list[Counter]:
        """Returns the counters that count anything."""
        if self.dims is None:
            return [self.absolute]
        return [
            c for c, any_ in ((self.absolute, not self.dims.all()), (self.relative, self.dims.any())) if any_
        ]

    def next_pass(self) -> None:
        """Closes a pass over all episodes."""
        for counter in self.used:
            counter.next_pass()

    @property
    def done(self) -> bool:
        """Returns whether no pass is missing."""
        return all(counter.done for counter in self.used)

    def stats(self) -> Stats:
        """Returns what was counted, once all passes are done."""
        assert self.dims is not None
        fields: list[NDArray[np.float64]] = []
        parts = {False: self.absolute, True: self.relative}
        made = {
            relative: counter.stats() for relative, counter in parts.items() if np.any(self.dims == relative)
        }
        for name in FIELDS:
            field = np.zeros(self.dims.size)
            for relative, stats in made.items():
                field[self.dims == relative] = getattr(stats, name)
            fields.append(field)
        return Stats(*fields)


def floats_of(x: NDArray) -> NDArray:
    """Returns floats to compute with: float32 stays, everything else becomes float64."""
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def repeated(number: int, weight: int) -> NDArray[np.int64] | None:
    """Returns the weights of rows that all count alike; None where each counts once."""
    return None if weight == 1 else np.full(number, weight, np.int64)
