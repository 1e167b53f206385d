"""openpi's arithmetic for ALOHA, DROID and LIBERO by numbers worked out by hand, and every way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.errors import FormatError, InputError
from pioxide.robots import ROBOTS, RobotSpec, aloha, droid, libero

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
    assert set(read.images) == {c.slot for c in robot.cameras}
    for camera in robot.cameras:
        np.testing.assert_array_equal(read.images[camera.slot], given_[camera.key])
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
    assert list(read.images) == ["base_0_rgb"]
    assert read.images["base_0_rgb"].shape == (4, 5, 3)


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
    assert robot.delta is not None
    assert robot.delta.mask == (True,) * 6 + (False,) + (True,) * 6 + (False,)
    assert aloha(sim=True).delta is None
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
    assert (read.images["base_0_rgb"] == 127).all()  # 0.5 * 255 is cut, not rounded
    assert read.prompt == "open the drawer"
    assert robot.invert_actions(np.zeros((10, 32))).shape == (10, 8)
    assert set(droid(fast_cameras=True).apply(observation(droid())).images) == {"base_0_rgb", "wrist_0_rgb"}


def test_libero_takes_eight_numbers_and_returns_seven():
    robot = libero()
    read = robot.apply(observation(robot))
    assert read.state.shape == (8,)
    np.testing.assert_array_equal(robot.invert_actions(np.arange(32.0)[None]), np.arange(7.0)[None])
    assert robot.delta is None
    assert libero(extra_delta=True).delta.mask == (True,) * 6 + (False,)


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
        ({"prompt": 3}, "prompt: expected a text, got int"),
        ({"actions": np.zeros((5, 13))}, r"shape \(5, 13\), expected \[\.\.\., 14\]"),
    ],
)
def test_wrong_input_names_the_key_what_came_and_what_was_expected(change, says):
    flat = {"images/cam_high": np.zeros((8, 8, 3), np.uint8), "state": np.zeros(14), "prompt": "go"} | change
    with pytest.raises(InputError, match=says):
        aloha().apply({k: v for k, v in flat.items() if v is not None})


def test_nested_and_flat_observations_read_alike_and_do_not_mix():
    picture = rng.integers(0, 256, (8, 8, 3), np.uint8)
    nested = aloha().apply({"images": {"cam_high": picture}, "state": np.zeros(14)})
    flat = aloha().apply({"images/cam_high": picture, "state": np.zeros(14)})
    np.testing.assert_array_equal(nested.images["base_0_rgb"], flat.images["base_0_rgb"])
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
    ):
        path.write_text(broken)
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
        ({"cameras": 3}, "robot"),
    ],
)
def test_a_layout_that_cannot_be_right_is_refused(change, says):
    good = {"name": "mine", "cameras": {"base_0_rgb": "front"}, "state": {"arm": 6}, "action_dim": 6}
    with pytest.raises((InputError, FormatError), match=says):
        RobotSpec.from_mapping(good | change)
