"""The last thing an action passes before it reaches the robot: limits on position, velocity and acceleration.

What leaves `SafetyFilter` is finite and inside the limits, whatever comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.errors import InputError


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
class Bite:
    """One time that a limit changed an action.

    Attributes:
        tick: How many actions had passed the filter before.
        kind: "position", "velocity", "acceleration" or "not finite".
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

    Speeds are capped so early that the robot can still brake before a position limit, so under an
    acceleration limit no joint runs into its end. An action with NaN or infinity in it is replaced whole:
    every joint brakes and holds. Where limits contradict each other (a start outside of them), position wins
    over velocity over acceleration.

    Attributes:
        limits: The limits.
        dim: D, numbers in an action.
        hz: Actions a second.
        on_bite: Called for each limit that changes an action, after it was counted.
        counts: How often each kind of limit changed an action.
    """

    limits: Limits
    dim: int
    hz: float
    on_bite: Callable[[Bite], None] | None = None
    counts: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Check the limits once.

        Raises:
            InputError: A limit has a wrong length, is NaN or negative, or low lies above high.
        """
        if self.dim < 1 or not self.hz > 0:
            raise InputError(
                f"expected at least one joint and a rate above 0, got dim {self.dim} and hz {self.hz}"
            )
        self._low = self._each(self.limits.low, "low", -np.inf)
        self._high = self._each(self.limits.high, "high", np.inf)
        self._velocity = self._each(self.limits.velocity, "velocity", np.inf)
        self._acceleration = self._each(self.limits.acceleration, "acceleration", np.inf)
        for name, values in (("velocity", self._velocity), ("acceleration", self._acceleration)):
            if (values <= 0).any():
                raise InputError(f"limits: {name} of joint {int(np.argmax(values <= 0))} must be above 0")
        if (self._low > self._high).any():
            raise InputError(f"limits: low lies above high at joint {int(np.argmax(self._low > self._high))}")
        self.counts = dict.fromkeys(("not finite", "position", "velocity", "acceleration"), 0)
        self._tick = 0
        self._position: NDArray[np.float64] | None = None
        self._speed = np.zeros(self.dim)

    def reset(self, position: ArrayLike) -> None:
        """Starts anew at rest at `position` [D], the measured joints; call it before the first action.

        Raises:
            InputError: Not D finite numbers.
        """
        position = np.array(position, np.float64)
        if position.shape != (self.dim,) or not np.isfinite(position).all():
            raise InputError(f"expected {self.dim} finite joint positions to start from, got {position}")
        self._position, self._speed = position, np.zeros(self.dim)

    def __call__(self, action: ArrayLike) -> NDArray[np.float64]:
        """Returns the action [D] to send.

        Raises:
            InputError: The action is not [D], or is not finite with nothing before it to hold.
        """
        wanted = np.array(action, np.float64)
        if wanted.shape != (self.dim,):
            raise InputError(f"expected an action of {self.dim} numbers, got shape {wanted.shape}")
        finite = np.isfinite(wanted)
        if self._position is None:
            if not finite.all():
                raise InputError(
                    f"the first action is not finite at joint {int(np.argmin(finite))}; nothing to hold"
                )
            start = np.clip(wanted, self._low, self._high)
            self._bite("position", wanted, wanted, start)
            self._tick += 1
            self._position = start
            return start.copy()
        position, dt = self._position, 1 / self.hz
        target = wanted if finite.all() else position
        if not finite.all():
            self._bite("not finite", wanted, np.where(finite, position, np.nan), position)
        step = np.clip(target, self._low, self._high) - position
        inside = position + step
        self._bite("position", wanted, target, inside)
        # Speed from which braking at the limit, one tick from now on, still ends inside the range.
        ahead = np.where(step >= 0, np.maximum(self._high - position, 0), np.maximum(position - self._low, 0))
        brake = self._braking_speed(ahead, dt)
        speed = np.clip(step / dt, -np.minimum(self._velocity, brake), np.minimum(self._velocity, brake))
        slowed = position + speed * dt
        self._bite("velocity", wanted, inside, slowed)
        most = self._acceleration * dt
        eased_speed = np.clip(speed, self._speed - most, self._speed + most)
        eased = np.clip(position + eased_speed * dt, self._low, self._high)
        self._bite("acceleration", wanted, slowed, eased)
        self._speed = (eased - position) / dt
        self._position = eased
        self._tick += 1
        return eased.copy()

    def _braking_speed(self, ahead: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
        # Moving at v now and losing a*dt each tick covers at most v*dt + v*v/(2a): the largest v within
        # `ahead`.
        a = np.where(np.isfinite(self._acceleration), self._acceleration, 1.0)
        with np.errstate(invalid="ignore"):
            root = np.sqrt((a * dt) ** 2 + 2 * a * np.where(np.isfinite(ahead), ahead, 0.0)) - a * dt
        return np.where(np.isfinite(self._acceleration) & np.isfinite(ahead), root, np.inf)

    def _bite(
        self,
        kind: str,
        wanted: NDArray[np.float64],
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> None:
        scale = 1e-9 * np.maximum(1.0, np.abs(after))
        joints = np.flatnonzero(~(np.abs(before - after) <= scale))
        if joints.size == 0:
            return
        self.counts[kind] += 1
        if self.on_bite is not None:
            self.on_bite(Bite(self._tick, kind, tuple(int(j) for j in joints), wanted.copy(), after.copy()))

    def _each(self, value: ArrayLike | None, name: str, missing: float) -> NDArray[np.float64]:
        if value is None:
            return np.full(self.dim, missing)
        array = np.asarray(value, np.float64)
        if array.shape not in ((), (self.dim,)) or np.isnan(array).any():
            raise InputError(
                f"limits: {name} must be one number or {self.dim}, none of them NaN, got {value!r}"
            )
        return np.broadcast_to(array, (self.dim,)).copy()
