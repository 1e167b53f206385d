"""LIBERO: a simulated Franka arm commanded by end-effector deltas, 20 Hz."""

from pioxide.robots.parts import Camera, StatePart
from pioxide.robots.spec import RobotSpec
from pioxide.transforms import make_mask


def libero(*, extra_delta: bool = False) -> RobotSpec:
    """LIBERO with openpi's observation keys.

    Args:
        extra_delta: Whether the actions, deltas already, are made relative to the state once more, as the
            weights `pi0_libero` and `pi0_fast_libero` were trained.
    """
    return RobotSpec(
        name="libero",
        cameras=(
            Camera("observation/image", "base_0_rgb"),
            Camera("observation/wrist_image", "left_wrist_0_rgb"),
        ),
        state=(StatePart("observation/state", 8),),
        action_dim=7,
        hz=20.0,
        delta_mask=make_mask(6, -1) if extra_delta else (),
        joint_names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    )
