"""ALOHA: two ViperX arms of six joints and a gripper each, 50 Hz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.robots.spec import Camera, RobotSpec, StatePart
from pioxide.transforms import make_mask

# Metres between the fingers at the gripper's two ends, and the linkage between finger and motor.
LINEAR_CLOSED, LINEAR_OPEN = 0.01844, 0.05800
ARM_LENGTH, HORN_RADIUS = 0.036, 0.022
# Radians of the motor that the model's 0 and 1 stand for, and the ends of the leader's command.
ANGLE_LOW, ANGLE_HIGH = 0.5476, 1.6296
COMMAND_LOW, COMMAND_HIGH = -0.6213, 1.4910

_ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")


@dataclass(frozen=True)
class AlohaGripper:
    """Measured as a fraction of the finger's travel, commanded as a fraction of the leader's angle.

    The model knows neither, but the motor's angle, scaled to [0, 1].
    """

    def state(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Finger travel [0, 1] to the motor's angle, by the law of cosines of the linkage."""
        linear = x * (LINEAR_OPEN - LINEAR_CLOSED) + LINEAR_CLOSED
        sine = (HORN_RADIUS**2 + linear**2 - ARM_LENGTH**2) / (2 * HORN_RADIUS * linear)
        angle = np.arcsin(np.clip(sine, -1.0, 1.0))
        return (angle - ANGLE_LOW) / (ANGLE_HIGH - ANGLE_LOW)

    def action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The leader's fraction to the model's value."""
        return x * (COMMAND_HIGH - COMMAND_LOW) + COMMAND_LOW - ANGLE_LOW

    def invert_action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The model's value to the leader's fraction."""
        return (x + ANGLE_LOW - COMMAND_LOW) / (COMMAND_HIGH - COMMAND_LOW)


def aloha(*, sim: bool = False, adapt_to_pi: bool = True, delta: bool | None = None) -> RobotSpec:
    """ALOHA with openpi's observation keys: `state` [14], `images/cam_high` and two wrist cameras.

    Args:
        sim: gym-aloha instead of the real robot: absolute actions, one camera is enough either way.
        adapt_to_pi: Whether the numbers are brought to those the released weights were trained on: three
            joints of each arm turned round, grippers as motor angles. False for weights trained on ALOHA's
            own numbers.
        delta: Whether the arms' actions are relative; None is what the released weights want (real yes, sim
            no).
    """
    delta = not sim if delta is None else delta
    return RobotSpec(
        name="aloha-sim" if sim else "aloha",
        cameras=(
            Camera("images/cam_high", "base_0_rgb"),
            Camera("images/cam_left_wrist", "left_wrist_0_rgb", required=False),
            Camera("images/cam_right_wrist", "right_wrist_0_rgb", required=False),
        ),
        state=(StatePart("state", 14),),
        action_dim=14,
        hz=50.0,
        signs=(1, -1, -1, 1, 1, 1, 1) * 2 if adapt_to_pi else (),
        grippers={6: AlohaGripper(), 13: AlohaGripper()} if adapt_to_pi else {},
        delta_mask=make_mask(6, -1, 6, -1) if delta else (),
        joint_names=tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _ARM),
        ignored_keys=("images/cam_low",),
    )
