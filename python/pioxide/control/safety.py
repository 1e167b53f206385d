"""The last thing an action passes before it reaches the robot: limits on position, velocity and acceleration.

What leaves `SafetyFilter` is finite and inside the limits, whatever comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import floats
from pioxide.errors import InputError

# Positions, speeds and accelerations beyond this are no numbers of a robot's. Their squares are still finite.
FAR = 1e60
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
        """Check the limits once.

        Raises:
            InputError: A limit has a wrong length, is NaN or negative, or nothing lies between low and high.
        """
        if self.dim < 1 or not 1e-9 <= self.hz <= 1e9:
            raise InputError(
                f"expected at least one joint and a rate above 0, got dim {self.dim} and hz {self.hz}"
            )
        self._low = self._each(self.limits.low, "low", -FAR)
        self._high = self._each(self.limits.high, "high", FAR)
        self._velocity = self._each(self.limits.velocity, "velocity", FAR)
        self._acceleration = self._each(self.limits.acceleration, "acceleration", FAR)
        for name, values in (("velocity", self._velocity), ("acceleration", self._acceleration)):
            if (bad := values < 1 / FAR).any():
                raise InputError(f"limits: {name} of joint {int(np.argmax(bad))} must be above 0")
        empty = (self._low > self._high) | (self._low == FAR) | (self._high == -FAR)
        if empty.any():
            raise InputError(f"limits: nothing lies between low and high of joint {int(np.argmax(empty))}")
        self.counts = dict.fromkeys(KINDS, 0)
        self._tick = 0
        self._position: NDArray[np.float64] | None = None
        self._target = self._speed = np.zeros(self.dim)

    def reset(self, position: ArrayLike) -> None:
        """Starts anew at rest at `position` [D], the measured joints; call it before the first action.

        Raises:
            InputError: Not D finite numbers.
        """
        expected = f"expected {self.dim} finite joint positions to start from"
        start = floats(position, expected)
        if start.shape != (self.dim,) or not (np.abs(start) <= FAR).all():
            raise InputError(f"{expected}, got {start}")
        self._position = start
        self.hold()

    def hold(self) -> None:
        """A tick in which nothing is sent: the robot stands at the last action, and goes on from rest."""
        if self._position is not None:
            self._target, self._speed = self._position, np.zeros(self.dim)

    def __call__(self, action: ArrayLike) -> NDArray[np.float64]:
        """Returns the action [D] to send.

        Raises:
            InputError: The action is not [D], or nobody said where the robot is.
        """
        expected = f"expected an action of {self.dim} numbers"
        wanted = floats(action, expected)
        if wanted.shape != (self.dim,):
            raise InputError(f"{expected}, got shape {wanted.shape}")
        if self._position is None:
            raise InputError(
                "where is the robot? Call reset with its measured joints before the first action"
            )
        position, dt = self._position, 1 / self.hz
        usable = np.abs(wanted) <= FAR
        if usable.all():
            inside, before = np.clip(wanted, self._low, self._high), self._target
        else:
            inside = before = position
        speed = (inside - position) / dt
        slowed = np.clip(speed, -self._velocity, self._velocity)
        # Under an acceleration limit, catching up with what is wanted must not end beyond it: no faster than
        # it moves itself, plus what braking takes off again on the way to it.
        pace = np.clip((inside - before) / dt, -self._velocity, self._velocity)
        most, least = pace + self._brake(before - position), pace - self._brake(position - before)
        matched = np.where(speed >= 0, np.minimum(slowed, most), np.maximum(slowed, least))
        braked = np.clip(matched, -self._brake(position - self._low), self._brake(self._high - position))
        change = self._acceleration * dt
        eased = np.clip(braked, self._speed - change, self._speed + change)
        given = np.where(eased == speed, inside, position + eased * dt)
        # Rounding alone could lead out of the range; a joint that is outside of it may be on its way back.
        given = np.clip(given, np.minimum(self._low, position), np.maximum(self._high, position))
        # Until the callbacks have returned nothing is sent.
        self.hold()
        self._bite("not finite", ~usable, wanted, given)
        out_of_range = _apart(wanted, inside) & usable.all()
        self._bite("position", out_of_range | _apart(matched * dt, braked * dt), wanted, given)
        self._bite("velocity", _apart(speed * dt, slowed * dt), wanted, given)
        eased_off = _apart(slowed * dt, matched * dt) | _apart(braked * dt, eased * dt)
        self._bite("acceleration", eased_off, wanted, given)
        self._position, self._target, self._speed = given, inside, (given - position) / dt
        self._tick += 1
        return given.copy()

    def _brake(self, ahead: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest speed that, lowered at the limit from the next tick on, ends within `ahead` (0 if < 0).

        Moving at v now and losing a dt each tick covers at most v dt + v v / (2 a), so v is the root
        sqrt((a dt)^2 + 2 a ahead) - a dt, written here so that nothing cancels.
        """
        a, dt = self._acceleration, 1 / self.hz
        double = 2 * a * np.maximum(ahead, 0)
        return double / (np.sqrt((a * dt) ** 2 + double) + a * dt)

    def _bite(
        self, kind: str, changed: NDArray[np.bool_], wanted: NDArray[np.float64], given: NDArray[np.float64]
    ) -> None:
        if not changed.any():
            return
        self.counts[kind] += 1
        if self.on_violation is not None:
            joints = tuple(int(joint) for joint in np.flatnonzero(changed))
            self.on_violation(LimitViolation(self._tick, kind, joints, wanted.copy(), given.copy()))

    def _each(self, value: ArrayLike | None, name: str, missing: float) -> NDArray[np.float64]:
        if value is None:
            return np.full(self.dim, missing)
        array = floats(value, f"limits: {name} must be one number or {self.dim}")
        if array.shape not in ((), (self.dim,)) or np.isnan(array).any():
            raise InputError(
                f"limits: {name} must be one number or {self.dim}, none of them NaN, got {value!r}"
            )
        return np.broadcast_to(np.clip(array, -FAR, FAR), (self.dim,)).copy()


def _apart(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where two positions differ by more than rounding."""
    return ~(np.abs(before - after) <= 1e-9 * np.maximum(1.0, np.abs(after)))
