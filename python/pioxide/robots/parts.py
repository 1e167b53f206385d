"""What a robot is made of, to a model: cameras, parts of the state, grippers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pioxide.codec.arrays import floats
from pioxide.errors import InputError

# ALOHA: metres between the fingers at the gripper's two ends, and the linkage between finger and motor.
LINEAR_CLOSED, LINEAR_OPEN = 0.01844, 0.05800
ARM_LENGTH, HORN_RADIUS = 0.036, 0.022
# Radians of the motor that the model's 0 and 1 stand for, and the ends of the leader's command.
ANGLE_LOW, ANGLE_HIGH = 0.5476, 1.6296
COMMAND_LOW, COMMAND_HIGH = -0.6213, 1.4910


@dataclass(frozen=True)
class Camera:
    """One camera of the robot.

    Attributes:
        key: Where an observation holds it, levels joined by "/": "images/cam_high".
        slot: The model's name for the view it was trained on.
        required: Whether an observation without it is an error. An absent camera that is not required is not
            encoded at all, which gives what a masked black image gives.
    """

    key: str
    slot: str
    required: bool = True


@dataclass(frozen=True)
class StatePart:
    """Some consecutive numbers of the state: where an observation holds them, and how many they are."""

    key: str
    size: int


class Gripper(Protocol):
    """How one gripper's numbers map to those the model was trained on."""

    def state(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps the robot's measured value to the model's."""
        ...

    def action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps the robot's commanded value to the model's, as training does."""
        ...

    def invert_action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps the model's value to the robot's command."""
        ...


@dataclass(frozen=True)
class LinearGripper:
    """A gripper whose numbers lie on a line with the model's. Nothing is clipped.

    `LinearGripper((0.085, 0.0))` measures and takes metres of opening for a model whose 0 is open and 1
    closed; `LinearGripper((1, 0))` turns such a model's numbers round.

    Attributes:
        measured: What the robot measures where the model's number is 0, and where it is 1.
        commanded: What it is commanded there; None where it is commanded as it is measured.
    """

    measured: tuple[float, float]
    commanded: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no range.

        Raises:
            InputError: An end is missing or no finite number, or the two are the same.
        """
        for name in ("measured", "commanded"):
            given = getattr(self, name)
            if given is None and name == "commanded":
                continue
            ends = floats(given, f"gripper: {name}: expected two numbers")
            if ends.shape != (2,) or not np.isfinite(ends).all() or ends[0] == ends[1]:
                raise InputError(f"gripper: {name}: expected two different finite numbers, got {given!r}")
            object.__setattr__(self, name, (float(ends[0]), float(ends[1])))

    def state(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Gripper.state`."""
        zero, one = self.measured
        return (x - zero) / (one - zero)

    def action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Gripper.action`."""
        zero, one = self.commanded or self.measured
        return (x - zero) / (one - zero)

    def invert_action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Gripper.invert_action`."""
        zero, one = self.commanded or self.measured
        return zero + x * (one - zero)


@dataclass(frozen=True)
class AlohaGripper:
    """Measured as a fraction of the finger's travel, commanded as a fraction of the leader's angle.

    The model knows neither, but the motor's angle, scaled to [0, 1].
    """

    def state(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps finger travel [0, 1] to the motor's angle, by the law of cosines of the linkage."""
        linear = x * (LINEAR_OPEN - LINEAR_CLOSED) + LINEAR_CLOSED
        sine = (HORN_RADIUS**2 + linear**2 - ARM_LENGTH**2) / (2 * HORN_RADIUS * linear)
        angle = np.arcsin(np.clip(sine, -1.0, 1.0))
        return (angle - ANGLE_LOW) / (ANGLE_HIGH - ANGLE_LOW)

    def action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps the leader's fraction to the model's value."""
        return x * (COMMAND_HIGH - COMMAND_LOW) + COMMAND_LOW - ANGLE_LOW

    def invert_action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps the model's value to the leader's fraction."""
        return (x + ANGLE_LOW - COMMAND_LOW) / (COMMAND_HIGH - COMMAND_LOW)
