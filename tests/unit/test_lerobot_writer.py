"""A contract as LeRobot's files: what they can't say is refused or listed, and relative joints are found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pioxide.contract import UNKNOWN, AbsentCamera, CameraSlot, Contract, PromptStyle, Resize
from pioxide.errors import ContractError
from pioxide.robots import AlohaGripper, Camera, RobotSpec, StatePart
from pioxide.transforms import NormRule, Stats
from pioxide.weights.lerobot_processors import Relative
from pioxide.weights.lerobot_writer import lerobot_files

ARM = RobotSpec("arm", (Camera("front", "base"),), (StatePart("observation.state", 3),), 3)
STATS = Stats(
    mean=np.zeros(3), std=np.ones(3), q01=-np.ones(3), q99=np.ones(3), min=-np.ones(3), max=np.ones(3)
)
CONTRACT = Contract(
    family="pi05",
    robot=ARM,
    cameras=(CameraSlot("base", "front"),),
    absent_camera=AbsentCamera.MASKED,
    delta_mask=(),
    state_norm=NormRule.lerobot("quantiles"),
    action_norm=NormRule.lerobot("quantiles"),
    norm_stats={"state": STATS, "actions": STATS},
    state_in_text=True,
    state_text_dim=None,
    prompt_style=PromptStyle.LEROBOT,
    text_len=200,
    default_prompt=None,
    action_horizon=8,
    model_dim=32,
    num_steps=10,
    play_steps=None,
    image_size=224,
    resize=Resize.INTERPOLATE,
    fast=None,
    max_delay=0,
)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"robot": replace(ARM, signs=(1, -1, 1))}, "robot"),
        ({"robot": replace(ARM, grippers={2: AlohaGripper()})}, "robot"),
        ({"state_in_text": False}, "state_in_text"),
        ({"state_text_dim": 32}, "state_text_dim"),
        ({"state_norm": NormRule.openpi("zscore")}, "state_norm"),
        ({"delta_mask": UNKNOWN}, "delta_mask"),
        ({"norm_stats": UNKNOWN}, "norm_stats"),
    ],
)
def test_what_would_move_the_robot_elsewhere_is_refused(change: dict[str, object], field: str) -> None:
    with pytest.raises(ContractError) as error:
        lerobot_files(replace(CONTRACT, **change))
    assert field in error.value.fields


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resize": Resize.ANTIALIAS}, "filtered"),
        ({"absent_camera": AbsentCamera.BLACK}, "black image"),
        ({"default_prompt": "fold"}, "'fold'"),
        ({"advantage_style": "text"}, 'a newline and "Advantage: positive"'),
        ({"robot": replace(ARM, state=(StatePart("arm", 2), StatePart("hand", 1)))}, "arm, hand"),
        ({"max_delay": 4}, "delay of 4"),
        ({"family": "pi0", "prompt_style": PromptStyle.OPENPI}, "newlines"),
        ({"family": "pi0_fast", "prompt_style": PromptStyle.OPENPI}, "second BOS"),
        ({"family": "pi0_fast", "play_steps": 4}, "4 actions"),
        ({"family": "pi0_fast"}, "FAST tokenizer"),
    ],
)
def test_what_lerobot_has_no_place_for_is_listed(change: dict[str, object], said: str) -> None:
    assert lerobot_files(CONTRACT).left_out == ()
    assert any(said in line for line in lerobot_files(replace(CONTRACT, **change)).left_out)


def test_cameras_stay_in_the_models_order() -> None:
    slots = tuple(CameraSlot(name, name) for name in ("wrist", "base", "a"))
    config = lerobot_files(replace(CONTRACT, cameras=slots)).config
    images = [key for key in config["input_features"] if "images" in key]
    assert images == [f"observation.images.{name}" for name in ("wrist", "base", "a")]


def test_a_slot_that_was_never_filled_is_lerobots_empty_camera() -> None:
    slots = (
        CameraSlot("base", "front"),
        CameraSlot("right", None, required=False),
        CameraSlot("left", "hand"),
    )
    config = lerobot_files(replace(CONTRACT, cameras=slots)).config
    images = [key for key in config["input_features"] if "images" in key]
    assert images == [f"observation.images.{name}" for name in ("base", "left", "empty_camera_0")]
    assert config["empty_cameras"] == 1


def test_a_width_of_zero_stays_openpis() -> None:
    still = Stats(q01=np.full(3, 90.0), q99=np.full(3, 90.0))
    rule = NormRule.openpi("quantile")
    stats = {"state": still, "actions": still}
    files = lerobot_files(replace(CONTRACT, state_norm=rule, action_norm=rule, norm_stats=stats))
    # float32 can't tell 90 from 90.000001; LeRobot then takes its epsilon, which is openpi's.
    assert files.preprocessor["steps"][3]["config"]["eps"] == 1e-6


NAMES = st.lists(st.text("abgr_1 ", min_size=1, max_size=4), min_size=3, max_size=3)


@given(NAMES, st.lists(st.booleans(), min_size=3, max_size=3))
def test_lerobot_finds_the_joints_that_are_relative(names: list[str], mask: list[bool]) -> None:
    robot = replace(ARM, joint_names=tuple(names))
    files = lerobot_files(replace(CONTRACT, robot=robot, delta_mask=tuple(mask)))
    step = next(one for one in files.preprocessor["steps"] if one["registry_name"].startswith("relative"))
    config = step["config"]
    named = None if config["action_names"] is None else tuple(config["action_names"])
    relative = Relative(config["enabled"], tuple(config["exclude_joints"]), named)
    assert config["enabled"] == any(mask) == files.postprocessor["steps"][1]["config"]["enabled"]
    assert not any(mask) or list(relative.mask(3)) == mask
