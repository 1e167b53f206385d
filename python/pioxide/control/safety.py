"""The last thing an action passes before it reaches the robot: limits on position, velocity and acceleration.

What leaves `SafetyFilter` is finite and inside the limits, whatever comes in. Its arithmetic is compiled, and
the same code for Python, Rust, C and C++ (`rust/core/src/control/safety.rs`). Here lie what a caller in
Python sees of it, the counting of what was changed, and the sentences for wrong arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide import _core
from pioxide.codec.arrays import floats
from pioxide.errors import InputError

# What a limit is called where its violations are counted.
KINDS = ("not finite", "position", "velocity", "acceleration")


@dataclass(frozen=True)
class Limits:
    """Limits by joint, each [D] or one number for all; None is no limit.

    Attributes:
        low: Lowest position, in the action's units.
        high: Highest position.
        velocity: Largest speed, units a second.
        acceleration: Largest change of velocity, units a second squared.
    """

    low: ArrayLike | None = None
    high: ArrayLike | None = None
    velocity: ArrayLike | None = None
    acceleration: ArrayLike | None = None


@dataclass(frozen=True)
class LimitViolation:
    """One time that a limit changed an action.

    Attributes:
        tick: How many actions had passed the filter before.
        kind: "position" (out of the range, or too fast to brake before its end), "velocity", "acceleration"
            or "not finite".
        joints: Which dimensions were changed.
        wanted: [D] what the policy asked for.
        given: [D] what the robot gets.
    """

    tick: int
    kind: str
    joints: tuple[int, ...]
    wanted: NDArray[np.float64]
    given: NDArray[np.float64]


@dataclass
class SafetyFilter:
    """Turns each action into the nearest one that the limits allow, given the actions before it.

    Speeds are capped so early that the robot can still brake before a position limit, so no joint runs into
    its end and all limits hold at once. Nor does a joint that lags behind run past what was wanted to catch
    up. A joint that starts outside its range is led back into it, never further out, at the speed and
    acceleration that its other limits allow. An action with NaN, infinity or a number beyond 1e60 in it is
    replaced whole: every joint brakes and holds.

    Actions are taken to be sent at an even rate. Where one is left out, `hold` says so.

    >>> filter = SafetyFilter(Limits(low=-1.0, high=1.0, velocity=2.0), dim=2, hz=50.0)
    >>> filter.reset([0.0, 0.0])  # where the joints are now
    >>> filter([0.5, 0.01])  # at most 2 / 50 in one tick
    array([0.04, 0.01])

    Attributes:
        limits: The limits.
        dim: D, numbers in an action.
        hz: Actions a second.
        on_violation: Called for each limit that changes an action, after it was counted. If it raises, no
            action is returned and the filter assumes that the robot did not move.
        counts: How often each kind of limit changed an action.
    """

    limits: Limits
    dim: int
    hz: float
    on_violation: Callable[[LimitViolation], None] | None = None
    counts: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Checks the limits once.

        Raises:
            InputError: A limit has a wrong length, is NaN or negative, or nothing lies between low and high.
        """
        if self.dim < 1 or not 1e-9 <= self.hz <= 1e9:
            raise InputError(
                f"expected at least one joint and a rate above 0, got dim {self.dim} and hz {self.hz}"
            )
        self._filter = _core.SafetyFilter(
            self.dim,
            self.hz,
            self._each(self.limits.low, "low"),
            self._each(self.limits.high, "high"),
            self._each(self.limits.velocity, "velocity"),
            self._each(self.limits.acceleration, "acceleration"),
        )
        self.counts = dict.fromkeys(KINDS, 0)
        self._tick = 0

    def __setattr__(self, name: str, value: object) -> None:
        """Sets an attribute, but not those that were checked and handed over when the filter was made.

        Raises:
            InputError: `limits`, `dim` or `hz` of a filter that is already made.
        """
        if name in ("limits", "dim", "hz") and hasattr(self, "_filter"):
            raise InputError(f"{name}: a filter keeps what it was made with; make another and reset it")
        super().__setattr__(name, value)

    def reset(self, position: ArrayLike) -> None:
        """Starts anew at rest at `position` [D], the measured joints; call it before the first action.

        Raises:
            InputError: Not D finite numbers.
        """
        expected = f"expected {self.dim} finite joint positions to start from"
        start = floats(position, expected)
        try:
            self._filter = self._filter.reset(start)
        except InputError:
            raise InputError(f"{expected}, got {start}") from None

    def hold(self) -> None:
        """A tick in which nothing is sent: the robot stands at the last action, and goes on from rest."""
        self._filter = self._filter.hold()

    def __call__(self, action: ArrayLike) -> NDArray[np.float64]:
        """Returns the action [D] to send.

        Raises:
            InputError: The action is not [D], or nobody said where the robot is.
        """
        expected = f"expected an action of {self.dim} numbers"
        wanted = floats(action, expected)
        if wanted.shape != (self.dim,):
            raise InputError(f"{expected}, got shape {wanted.shape}")
        if not self._filter.placed:
            raise InputError(
                "where is the robot? Call reset with its measured joints before the first action"
            )
        given, after, changed = self._filter.apply(wanted)
        if changed is not None:
            # Until the callbacks have returned nothing is sent.
            self.hold()
            for kind, joints in zip(KINDS, changed, strict=True):
                if joints:
                    self.counts[kind] += 1
                    if self.on_violation is not None:
                        self.on_violation(
                            LimitViolation(self._tick, kind, joints, wanted.copy(), given.copy())
                        )
        self._filter = after
        self._tick += 1
        return given

    def _each(self, value: ArrayLike | None, name: str) -> NDArray[np.float64]:
        """Returns a limit as the compiled filter takes it: one number, D of them, or none for no limit."""
        if value is None:
            return np.zeros(0)
        array = floats(value, f"limits: {name} must be one number or {self.dim}")
        if array.shape not in ((), (self.dim,)) or np.isnan(array).any():
            raise InputError(
                f"limits: {name} must be one number or {self.dim}, none of them NaN, got {value!r}"
            )
        return np.atleast_1d(array)
