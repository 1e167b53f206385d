"""Single arms with a base and a wrist camera: UR5e and SO-101."""

from pioxide.robots.parts import Camera, StatePart
from pioxide.robots.spec import RobotSpec
from pioxide.transforms import make_mask

_CAMERAS = (Camera("base_rgb", "base_0_rgb"), Camera("wrist_rgb", "left_wrist_0_rgb", required=False))


def ur5e(*, delta: bool | None = None) -> RobotSpec:
    """Returns the UR5e: `joints` [6] rad and `gripper` [1] in 0 (open) to 1 (closed), 20 Hz.

    Args:
        delta: Whether the joints' actions are relative to the state; None leaves it to the checkpoint.
    """
    names = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3", "gripper")
    return RobotSpec(
        name="ur5e",
        cameras=_CAMERAS,
        state=(StatePart("joints", 6), StatePart("gripper", 1)),
        action_dim=7,
        hz=20.0,
        delta_mask=None if delta is None else make_mask(6, -1) if delta else (),
        joint_names=names,
        state_names=names,
        joint_units=(*("rad",) * 6, "0..1"),
    )


def so101(*, delta: bool | None = None) -> RobotSpec:
    """Returns the SO-101 with LeRobot's keys: `observation.state` [6], cameras front and wrist, 30 Hz.

    LeRobot gives its joints in degrees or in -100..100, as the robot was configured, so no unit is said here.

    Args:
        delta: Whether the joints' actions are relative to the state; None leaves it to the checkpoint.
    """
    names = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    return RobotSpec(
        name="so101",
        cameras=(
            Camera("observation.images.front", "base_0_rgb"),
            Camera("observation.images.wrist", "left_wrist_0_rgb", required=False),
        ),
        state=(StatePart("observation.state", 6),),
        action_dim=6,
        hz=30.0,
        prompt_key="task",
        actions_key="action",
        delta_mask=None if delta is None else make_mask(5, -1) if delta else (),
        joint_names=names,
        state_names=names,
    )
