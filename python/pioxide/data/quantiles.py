"""Exact weighted quantiles and moments of streams that don't fit in memory.

A float is its bits; flipped so that they sort like the numbers, the quantile's bits are found 16 at a time by
counting (a radix selection). That takes one pass over the data for each 16 bits, memory that doesn't depend
on the number of values, and gives the same value as sorting them all.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError

DIGIT_BITS = 16
DIGITS = 1 << DIGIT_BITS
# Digits that are counted one by one.
FEW = 4096


class Counted(NamedTuple):
    """What a pass of `ExactQuantiles` counted.

    Attributes:
        places: in its table, where anything was.
        counts: how much.
    """

    places: NDArray[np.int64]
    counts: NDArray[np.int64]


class ExactQuantiles:
    """Quantiles of each dimension, exact, in two passes for float32 and four for float64.

    The q-quantile is the smallest value with at least q of the weight at or under it: NumPy's "inverted_cdf",
    always a value that occurs. openpi takes the left edge of the bin of a 5,000-bin histogram in which that
    value lies. Memory is one int64 table of 65,536 counts a dimension and probability (15 MB for 7 joints and
    four probabilities).

    Use: `for _ in range(q.passes): add every block; q.next_pass()`, then `q.values`.

    Attributes:
        passes: how often all the values must be added.
        values: [Q, D] float64, once all passes are done.
    """

    def __init__(self, dim: int, dtype: np.typing.DTypeLike, probabilities: tuple[float, ...] = (0.01, 0.99)):
        """Start.

        Args:
            dim: D.
            dtype: of the values, float32 or float64.
            probabilities: each in (0, 1].

        Raises:
            InputError: another dtype or a probability outside (0, 1].
        """
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise InputError(f"quantiles of {self.dtype} values: expected float32 or float64")
        if not all(0 < p <= 1 for p in probabilities):
            raise InputError(f"probabilities {probabilities} must lie in (0, 1]")
        self.dim = dim
        self.probabilities = probabilities
        self.passes = self.dtype.itemsize * 8 // DIGIT_BITS
        self._key_type = np.dtype(f"u{self.dtype.itemsize}")
        self._pass = 0
        # What is known of each quantile's bits so far, and how much weight lies under all values that begin
        # so.
        self._prefix = np.zeros((len(probabilities), dim), self._key_type)
        self._under = np.zeros((len(probabilities), dim), np.int64)
        self._counts: NDArray[np.int64] | None = None  # made when something is counted
        self._wanted = np.zeros((0, DIGITS), bool)
        self._total = 0

    def add(self, values: NDArray, weights: NDArray[np.int64] | None = None) -> None:
        """Counts a block in the current pass.

        Args:
            values: [M, D] finite, of this object's dtype.
            weights: [M] how often each row counts, once if None.
        """
        if values.ndim != 2 or values.shape[1] != self.dim or values.dtype != self.dtype:
            raise InputError(f"expected [M, {self.dim}] {self.dtype}, got {values.shape} {values.dtype}")
        counts = self._table()
        keys = _sortable(np.ascontiguousarray(values.T), self._key_type)
        digits = (keys >> np.array(self._shift, self._key_type)).astype(np.uint16)
        for d in range(self.dim):
            if self._pass == 0:
                _count(counts[0, d], digits[d], weights)
                continue
            begins = keys[d] >> np.array(self._shift + DIGIT_BITS, self._key_type)
            near = np.flatnonzero(self._wanted[d].take(begins & np.array(DIGITS - 1, self._key_type)))
            begins, here = begins[near], digits[d][near]
            weight = None if weights is None else weights[near]
            for q in range(len(self.probabilities)):
                chosen = begins == self._prefix[q, d]
                _count(counts[q, d], here[chosen], None if weight is None else weight[chosen])

    def fork(self) -> ExactQuantiles:
        """Returns one that counts other values in the same pass, to be given to `join` by `counted`."""
        other = copy.copy(self)
        other._counts = None
        return other

    def counted(self) -> Counted:
        """Returns what was counted in this pass."""
        flat = self._table().reshape(-1)
        places = np.flatnonzero(flat)
        return Counted(places, flat[places])

    def join(self, counted: Counted) -> None:
        """Adds what a `fork` counted: whole numbers, so their order makes no difference."""
        self._table().reshape(-1)[counted.places] += counted.counts

    def _table(self) -> NDArray[np.int64]:
        if self._counts is None:
            self._counts = np.zeros(
                (len(self.probabilities) if self._pass else 1, self.dim, DIGITS), np.int64
            )
        return self._counts

    def next_pass(self) -> None:
        """Closes a pass: fixes 16 more bits of every quantile.

        Raises:
            InputError: nothing was added.
        """
        table = self._table()
        if self._pass == 0:
            self._total = int(table[0, 0].sum()) if self.dim else 1
            if self._total == 0:
                raise InputError("quantiles of no values")
        for d in range(self.dim):
            counted = np.empty(0, np.int64)
            for q, probability in enumerate(self.probabilities):
                counts = table[0 if self._pass == 0 else q, d]
                if q == 0 or self._pass > 0:
                    counted = np.cumsum(counts)
                rank = math.ceil(probability * self._total) - self._under[q, d]
                digit = int(np.searchsorted(counted, rank))
                if digit == DIGITS:
                    raise InputError("the passes over the values were not given the same values")
                self._under[q, d] += counted[digit] - counts[digit]
                self._prefix[q, d] = (int(self._prefix[q, d]) << DIGIT_BITS) | digit
        self._pass += 1
        if self._pass < self.passes:
            # By the last known digit: most values are no candidates, and are passed over at once.
            self._wanted = np.zeros((self.dim, DIGITS), bool)
            np.put_along_axis(self._wanted, (self._prefix & (DIGITS - 1)).T.astype(np.intp), True, axis=1)
        self._counts = None

    @property
    def values(self) -> NDArray[np.float64]:
        """Returns [Q, D] the quantiles.

        Raises:
            InputError: passes are missing.
        """
        if self._pass < self.passes:
            raise InputError(f"{self.passes - self._pass} passes over the values are missing")
        # Adding 0.0 turns a negative zero into a plain one.
        return _from_sortable(self._prefix, self.dtype).astype(np.float64) + 0.0

    @property
    def _shift(self) -> int:
        return (self.passes - 1 - self._pass) * DIGIT_BITS


class Block(NamedTuple):
    """A block of values, added up for `Moments`.

    Attributes:
        number: of values, by their weights.
        mean: [D] relative to the origin.
        squares: [D] sum of squared differences from that mean.
    """

    number: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray, weights: NDArray[np.int64] | None, origin: NDArray[np.float64]) -> Block:
        """Adds up `values` [M, D], each row counting `weights` [M] times (once if None)."""
        block = np.array(values.T, np.float64, order="C")  # [D, M]: sums run along memory
        count = len(values) if weights is None else int(weights.sum())
        if count == 0:
            return cls(0, np.zeros(len(origin)), np.zeros(len(origin)))
        block -= origin[:, None]
        mean = _sum(block, weights) / count
        block -= mean[:, None]
        block *= block
        return cls(count, mean, _sum(block, weights))


class Moments:
    """Mean and population standard deviation of each dimension, block by block, without cancellation.

    Values are taken relative to the first one, blocks are centred on their own mean in float64 and joined
    by the update of Chan, Golub and LeVeque ("Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979). It is openpi's `sqrt(max(0, E[x^2] - E[x]^2))` without its loss of digits
    where the mean is large against the spread.
    """

    def __init__(self, dim: int, origin: NDArray[np.float64] | None = None):
        """Start with no values of `dim` dimensions; the first one is the `origin` by default."""
        self.count = 0
        self._began = origin is not None
        self.origin = np.zeros(dim) if origin is None else origin
        self._mean = np.zeros(dim)  # relative to the origin
        self._squares = np.zeros(dim)  # sum of squared differences from the mean

    def add(self, values: NDArray, weights: NDArray[np.int64] | None = None) -> None:
        """Joins a block `values` [M, D], each row counting `weights` [M] times (once if None)."""
        if not self._began and len(values):
            self.origin, self._began = np.array(values[0], np.float64), True
        self.join(Block.of(values, weights, self.origin))

    def join(self, block: Block) -> None:
        """Joins a block that was added up before; the last bits depend on the order of blocks."""
        if block.number == 0:
            return
        total = self.count + block.number
        shift = block.mean - self._mean
        self._squares += block.squares + shift * shift * (self.count * (block.number / total))
        self._mean += shift * (block.number / total)
        self.count = total

    @property
    def mean(self) -> NDArray[np.float64]:
        """Returns [D] the mean."""
        return self.origin + self._mean

    @property
    def std(self) -> NDArray[np.float64]:
        """Returns [D] the population's standard deviation."""
        return np.sqrt(self._squares / max(self.count, 1))


def _sum(block: NDArray[np.float64], weights: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Of each row of [D, M], weighted; the same bits whatever number of threads a product of matrices has."""
    return (block if weights is None else block * weights.astype(np.float64)).sum(axis=1)


def _count(
    table: NDArray[np.int64], digits: NDArray[np.unsignedinteger], weights: NDArray[np.int64] | None
) -> None:
    if digits.size < FEW:  # less than going through the whole table
        np.add.at(table, digits, 1 if weights is None else weights)
        return
    # bincount adds weights in float64, exact up to 2^53.
    counts = np.bincount(digits.astype(np.intp), weights)
    table[: counts.size] += counts if weights is None else counts.astype(np.int64)


def _sortable(values: NDArray, key_type: np.dtype) -> NDArray[np.unsignedinteger]:
    """Unsigned integers in the order of the floats: all bits of negative ones flipped, of others the sign."""
    bits = key_type.itemsize * 8 - 1
    # Shifting the sign down as a signed number fills every bit with it.
    flips = (values.view(f"i{key_type.itemsize}") >> bits).view(key_type)
    flips |= np.array(1 << bits, key_type)
    flips ^= values.view(key_type)
    return flips


def _from_sortable(keys: NDArray[np.unsignedinteger], dtype: np.dtype) -> NDArray:
    sign = np.array(1 << (keys.itemsize * 8 - 1), keys.dtype)
    return np.where(keys & sign, keys ^ sign, ~keys).astype(keys.dtype).view(dtype)
