"""ALOHA: two ViperX arms of six joints and a gripper each, 50 Hz."""

from pioxide.robots.parts import AlohaGripper, Camera, StatePart
from pioxide.robots.spec import RobotSpec
from pioxide.transforms import make_mask

_ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")

_NAMES = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _ARM)


def aloha(*, sim: bool = False, adapt_to_pi: bool = True, delta: bool | None = None) -> RobotSpec:
    """Returns ALOHA with openpi's observation keys: `state` [14], `images/cam_high` and two wrist cameras.

    Args:
        sim: gym-aloha instead of the real robot; one camera is enough either way.
        adapt_to_pi: Whether the numbers are brought to those the released weights were trained on: three
            joints of each arm turned round, grippers as motor angles. False for weights trained on ALOHA's
            own numbers.
        delta: Whether the arms' actions are relative to the state; None leaves it to the checkpoint.
    """
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
        delta_mask=None if delta is None else make_mask(6, -1, 6, -1) if delta else (),
        joint_names=_NAMES,
        state_names=_NAMES,
        joint_units=(*("rad",) * 6, "0..1") * 2,
        ignored_keys=("images/cam_low",),
    )
