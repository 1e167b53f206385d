"""Unitree G1 with Inspire hands: two arms of seven joints, two hands of six, 30 Hz."""

from pioxide.robots.parts import Camera, StatePart
from pioxide.robots.spec import RobotSpec
from pioxide.transforms import make_mask

_ARM = ("ShoulderPitch", "ShoulderRoll", "ShoulderYaw", "Elbow", "WristRoll", "WristPitch", "WristYaw")
_HAND = ("HandPinky", "HandRing", "HandMiddle", "HandIndex", "HandThumbBend", "HandThumbRotation")

_NAMES = tuple(f"{side}{joint}" for part in (_ARM, _HAND) for side in ("Left", "Right") for joint in part)


def unitree_g1(*, delta: bool | None = None) -> RobotSpec:
    """Returns the Unitree G1 with LeRobot's observation keys: `observation.state` [26], one head camera.

    Args:
        delta: Whether the arms' actions are relative to the state; the hands' stay absolute. None leaves it
            to the checkpoint.
    """
    return RobotSpec(
        name="unitree-g1",
        cameras=(Camera("observation.images.cam_high", "base_0_rgb"),),
        state=(StatePart("observation.state", 26),),
        action_dim=26,
        hz=30.0,
        prompt_key="task",
        actions_key="action",
        delta_mask=None if delta is None else make_mask(14, -12) if delta else (),
        joint_names=_NAMES,
        state_names=_NAMES,
        joint_units=("rad",) * 26,
    )
