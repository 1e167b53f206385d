"""BEAST: action chunks as the control points of B-splines (arXiv 2506.06072).

Each dimension of a chunk is fitted by a clamped B-spline with few control points, by ridge regression; the
control points are quantised in bins between the lowest and highest of the data, and written time by time. A
chunk always has the same number of tokens, and what is decoded is smooth whatever they are.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import floats
from pioxide.codec.numbered import NumberCodec, check_bins, fields_of
from pioxide.errors import InputError

# Share of the data's range that is added at both ends, so that few chunks of other episodes are outside.
MARGIN = 0.1
# The least range of a control point: a joint that never moves has one, too.
LEAST_RANGE = 1e-3
# Keeps the regression well-posed where there are as many control points as actions.
RIDGE = 1e-6


class BeastCodec(NumberCodec):
    """Control points of B-splines, uniformly quantised.

    The basis functions are nowhere negative and add up to 1, so a chunk decodes to within half a bin of the
    spline that fits it best, and never leaves the range of its control points. What the spline can't follow
    (a step, a fast oscillation) is lost, and more control points lose less.

    >>> import numpy as np
    >>> steps = np.linspace(0, np.pi, 20)
    >>> chunks = np.stack([np.stack([np.sin(steps + n), np.cos(steps + n)], axis=1) for n in range(10)])
    >>> codec = BeastCodec.fit(chunks, control_points=6)
    >>> ids, clipped = codec.encode(chunks[3])
    >>> len(ids), clipped
    (12, 0)
    >>> bool(np.abs(codec.decode(ids, horizon=20, dim=2).actions - chunks[3]).max() < 0.02)
    True
    >>> codec.decode(ids, horizon=100, dim=2).actions.shape  # the same movement at five times the rate
    (100, 2)

    Attributes:
        low: [D] the control point that id 0 stands for.
        high: [D] the one that the last id stands for.
        control_points: K.
        degree: Of the polynomials between knots.
    """

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        *,
        control_points: int = 10,
        bins: int = 256,
        degree: int = 3,
        horizon: int | None = None,
    ) -> None:
        """Makes the codec of control points in a range; see `fit`.

        Args:
            low: [D].
            high: [D], above `low`.
            control_points: K, tokens a dimension.
            bins: Ids.
            degree: 0 for steps, 1 for straight lines, 3 for cubic splines; below K.
            horizon: H of the chunks it is for, as a check; None for any of at least K actions.

        Raises:
            InputError: Shapes that don't fit, an empty range, or a degree that K control points don't allow.
        """
        lowest, highest = floats(low, "low: expected [D]"), floats(high, "high: expected [D]")
        if lowest.ndim != 1 or not lowest.size or lowest.shape != highest.shape:
            raise InputError(f"low and high: expected [D] twice, got {lowest.shape} and {highest.shape}")
        if not (np.isfinite(lowest).all() and np.isfinite(highest).all() and (lowest < highest).all()):
            raise InputError("low and high: expected finite numbers, every high above its low")
        super().__init__(bins, horizon, len(lowest))
        check_degree(degree, control_points)
        lowest.flags.writeable = highest.flags.writeable = False
        self.low, self.high = lowest, highest
        self.control_points, self.degree = control_points, degree

    @classmethod
    def fit(
        cls,
        chunks: Sequence[ArrayLike] | NDArray[np.floating],
        *,
        control_points: int = 10,
        degree: int = 3,
        bins: int = 256,
    ) -> BeastCodec:
        """Takes each dimension's range of control points from normalised chunks, and a tenth more.

        All control points of a dimension share its range: what one of them reaches in a few episodes, another
        reaches in the next.

        Args:
            chunks: [N, H, D].
            control_points: K, tokens a dimension; at most H.
            degree: See the class.
            bins: Ids.

        Raises:
            InputError: No chunks, NaN or infinity among them, or more control points than actions.
        """
        expected = "chunks: expected actions [N, H, D]"
        given = floats(chunks, expected)
        if given.ndim != 3 or 0 in given.shape:
            raise InputError(f"{expected}, got shape {given.shape}")
        if not np.isfinite(given).all():
            raise InputError(f"chunk {int(np.argwhere(~np.isfinite(given))[0][0])}: NaN or infinity")
        check_degree(degree, control_points)
        check_bins(bins)
        points = _fitted(given, control_points, degree)
        low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
        step = np.maximum((high - low) * (1 + 2 * MARGIN), LEAST_RANGE) / (bins - 1)
        # The middle is what a bin means, and not the border of two: a joint that stands still would
        # otherwise be rounded up or down by the last bits of the sums.
        low = (low + high) / 2 - bins // 2 * step
        high = low + (bins - 1) * step
        return cls(low, high, control_points=control_points, bins=bins, degree=degree)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BeastCodec:
        """Reads what `save` wrote.

        Raises:
            InputError: A field is missing, unknown, or not what it should be.
        """
        said = fields_of(document, ("control_points", "bins", "degree", "low", "high"))
        made = cls(**said, horizon=document["time_horizon"])
        if document["action_dim"] != made.dim:
            raise InputError(f"action_dim is {document['action_dim']!r}, and its ranges have {made.dim}")
        return made

    @property
    def kind(self) -> str:
        """Returns "beast"."""
        return "beast"

    @property
    def steps(self) -> int:
        """Returns K, tokens a dimension, whatever the horizon."""
        return self.control_points

    @property
    def coefficient_range(self) -> tuple[float, float]:
        """Returns the lowest and highest control point of any dimension."""
        return float(self.low.min()), float(self.high.max())

    @property
    def description(self) -> str:
        """Returns the number of control points, the degree and the bins."""
        return f"BEAST, {self.steps} control points of degree {self.degree}, {self.bins:,} bins"

    def settings(self) -> dict[str, Any]:
        """Returns all that ids depend on."""
        return {
            "control_points": self.control_points,
            "bins": self.bins,
            "degree": self.degree,
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }

    def _quantise(self, chunks: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        nearest = np.rint((self._points(chunks) - self.low) / self._bin)
        outside = (nearest < 0) | (nearest > self.bins - 1)
        return np.clip(nearest, 0, self.bins - 1).astype(np.int64), outside

    def _actions(self, ids: NDArray[np.int64], horizon: int) -> NDArray[np.float64]:
        return basis(horizon, self.steps, self.degree) @ (self.low + ids * self._bin)

    def _overflow(self, chunk: NDArray[np.float64], step: int, dim: int) -> str:
        point = self._points(chunk[None])[0, step, dim]
        return (
            f"control point {step}, dimension {dim}: {point:.6g} has no bin ({self.low[dim]:.6g} to "
            f"{self.high[dim]:.6g} have); are the actions normalised?"
        )

    def _points(self, chunks: NDArray[np.float64]) -> NDArray[np.float64]:
        return _fitted(chunks, self.steps, self.degree)

    @property
    def _bin(self) -> NDArray[np.float64]:
        return (self.high - self.low) / (self.bins - 1)

    def __repr__(self) -> str:
        return (
            f"BeastCodec(control_points={self.steps}, degree={self.degree}, bins={self.bins}, dim={self.dim})"
        )


def check_degree(degree: Any, control_points: Any) -> None:
    """Refuses a degree that so many control points don't allow.

    Raises:
        InputError: There is no control point, or the degree is below 0 or not below their number.
    """
    if isinstance(control_points, bool) or not isinstance(control_points, int) or control_points < 1:
        raise InputError(f"control_points: expected a whole number above 0, got {control_points!r}")
    if isinstance(degree, bool) or not isinstance(degree, int) or not 0 <= degree < control_points:
        raise InputError(
            f"degree {degree!r}: expected 0 to {control_points - 1} with {control_points} control points"
        )


@functools.lru_cache(64)
def basis(horizon: int, control_points: int, degree: int) -> NDArray[np.float64]:
    """Returns [H, K] the clamped uniform B-spline basis at H moments from the first to the last.

    By the recursion of Cox and de Boor. Every row is nowhere negative and adds up to 1; the first and the
    last row are the first and the last control point alone.
    """
    spans = control_points - degree
    knots = np.concatenate([np.zeros(degree), np.linspace(0, 1, spans + 1), np.ones(degree)])
    times = np.linspace(0, 1, horizon) if horizon > 1 else np.zeros(1)
    # Every moment lies in one span; the last one belongs to the span before it.
    span = np.clip(np.searchsorted(knots, times, side="right") - 1, degree, control_points - 1)
    values = (np.arange(control_points + degree)[None] == span[:, None]).astype(np.float64)
    for k in range(1, degree + 1):
        count = control_points + degree - k
        left, right = knots[:count], knots[k : count + k]
        rising = _ratio(times[:, None] - left, right - left)
        left, right = knots[1 : count + 1], knots[k + 1 : count + k + 1]
        falling = _ratio(right - times[:, None], right - left)
        values = rising * values[:, :count] + falling * values[:, 1 : count + 1]
    values.flags.writeable = False
    return values


@functools.lru_cache(64)
def _solver(horizon: int, control_points: int, degree: int) -> NDArray[np.float64]:
    """[K, H] the ridge regression: what chunks are multiplied by to get their control points.

    Shrunk towards a constant and not towards zero, so that a joint that stands still is exact: the rows add
    up to 1.
    """
    if control_points > horizon:
        raise InputError(f"{control_points} control points can't be found in a chunk of {horizon} actions")
    b = basis(horizon, control_points, degree)
    rough = np.diff(np.eye(control_points), axis=0)
    solver = np.linalg.solve(b.T @ b + RIDGE * rough.T @ rough, b.T).astype(np.float64)
    solver.flags.writeable = False
    return solver


def _fitted(chunks: NDArray[np.float64], control_points: int, degree: int) -> NDArray[np.float64]:
    """[N, K, D] control points of chunks [N, H, D]."""
    return _solver(chunks.shape[1], control_points, degree) @ chunks


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """A quotient that is 0 where knots coincide, as the recursion has it."""
    return np.divide(
        above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below > 0
    )
