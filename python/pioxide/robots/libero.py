"""LIBERO: a simulated Franka arm commanded by end-effector deltas, 20 Hz."""

from pioxide.robots.parts import Camera, StatePart
from pioxide.robots.spec import RobotSpec
from pioxide.transforms import make_mask


def libero(*, extra_delta: bool | None = None) -> RobotSpec:
    """Returns LIBERO with openpi's observation keys.

    Args:
        extra_delta: Whether the actions, deltas already, are made relative to the state once more, as the
            weights `pi0_libero` and `pi0_fast_libero` were trained; None leaves it to the checkpoint.

    openpi's datasets hold LIBERO's images turned by 180 degrees, and its client turns the simulator's before
    it sends them: turn yours too (`image[::-1, ::-1]`).
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
        delta_mask=None if extra_delta is None else make_mask(6, -1) if extra_delta else (),
        joint_names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
        joint_units=(*("0..1",) * 6, "-1..1"),
    )
