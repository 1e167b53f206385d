"""Every checkpoint says its contract: from our own file, LeRobot's files, or a released checkpoint's name."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pioxide.contract import UNKNOWN, AbsentCamera, CameraSlot, Contract, PromptStyle, Resize, save_contract
from pioxide.errors import CheckpointError, InputError
from pioxide.family import Family
from pioxide.robots import droid
from pioxide.transforms import NormRule, Stats, make_mask, save_norm_stats
from pioxide.weights import contract_of, load
from pioxide.weights.released import RELEASED, released
from support.checkpoints import HEADS, SMALL, random_arrays, torch_tensors, write_orbax, write_safetensors
from support.lerobot_files import JOINTS, statistics, step, write_lerobot


def contract(path, asset_id=None) -> Contract:
    with load(path, heads=HEADS) as checkpoint:
        return contract_of(checkpoint, asset_id)


def relative(files) -> None:
    files["config"]["use_relative_actions"] = True
    step(files["before"], "relative_actions_processor")["config"]["enabled"] = True
    step(files["after"], "absolute_actions_processor")["config"]["enabled"] = True


def test_lerobots_files_are_a_whole_contract(tmp_path):
    found = contract(write_lerobot(tmp_path))
    assert found.unknown == ("advantage_style",)  # what stood in its instructions, nobody wrote down
    robot = found.robot
    assert (robot.state_dim, robot.action_dim, robot.hz, robot.prompt_key) == (6, 6, None, "task")
    assert (robot.joint_names, robot.signs, robot.grippers) == (tuple(JOINTS), (), {})
    assert found.cameras == (
        CameraSlot("observation.images.top", "observation.images.top"),
        CameraSlot("observation.images.side", "observation.images.side"),
    )
    assert found.state_norm == found.action_norm == NormRule.lerobot("quantiles")
    assert found.norm_stats["state"].q01[0] == -4.0
    assert found.norm_stats["actions"].q01[0] == -3.0
    assert (found.delta_mask, found.state_in_text, found.state_text_dim) == ((), True, None)
    assert (found.prompt_style, found.text_len, found.resize) == (
        PromptStyle.LEROBOT,
        60,
        Resize.INTERPOLATE,
    )
    assert (found.action_horizon, found.play_steps, found.num_steps, found.model_dim) == (8, 5, 4, 6)
    assert (found.image_size, found.absent_camera, found.max_delay) == (28, AbsentCamera.MASKED, 0)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("mode", ["IDENTITY", "MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10"])
def test_every_normalisation_is_the_files(tmp_path, kind, mode):
    def eps(files):
        step(files["after"], "unnormalizer_processor")["config"]["eps"] = 1e-3
        step(files["before"], "normalizer_processor")["config"]["eps"] = 1e-3

    found = contract(write_lerobot(tmp_path, kind, mode=mode, change=eps))
    assert found.state_norm == found.action_norm == NormRule.lerobot(mode.lower(), 1e-3)


def test_a_feature_without_statistics_passes_as_lerobot_lets_it(tmp_path):
    only = {name: v for name, v in statistics().items() if name.startswith("action")}
    path = write_lerobot(tmp_path, stats=only)
    with load(path, heads=HEADS) as checkpoint:
        assert checkpoint.contract.state_norm.mode == "identity"
        assert checkpoint.contract.action_norm == NormRule.lerobot("quantiles")
        assert "state pass as they are" in checkpoint.said.notes[0]


def test_relative_actions_are_those_that_no_excluded_word_names(tmp_path):
    found = contract(write_lerobot(tmp_path, change=relative))
    assert found.delta_mask == make_mask(5)

    def unnamed(files):
        relative(files)
        files["config"]["action_feature_names"] = None
        step(files["before"], "relative_actions_processor")["config"]["action_names"] = None

    assert contract(write_lerobot(tmp_path, change=unnamed)).delta_mask == make_mask(6)


def test_cameras_are_in_the_files_order_under_the_robots_keys(tmp_path):
    def renamed(files):
        inputs = files["config"]["input_features"]
        files["config"]["input_features"] = {
            "observation.images.side": inputs["observation.images.side"],
            "observation.state": inputs["observation.state"],
            "observation.images.top": inputs["observation.images.top"],
            "observation.images.empty_camera_0": inputs["observation.images.top"],
        }
        files["config"]["empty_cameras"] = 1
        rename = step(files["before"], "rename_observations_processor")
        rename["config"]["rename_map"] = {"cam_high": "observation.images.top"}

    found = contract(write_lerobot(tmp_path, change=renamed))
    assert found.cameras == (
        CameraSlot("observation.images.side", "observation.images.side"),
        CameraSlot("observation.images.top", "cam_high"),
        CameraSlot("observation.images.empty_camera_0", None, required=False),
    )
    assert [camera.key for camera in found.robot.cameras] == ["observation.images.side", "cam_high"]


def set_field(name, value):
    def change(files):
        files["config"][name] = value

    return change


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_visual_memory", True),
        ("use_proprioceptive_memory", True),
        ("min_period", 0.01),
        ("max_period", 2.0),
        ("n_obs_steps", 2),
        ("fast_skip_tokens", 64),
        ("temperature", 0.5),
        ("resize_imgs_with_padding", [224, 224]),
        ("something_new", 1),
        ("image_resolution", [28, 42]),
        ("chunk_size", 0),
        ("n_action_steps", 9),
        ("normalization_mapping", {"STATE": "ROBUST"}),
        ("type", "smolvla"),
    ],
)
def test_fields_that_cannot_be_obeyed_are_refused_by_name(tmp_path, name, value):
    path = write_lerobot(tmp_path, change=set_field(name, value))
    with pytest.raises(CheckpointError, match=f"{name}|ROBUST|smolvla"):
        contract(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_resolution", [42, 42]),
        ("max_action_dim", 32),
        ("tokenizer_max_length", 48),
        ("use_relative_actions", True),
        ("normalization_mapping", {"STATE": "MEAN_STD", "ACTION": "QUANTILES"}),
        ("output_features", {"action": {"type": "ACTION", "shape": [5]}}),
    ],
)
def test_files_that_disagree_are_refused_with_both_sides(tmp_path, name, value):
    path = write_lerobot(tmp_path, change=set_field(name, value))
    with pytest.raises(CheckpointError, match=f"{name}|shape of action"):
        contract(path)


def test_the_delay_of_training_is_in_the_contract(tmp_path):
    assert contract(write_lerobot(tmp_path, change=set_field("rtc_training_max_delay", 4))).max_delay == 4


def unknown_step(files):
    files["before"]["steps"].insert(1, {"registry_name": "mirror_processor", "config": {}})


def twice(files):
    files["after"]["steps"].append(files["after"]["steps"][0])


def images(files):
    for side, name in (("before", "normalizer_processor"), ("after", "unnormalizer_processor")):
        step(files[side], name)["config"]["norm_map"]["VISUAL"] = "MEAN_STD"


def one_sided(files):
    step(files["after"], "absolute_actions_processor")["config"]["enabled"] = True


def late(files):
    steps = files["before"]["steps"]
    steps.append(steps.pop(3))


def no_prompt(files):
    del files["before"]["steps"][4]


def no_postprocessor(files):
    del files["after"]


def left_padding(files):
    step(files["before"], "tokenizer_processor")["config"]["padding_side"] = "left"


def both_into_one(files):
    rename = step(files["before"], "rename_observations_processor")["config"]
    rename["rename_map"] = {"a": "observation.images.top", "b": "observation.images.top"}


def listed_features(files):
    step(files["before"], "normalizer_processor")["config"]["features"] = ["action"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_step, "mirror_processor"),
        (twice, "stands twice"),
        (images, "images are normalised"),
        (one_sided, "adds it"),
        (late, "normalizer_processor comes after pi05_prepare"),
        (no_prompt, "has no step pi05_prepare"),
        (no_postprocessor, "no policy_postprocessor.json"),
        (left_padding, "padding_side"),
        (both_into_one, "a and b both become"),
        (listed_features, "features: expected an object"),
    ],
)
def test_processors_that_cannot_be_followed_are_refused(tmp_path, change, message):
    stats = statistics() | {"observation.images.top.mean": np.zeros((3, 1, 1), np.float32)}
    path = write_lerobot(tmp_path, change=change, stats=stats)
    with pytest.raises(CheckpointError, match=message):
        contract(path)


@pytest.mark.parametrize(
    ("training", "expected"), [(None, UNKNOWN), ({}, 32), ({"cudnn_deterministic": False}, None)]
)
def test_what_tells_whether_the_state_was_padded_in_the_prompt(tmp_path, training, expected):
    def old(files):
        del files["config"]["use_relative_actions"]
        files["config"]["max_state_dim"] = 32

    write_lerobot(tmp_path, change=old)
    if training is not None:
        (tmp_path / "train_config.json").write_text(json.dumps(training))
    assert contract(tmp_path).state_text_dim == expected


def test_a_base_model_of_lerobots_is_of_no_robot(tmp_path):
    def base(files):
        for side, name in (("before", "normalizer_processor"), ("after", "unnormalizer_processor")):
            found = step(files[side], name)
            del found["state_file"]
            found["config"]["features"] = {}

    found = contract(write_lerobot(tmp_path, change=base))
    assert {"robot", "delta_mask", "state_norm", "action_norm", "norm_stats"} <= set(found.unknown)
    assert [camera.key for camera in found.cameras] == [UNKNOWN, UNKNOWN]


def test_a_config_without_features_says_nothing_of_a_robot(tmp_path):
    write_safetensors(torch_tensors(random_arrays(SMALL["pi05"].shapes()), "lerobot"), tmp_path)
    config = {"type": "pi05", "chunk_size": 9, "max_action_dim": 6, "image_resolution": [28, 28]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = contract(tmp_path)
    assert found.action_horizon == 9
    assert {"robot", "delta_mask", "state_norm"} <= set(found.unknown)


def test_our_own_file_wins(tmp_path):
    said = replace(contract(write_lerobot(tmp_path)), text_len=77, delta_mask=make_mask(2))
    save_contract(said, tmp_path)
    assert contract(tmp_path) == said
    save_contract(replace(said, model_dim=7), tmp_path)
    with pytest.raises(CheckpointError, match="model_dim is 7, and the tensors beside it have 6"):
        contract(tmp_path)


@pytest.mark.parametrize("kind", SMALL)
def test_what_openpis_files_do_not_say_is_unknown(tmp_path, kind):
    write_orbax(random_arrays(SMALL[kind].shapes()), tmp_path / "mine" / "params")
    found, family = contract(tmp_path / "mine"), Family(kind)
    assert {"robot", "delta_mask", "action_horizon", "text_len", "norm_stats"} <= set(found.unknown)
    assert found.state_in_text == {"pi0": False, "pi05": UNKNOWN, "pi0_fast": True}[kind]
    assert found.state_norm == NormRule.openpi("zscore" if kind == "pi0" else "quantile")
    assert (found.prompt_style, found.resize, found.max_delay) == ("openpi", "antialias", 0)
    assert found.absent_camera == ("black" if kind == "pi0_fast" else "masked")
    # openpi's π0-FAST takes whatever names its robot's transform gives its cameras.
    slots = tuple(CameraSlot(slot) for slot in family.cameras)
    assert found.cameras == (slots if family.is_flow else UNKNOWN)
    assert found.num_steps == (None if kind == "pi0_fast" else 10)


def test_a_released_checkpoint_is_known_by_name_unless_its_statistics_are_others(tmp_path):
    stats = Stats([0.0] * 8, [1.0] * 8)
    for asset_id, known in (("droid", True), ("my_robot", False)):
        path = tmp_path / asset_id / "pi05_droid"
        write_orbax(random_arrays(SMALL["pi05"].shapes()), path / "params")
        save_norm_stats(path / "assets" / asset_id, {"state": stats, "actions": stats})
        found = contract(path)
        assert (found.robot == droid()) is known
        assert (found.action_horizon == 15) is known


def test_a_released_name_with_another_model_in_it_is_none(tmp_path):
    assert released(tmp_path / "pi05_libero", Family.PI0) is None


def test_the_table_is_openpis():
    said = {name: row.contract() for name, row in RELEASED.items()}
    masks = {name: c.delta_mask for name, c in said.items() if c.delta_mask}
    assert masks == {
        "pi0_libero": make_mask(6),
        "pi0_fast_libero": make_mask(6),
        "pi0_aloha_towel": make_mask(6, -1, 6),
        "pi0_aloha_tupperware": make_mask(6, -1, 6),
        "pi0_aloha_pen_uncap": make_mask(6, -1, 6),
        **{name: make_mask(7) for name in said if "polaris" in name},
    }
    assert {name for name, c in said.items() if c.robot is UNKNOWN} == {
        "pi0_base",
        "pi05_base",
        "pi0_fast_base",
    }
    assert said["pi05_libero"].state_in_text is False
    assert said["pi05_droid_jointpos_polaris"].robot == droid(joint_positions=True)
    fast = said["pi0_fast_droid"]
    assert [(c.slot, c.key is None) for c in fast.cameras] == [
        ("base_0_rgb", False),
        ("base_1_rgb", True),
        ("wrist_0_rgb", False),
    ]
    assert said["pi0_aloha_towel"].default_prompt == "fold the towel"
    assert said["pi05_droid"].cameras[2] == CameraSlot("right_wrist_0_rgb", None, required=False)


def test_statistics_are_chosen_by_the_last_part_of_their_name(tmp_path):
    write_orbax(random_arrays(SMALL["pi05"].shapes()), tmp_path / "params")
    for i, asset_id in enumerate(("lab/arm", "lab/hand", "other/hand")):
        save_norm_stats(tmp_path / "assets" / asset_id, {"state": Stats([float(i)], [1.0])})
    assert contract(tmp_path).norm_stats is UNKNOWN
    assert contract(tmp_path, "arm").norm_stats["state"].mean[0] == 0
    assert contract(tmp_path, "lab/hand").norm_stats["state"].mean[0] == 1
    with pytest.raises(InputError, match="'lab/hand' and 'other/hand'"):
        contract(tmp_path, "hand")


def test_statistics_of_quantiles_alone_or_of_moments_alone_are_read(tmp_path):
    write_orbax(random_arrays(SMALL["pi05"].shapes()), tmp_path / "params")
    written = {"state": Stats(q01=[0.0], q99=[1.0]), "actions": Stats([0.5], [0.25])}
    save_norm_stats(tmp_path / "assets" / "arm", written)
    assert contract(tmp_path).norm_stats == written
