"""openpi's arithmetic for ALOHA, DROID and LIBERO by numbers worked out by hand, and every way back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.control import Limits, SafetyFilter
from pioxide.errors import FormatError, InputError
from pioxide.robots import (
    ROBOTS,
    AlohaGripper,
    LinearGripper,
    RobotSpec,
    aloha,
    droid,
    libero,
    so101,
)
from pioxide.robots.parts import ANGLE_HIGH, ANGLE_LOW, ARM_LENGTH, HORN_RADIUS, LINEAR_CLOSED, LINEAR_OPEN
from pioxide.transforms import DeltaActions, Pad, Stats, ZScore, make_mask

rng = np.random.default_rng(0)


def observation(robot: RobotSpec) -> dict:
    made: dict = {c.key: rng.integers(0, 256, (8, 10, 3), np.uint8) for c in robot.cameras}
    made |= {part.key: rng.normal(0, 0.5, part.size) for part in robot.state}
    return made | {robot.prompt_key: "pick up the cube"}


@pytest.mark.parametrize("name", ROBOTS)
def test_every_robot_reads_its_own_observation(name):
    robot = ROBOTS[name]()
    given_ = observation(robot)
    read = robot.apply(given_)
    assert set(read.images) == {c.key for c in robot.cameras}
    for camera in robot.cameras:
        np.testing.assert_array_equal(read.images[camera.key], given_[camera.key])
    assert read.state.shape == (robot.state_dim,)
    assert read.prompt == "pick up the cube"
    assert read.actions is None


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", ROBOTS)
def test_actions_come_back_as_they_went(name, seed):
    robot = ROBOTS[name]()
    actions = np.random.default_rng(seed).normal(0, 1, (5, robot.action_dim))
    there = robot.apply_actions(actions)
    padded = np.concatenate([there, np.ones((5, 3))], axis=1)  # a model is often wider than its robot
    np.testing.assert_allclose(robot.invert_actions(padded), actions, atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    ends=st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)).filter(lambda e: abs(e[0] - e[1]) > 1e-3),
    sent=st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)).filter(lambda e: abs(e[0] - e[1]) > 1e-3),
    model=st.floats(-2, 2),
)
def test_a_linear_gripper_comes_back_and_meets_its_ends(ends, sent, model):
    gripper = LinearGripper(ends, sent)
    np.testing.assert_allclose(gripper.state(np.array(ends)), [0, 1])
    np.testing.assert_allclose(gripper.invert_action(np.array([0.0, 1.0])), sent, atol=1e-9)
    there = gripper.invert_action(np.array([model]))
    np.testing.assert_allclose(gripper.action(there), [model], atol=1e-6)
    measured = np.array([ends[0] + model * (ends[1] - ends[0])])
    np.testing.assert_allclose(gripper.state(measured), [model], atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(travel=st.floats(0, 1))
def test_alohas_measured_gripper_comes_back_through_the_linkage(travel):
    angle = float(AlohaGripper().state(np.array(travel))) * (ANGLE_HIGH - ANGLE_LOW) + ANGLE_LOW
    # The other way round the triangle: u^2 - 2 h u sin(angle) + h^2 - a^2 = 0.
    across = HORN_RADIUS * np.sin(angle)
    linear = across + np.sqrt(across**2 + ARM_LENGTH**2 - HORN_RADIUS**2)
    assert (linear - LINEAR_CLOSED) / (LINEAR_OPEN - LINEAR_CLOSED) == pytest.approx(travel, abs=1e-9)


def test_aloha_flips_joints_and_turns_grippers_into_motor_angles():
    robot = aloha()
    state = np.arange(14) / 10
    state[6], state[13] = 0.0, 1.0
    read = robot.apply({"images": {"cam_high": np.zeros((3, 4, 5), np.uint8)}, "state": state})
    # Closed and open finger by the law of cosines: asin((0.022^2 + u^2 - 0.036^2) / (2 * 0.022 * u)), scaled.
    expected = [0, -0.1, -0.2, 0.3, 0.4, 0.5, -1.0798655, 0.7, -0.8, -0.9, 1.0, 1.1, 1.2, 0.9456528]
    np.testing.assert_allclose(read.state, expected, atol=1e-6)
    state[6] = 0.5
    half = robot.apply({"images/cam_high": np.zeros((4, 5, 3), np.uint8), "state": state})
    assert half.state[6] == pytest.approx(-0.1400559, abs=1e-6)
    assert list(read.images) == ["images/cam_high"]
    assert read.images["images/cam_high"].shape == (4, 5, 3)


def test_aloha_actions_out_and_in_are_openpis():
    robot = aloha()
    model = np.ones((2, 32))
    model[:, 6], model[:, 13] = 0.0, 1.0
    out = robot.invert_actions(model)
    assert out.shape == (2, 14)
    # (0 + 0.5476 + 0.6213) / 2.1123 and (1 + 0.5476 + 0.6213) / 2.1123
    np.testing.assert_allclose(
        out[0], [1, -1, -1, 1, 1, 1, 0.5533778, 1, -1, -1, 1, 1, 1, 1.0267954], atol=1e-6
    )
    recorded = np.zeros((1, 14))
    recorded[0, 13] = 1.0
    back = robot.apply_actions(recorded)
    np.testing.assert_allclose(back[0, [6, 13]], [-1.1689, 0.9434], atol=1e-6)
    assert robot.delta_mask is None  # the checkpoint's to say
    assert aloha(delta=True).delta_mask == (True,) * 6 + (False,) + (True,) * 6 + (False,)
    assert aloha(delta=False).delta_mask == ()
    plain = aloha(adapt_to_pi=False)
    np.testing.assert_array_equal(plain.invert_actions(model)[0], model[0, :14])


def test_droid_joins_joints_and_gripper_and_returns_eight():
    robot = droid()
    read = robot.apply(
        {
            "observation/exterior_image_1_left": np.full((6, 7, 3), 0.5, np.float32),
            "observation/wrist_image_left": np.zeros((3, 6, 7), np.uint8),
            "observation/joint_position": np.arange(7.0),
            "observation/gripper_position": 0.25,
            "prompt": b"open the drawer",
        }
    )
    np.testing.assert_array_equal(read.state, [0, 1, 2, 3, 4, 5, 6, 0.25])
    assert (read.images["observation/exterior_image_1_left"] == 127).all()  # 0.5 * 255 is cut, not rounded
    assert read.prompt == "open the drawer"
    assert robot.invert_actions(np.zeros((10, 32))).shape == (10, 8)
    assert {camera.slot for camera in droid(fast_cameras=True).cameras} == {"base_0_rgb", "wrist_0_rgb"}


def test_libero_takes_eight_numbers_and_returns_seven():
    robot = libero()
    read = robot.apply(observation(robot))
    assert read.state.shape == (8,)
    np.testing.assert_array_equal(robot.invert_actions(np.arange(32.0)[None]), np.arange(7.0)[None])
    assert robot.delta_mask is None
    assert libero(extra_delta=True).delta_mask == (True,) * 6 + (False,)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"state": None}, "lacks 'state'"),
        ({"images/cam_high": None}, "lacks 'images/cam_high'"),
        ({"state": np.zeros(13)}, r"state: expected 14 numbers, got shape \(13,\)"),
        ({"state": np.r_[np.zeros(5), np.nan, np.zeros(8)]}, r"state\[5\] is nan"),
        ({"state": "home"}, "state: expected 14 numbers, got str"),
        (
            {"images/cam_high": np.zeros((8, 8), np.uint8)},
            r"images/cam_high: expected an image .* shape \(8, 8\)",
        ),
        ({"images/cam_high": np.full((8, 8, 3), 200.0)}, r"images/cam_high: .* spans \[200, 200\]"),
        ({"images/cam_high": np.full((8, 8, 3), np.nan)}, "images/cam_high: a float image"),
        ({"images/cam_high": np.zeros((8, 8, 3), np.int64)}, "images/cam_high: .* int64"),
        ({"images/cam_middle": np.zeros((8, 8, 3), np.uint8)}, "unknown observation key 'images/cam_middle'"),
        ({"task": "fold"}, "the instruction goes by 'prompt' here"),
        ({"images/cam_high": np.zeros((8, 8, 3), np.float16)}, "images/cam_high: .* float16"),
        ({"images/cam_high": np.zeros((8, 8, 3), bool)}, "images/cam_high: .* bool"),
        ({"images/cam_high": np.float32(1.0000001) * np.ones((8, 8, 3))}, r"spans \[1\.00000012, "),
        (
            {"images/cam_high": np.zeros((3, 8, 3), np.uint8)},
            r"images/cam_high: .* \(3, 8, 3\), which may be",
        ),
        ({"images/cam_high": [[1], [1, 2]]}, "images/cam_high: expected an image .* got list"),
        ({"state": [1j] * 14}, "state: expected 14 numbers, got list of dtype complex128"),
        ({"state": ["1"] * 14}, "state: expected 14 numbers, got list of dtype <U1"),
        ({"state": [10**400] * 14}, "state: expected 14 numbers, got list of dtype object"),
        ({"state": [0.0] * 13 + [None]}, "state: expected 14 numbers, got list of dtype object"),
        ({"state": [0.0] * 13 + [[0.0]]}, "state: expected 14 numbers, got list"),
        ({"state": np.zeros((1, 14))}, r"state: expected 14 numbers, got shape \(1, 14\)"),
        ({"state": 0.0}, r"state: expected 14 numbers, got shape \(\)"),
        ({"state": np.zeros(14, "M8[s]")}, "state: expected 14 numbers, got ndarray of dtype datetime64"),
        ({"prompt": 3}, "prompt: expected a text, got int"),
        ({"prompt": ["go"]}, "prompt: expected a text, got list"),
        ({"prompt": b"\xff"}, "prompt: expected a text in UTF-8"),
        ({"prompt": "\ud800"}, "prompt: expected a text in UTF-8"),
        ({"actions": np.full((5, 14), np.inf)}, r"actions has inf at \[0, 0\], joint 0 \(left_waist\)"),
        ({"actions": "none"}, "actions: expected numbers"),
        ({b"\xff": 1}, "observation key: expected a text in UTF-8"),
        ({7: 1}, "observation key: expected a text, got int"),
        ({"actions": np.zeros((5, 13))}, r"shape \(5, 13\), expected \[\.\.\., 14\]"),
    ],
)
def test_wrong_input_names_the_key_what_came_and_what_was_expected(change, says):
    flat = {"images/cam_high": np.zeros((8, 8, 3), np.uint8), "state": np.zeros(14), "prompt": "go"} | change
    with pytest.raises(InputError, match=says):
        aloha().apply({k: v for k, v in flat.items() if v is not None})


class OnGpu:
    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.parametrize("key", ["images/cam_high", "state", "actions"])
def test_an_array_that_cannot_be_converted_is_named_with_its_reason(key):
    flat = {"images/cam_high": np.zeros((8, 8, 3), np.uint8), "state": np.zeros(14)} | {key: OnGpu()}
    with pytest.raises(InputError, match=f"{key}: expected .*, got OnGpu: can't convert cuda:0"):
        aloha().apply(flat)
    with pytest.raises(InputError, match="observation: expected values by key, got list"):
        aloha().apply([flat])


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(">f4"),
        lambda x: np.stack([x, x], axis=-1)[..., 0],
        lambda x: np.frombuffer(x.astype(np.float32).tobytes(), np.float32).reshape(x.shape),
        lambda x: np.asfortranarray(x),
    ],
)
def test_byte_order_and_layout_in_memory_do_not_matter(convert):
    picture, state = rng.random((6, 7, 3)).astype(np.float32).astype(float), np.arange(14.0)
    plain = aloha().apply({"images/cam_high": picture, "state": state})
    other = aloha().apply({"images/cam_high": convert(picture), "state": convert(state)})
    np.testing.assert_array_equal(other.images["images/cam_high"], plain.images["images/cam_high"])
    np.testing.assert_array_equal(other.state, plain.state)


def test_nested_and_flat_observations_read_alike_and_do_not_mix():
    picture = rng.integers(0, 256, (8, 8, 3), np.uint8)
    nested = aloha().apply({"images": {"cam_high": picture}, "state": np.zeros(14)})
    flat = aloha().apply({"images/cam_high": picture, "state": np.zeros(14)})
    np.testing.assert_array_equal(nested.images["images/cam_high"], flat.images["images/cam_high"])
    with pytest.raises(InputError, match="stands twice"):
        aloha().apply({"images": {"cam_high": picture}, "images/cam_high": picture, "state": np.zeros(14)})


def test_a_robot_of_ones_own_from_plain_values():
    robot = RobotSpec.from_mapping(
        {
            "name": "mine",
            "cameras": {"base_0_rgb": "front", "left_wrist_0_rgb": {"key": "wrist", "required": False}},
            "state": {"arm": 6, "hand": 1},
            "action_dim": 7,
            "signs": [1, -1, 1, 1, 1, 1, 1],
            "delta_mask": [6, -1],
        }
    )
    read = robot.apply({"front": np.zeros((4, 4, 3), np.uint8), "arm": np.arange(6.0), "hand": [1.0]})
    np.testing.assert_array_equal(read.state, [0, -1, 2, 3, 4, 5, 1])
    assert robot.joint(3) == "3"


def test_grippers_of_ones_own_from_plain_values():
    robot = RobotSpec.from_mapping(
        {
            "name": "mine",
            "cameras": {"base_0_rgb": "front"},
            "state": {"arms": 4},
            "action_dim": 4,
            "signs": [1, -1, 1, 1],
            # Dimensions as YAML has them and as JSON does.
            "grippers": {1: {"measured": [0, -0.08]}, "2": {"measured": [0.085, 0], "commanded": [255, 0]}},
        }
    )
    read = robot.apply({"front": np.zeros((4, 4, 3), np.uint8), "arms": [0.5, 0.04, 0.0, 7.0]})
    np.testing.assert_allclose(read.state, [0.5, 0.5, 1.0, 7.0])
    np.testing.assert_allclose(robot.invert_actions([[0.5, 0.5, 0.2, 7.0]]), [[0.5, 0.04, 204.0, 7.0]])
    np.testing.assert_allclose(robot.apply_actions([[0.5, 0.04, 204.0, 7.0]]), [[0.5, 0.5, 0.2, 7.0]])


def test_alohas_mapping_can_be_declared():
    declared = RobotSpec.from_mapping(
        {
            "name": "aloha",
            "cameras": {
                "base_0_rgb": "images/cam_high",
                "left_wrist_0_rgb": {"key": "images/cam_left_wrist", "required": False},
                "right_wrist_0_rgb": {"key": "images/cam_right_wrist", "required": False},
            },
            "state": {"state": 14},
            "action_dim": 14,
            "signs": [1, -1, -1, 1, 1, 1, 1] * 2,
            "grippers": {6: "aloha", 13: "aloha"},
            "delta_mask": [6, -1, 6, -1],
            "joint_names": list(aloha().joint_names),
            "state_names": list(aloha().state_names),
            "joint_units": list(aloha().joint_units),
            "ignored_keys": ["images/cam_low"],
        }
    )
    assert declared == aloha(delta=True)


@pytest.mark.parametrize("name", ROBOTS)
def test_every_robot_survives_being_written_down(name):
    assert RobotSpec.from_mapping(json.loads(json.dumps(ROBOTS[name]().to_mapping()))) == ROBOTS[name]()
    grippers = {1: LinearGripper((0, -0.08)), 2: LinearGripper((0.085, 0), (255, 0))}
    own = replace(so101(delta=True), grippers=grippers, hz=None, signs=(1, -1, 1, 1, 1, 1))
    assert RobotSpec.from_mapping(own.to_mapping()) == own


def test_the_documentations_robot_can_be_read(tmp_path):
    pytest.importorskip("yaml")
    page = (Path(__file__).resolve().parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    path = tmp_path / "two_arms.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    robot = RobotSpec.from_yaml(path)
    assert robot.action_dim == robot.state_dim == len(robot.signs) == len(robot.delta_mask) == 14
    closed = np.zeros(14)
    closed[[6, 13]] = 1.0
    np.testing.assert_allclose(robot.invert_actions([closed])[0, [6, 13]], [0.0, 0.0])
    np.testing.assert_allclose(robot.invert_actions([closed * 0])[0, [6, 13]], [0.085, 255.0])


def test_a_robot_from_yaml(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "robot.yaml"
    path.write_text(
        "name: mine\ncameras: {base_0_rgb: front}\nstate: {arm: 6}\naction_dim: 6\ndelta_mask: [5, -1]\n"
    )
    assert RobotSpec.from_yaml(path).delta_mask == (True,) * 5 + (False,)
    for broken, says in (
        ("- 1\n", "mapping"),
        ("name: [", "robot.yaml"),
        ("name: x\n", "missing"),
        ("joints: 3\n", "unknown field"),
        ("name: x\nname: y\n", "robot.yaml: 'name' stands twice"),
        ("name: x\ncameras: {}\nstate: {a: 1, a: 2}\naction_dim: 1\n", "'a' stands twice"),
        ("name: \xff", "robot.yaml"),
        ("name: 2001-99-99\n", "robot.yaml"),
        ("!!python/object/apply:os.getcwd []", "robot.yaml"),
        ("name: x\ncameras: {}\nstate: {a: 1}\naction_dim: one\n", "robot.yaml: robot: action_dim"),
    ):
        path.write_bytes(broken.encode("latin-1"))
        with pytest.raises(FormatError, match=says):
            RobotSpec.from_yaml(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"signs": [1, 1, 2, 1, 1, 1]}, "signs"),
        ({"signs": [1]}, "signs"),
        ({"delta_mask": [9]}, "delta_mask"),
        ({"action_dim": 0}, "number"),
        ({"cameras": {"base_0_rgb": "a", "left_wrist_0_rgb": "a"}}, "stands twice"),
        ({"cameras": 3}, "cameras: expected a mapping, got 3"),
        ({"cameras": {"base_0_rgb": 3}}, r"cameras\.base_0_rgb: expected a key or a mapping, got 3"),
        ({"cameras": {"base_0_rgb": {"kye": "a"}}}, r"cameras\.base_0_rgb: unknown field 'kye'"),
        ({"cameras": {"base_0_rgb": {"required": True}}}, r"cameras\.base_0_rgb: field 'key' is missing"),
        ({"cameras": {"base_0_rgb": {"key": "a", "required": "no"}}}, r"required: expected true or false"),
        ({"state": {"arm": 6.5}}, r"state\.arm: expected a whole number, got 6\.5"),
        ({"state": {}}, "at least one number"),
        ({"state": {"front": 6}}, "'front' stands twice"),
        ({"prompt_key": "arm"}, "'arm' stands twice"),
        ({"action_dim": 6.0}, r"action_dim: expected a whole number, got 6\.0"),
        ({"hz": 0}, "hz must be above 0"),
        ({"hz": "fast"}, "hz: expected a number, got 'fast'"),
        # One mask of True and False would be read as runs of one True each.
        ({"delta_mask": [True, False]}, r"delta_mask\[0\]: expected a whole number, got True"),
        ({"action_dim": 9, "delta_mask": [9]}, "delta_mask has 9 entries, and only 6"),
        ({"ignored_keys": "cam_low"}, "ignored_keys: expected a list, got 'cam_low'"),
        ({"joint_names": [1]}, r"joint_names\[0\]: expected a text, got 1"),
        ({"grippers": [5]}, r"grippers: expected a mapping, got \[5\]"),
        ({"grippers": {6: "aloha"}}, "no gripper dimension 6"),
        ({"grippers": {"left": "aloha"}}, "grippers: a dimension: expected a whole number, got 'left'"),
        ({"grippers": {5: "franka"}}, r'grippers\.5: expected "aloha" or a mapping'),
        ({"grippers": {5: {}}}, r"grippers\.5: field 'measured' is missing"),
        ({"grippers": {5: {"measured": [0, 1], "flip": True}}}, r"grippers\.5: unknown field 'flip'"),
        ({"grippers": {5: {"measured": 1}}}, r"grippers\.5\.measured: expected a list, got 1"),
        ({"grippers": {5: {"measured": [0, "1"]}}}, r"grippers\.5\.measured: expected a number, got '1'"),
        ({"grippers": {5: {"measured": [0, 0]}}}, r"grippers\.5: measured: expected two different"),
        ({"grippers": {5: {"measured": [0, 1], "commanded": [1]}}}, r"grippers\.5: commanded: expected two"),
        ({"grippers": {5: {"measured": [0, float("nan")]}}}, r"grippers\.5: measured: .* finite"),
    ],
)
def test_a_layout_that_cannot_be_right_is_refused(change, says):
    good = {"name": "mine", "cameras": {"base_0_rgb": "front"}, "state": {"arm": 6}, "action_dim": 6}
    with pytest.raises((InputError, FormatError), match=says):
        RobotSpec.from_mapping(good | change)


def test_a_mapping_of_fields_is_needed():
    with pytest.raises(FormatError, match="expected a mapping of fields, got list"):
        RobotSpec.from_mapping(["name"])


def test_an_observation_that_is_nested_without_end_is_refused():
    deep: dict = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(InputError, match="nested more than 16 levels"):
        aloha().apply(deep)
    deep["a"] = deep
    with pytest.raises(InputError, match="nested more than 16 levels"):
        aloha().apply(deep)


def test_a_robot_with_a_joint_without_unit_is_read_back_as_it_was_written():
    robot = replace(libero(), joint_units=("m", "m", "m", "rad", "rad", "rad", ""))
    assert RobotSpec.from_mapping(robot.to_mapping()) == robot


def test_the_table_of_robots_shows_their_names_alone() -> None:
    assert repr(ROBOTS).startswith("ROBOTS: aloha, ")
    assert "function" not in repr(ROBOTS)


def test_a_masked_array_is_refused_wherever_its_mask_would_be_lost():
    state = np.ma.masked_array(np.arange(6.0), mask=np.arange(6) == 2)
    picture = np.ma.masked_array(np.zeros((4, 5, 3), np.uint8), mask=np.ones((4, 5, 3), np.bool_))
    observation = {camera.key: np.zeros((4, 5, 3), np.uint8) for camera in so101().cameras}
    key = so101().state[0].key
    safety = SafetyFilter(Limits(low=-9, high=9), dim=6, hz=30)
    stats = Stats(mean=np.zeros(6), std=np.ones(6))
    for call in (
        lambda: so101().apply(observation | {key: state}),
        lambda: so101().apply(observation | {so101().cameras[0].key: picture, key: np.zeros(6)}),
        lambda: so101().apply_state(state),
        lambda: safety.reset(state),
        lambda: DeltaActions(make_mask(6)).apply(np.zeros((2, 6)), state),
        lambda: ZScore(stats).apply(state),
        lambda: Pad(6, 8).apply(state),
    ):
        with pytest.raises(InputError, match="masked array, whose mask would be lost"):
            call()
