"""DROID: a Franka arm of seven joints and a gripper, 15 Hz."""

from pioxide.robots.parts import Camera, StatePart
from pioxide.robots.spec import RobotSpec
from pioxide.transforms import make_mask


def droid(*, joint_positions: bool = False, fast_cameras: bool = False) -> RobotSpec:
    """Returns DROID with openpi's observation keys.

    Args:
        joint_positions: Whether actions are joint positions (then relative to the state) and not velocities.
        fast_cameras: Whether the cameras take π0-FAST's names, as `pi0_fast_droid` was trained.
    """
    return RobotSpec(
        name="droid-jointpos" if joint_positions else "droid",
        cameras=(
            Camera("observation/exterior_image_1_left", "base_0_rgb"),
            Camera("observation/wrist_image_left", "wrist_0_rgb" if fast_cameras else "left_wrist_0_rgb"),
        ),
        state=(StatePart("observation/joint_position", 7), StatePart("observation/gripper_position", 1)),
        action_dim=8,
        hz=15.0,
        delta_mask=make_mask(7, -1) if joint_positions else (),
        joint_names=(*(f"joint_{i}" for i in range(7)), "gripper"),
        state_names=(*(f"joint_{i}" for i in range(7)), "gripper"),
        joint_units=(*("rad" if joint_positions else "rad/s",) * 7, "0..1"),
    )
