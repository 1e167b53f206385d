"""Which dimensions of a dataset are used: by name, glob, number and slice, for state and actions."""

import numpy as np
import pytest

from pioxide.data import EpisodeData, FrameColumns, JointChoice, LeRobotDataset, write_lerobot_v3
from pioxide.data.columns import pick
from pioxide.data.robot import dataset_robot, named_mask, recorded_robot
from pioxide.errors import ContractError, InputError
from pioxide.robots import LinearGripper, RobotSpec, StatePart

NAMES = ["left_elbow", "left_wrist", "waist", "gripper"]


@pytest.mark.parametrize(
    ("terms", "chosen"),
    [
        ([], None),
        (["waist"], (2,)),
        (["gripper", "waist"], (3, 2)),
        (["left_*"], (0, 1)),
        (["0:3"], (0, 1, 2)),
        (["-1:"], (3,)),
        (["2:", "0"], (2, 3, 0)),
        (["0:3", "waist", "1"], (0, 1, 2)),
        (["!waist"], (0, 1, 3)),
        (["!left_*", "!3"], (2,)),
        (["left_*", "waist", "!left_wrist"], (0, 2)),
        (["0:4"], None),
    ],
)
def test_dimensions_are_chosen_in_the_order_that_is_said(terms, chosen):
    assert pick(terms, NAMES, "an action") == chosen


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (["wrist"], "an action has no joint 'wrist'; it has left_elbow, left_wrist, waist, gripper"),
        (["right_*"], r"an action has no joint like 'right_\*'; it has left_elbow"),
        (["!elbow"], "an action has no joint 'elbow'"),
        (["0:5"], "an action has 4 numbers, 0 to 3"),
        (["3:2"], "an action has 4 numbers"),
        (["4"], "an action has 4 numbers"),
        (["waist", "!waist"], "nothing of an action is left"),
        ([""], "an action has no joint ''"),
    ],
)
def test_what_names_no_dimension_is_refused_with_those_that_are_there(terms, message):
    with pytest.raises(InputError, match=message):
        pick(terms, NAMES, "an action")


def test_a_name_that_looks_like_a_number_is_taken_as_a_name():
    assert pick(["1"], ["1", "0"], "an action") == (0,)
    assert pick(["action[1]"], ["action[0]", "action[1]"], "an action") == (1,)


def dataset(root, state_names=("a", "b", "c", "speed"), action_names=("a", "b", "c")):
    rng = np.random.default_rng(0)
    data = [
        EpisodeData(
            {
                "observation.state": rng.normal(size=(9, len(state_names))).astype(np.float32),
                "action": rng.normal(size=(9, len(action_names))).astype(np.float32),
                "hand": rng.normal(size=9).astype(np.float32),
            },
            "wave",
        )
    ]
    names = {"observation.state": list(state_names), "action": list(action_names)}
    return LeRobotDataset.open(write_lerobot_v3(root, data, fps=10, robot_type="arm", names=names))


def test_state_and_actions_are_chosen_together_or_apart(tmp_path):
    opened = dataset(tmp_path / "d")
    both = JointChoice(joints=("c", "a")).of(opened, FrameColumns())
    assert (both.state_dims, both.action_dims) == ((2, 0), (2, 0))
    apart = JointChoice(state_joints=("!speed",), action_joints=("1:",)).of(opened, FrameColumns())
    assert (apart.state_names(opened), apart.action_names(opened)) == (["a", "b", "c"], ["b", "c"])
    episode = opened.read(0, both.all)
    np.testing.assert_array_equal(both.actions(episode), episode.columns["action"][:, [2, 0]])
    np.testing.assert_array_equal(apart.state(episode), episode.columns["observation.state"][:, :3])


def test_what_only_one_of_the_two_has_is_not_dropped_from_it_alone_without_a_word(tmp_path):
    opened = dataset(tmp_path / "d")
    with pytest.raises(InputError, match=r"an action has no joint 'speed'(?s:.*)--state-joints"):
        JointChoice(drop=("speed",)).of(opened, FrameColumns())


def test_several_columns_are_one_row_of_dimensions(tmp_path):
    opened = dataset(tmp_path / "d")
    columns = FrameColumns(("observation.state", "hand"), ("action", "hand"))
    chosen = JointChoice(joints=("hand", "b")).of(opened, columns)
    assert chosen.state_dims == (4, 1)
    robot = dataset_robot(opened, chosen)
    assert robot.joint_names == robot.state_names == ("hand", "b")
    assert [(part.key, part.size) for part in robot.state] == [("hand", 1), ("observation.state", 1)]
    mixed = JointChoice(joints=("a", "hand", "b")).of(opened, columns)
    assert [part.size for part in dataset_robot(opened, mixed).state] == [3]


ARM = RobotSpec(
    name="arm",
    cameras=(),
    state=(StatePart("observation.state", 3),),
    action_dim=3,
    hz=10,
    actions_key="action",
    signs=(1, -1, 1),
    grippers={2: LinearGripper(measured=(0, 2), commanded=(0, 2))},
    delta_mask=(True, True, False),
    joint_names=("a", "b", "c"),
    state_names=("a", "b", "c"),
    joint_units=("rad", "rad", "m"),
)


def test_a_declared_robot_keeps_signs_grippers_and_relative_joints_of_what_is_chosen(tmp_path):
    opened = dataset(tmp_path / "d", state_names=("a", "b", "c"))
    chosen = JointChoice(joints=("c", "b")).of(opened, FrameColumns())
    robot = recorded_robot(ARM, opened, chosen)
    assert robot.joint_names == robot.state_names == ("c", "b")
    assert (robot.signs, list(robot.grippers), robot.delta_mask) == ((1, -1), [0], (False, True))
    assert (robot.joint_units, robot.state_dim, robot.action_dim) == (("m", "rad"), 2, 2)
    episode = opened.read(0, chosen.all)
    np.testing.assert_array_equal(
        robot.apply_actions(chosen.actions(episode)),
        ARM.apply_actions(episode.columns["action"])[:, [2, 1]],
    )


def test_a_robot_as_wide_as_the_choice_is_taken_as_it_is(tmp_path):
    opened = dataset(tmp_path / "d")  # its state has a fourth number
    chosen = JointChoice(state_joints=("!speed",)).of(opened, FrameColumns())
    assert recorded_robot(ARM, opened, chosen) == ARM


def test_a_turned_joint_that_state_and_actions_choose_differently_is_refused(tmp_path):
    opened = dataset(tmp_path / "d", state_names=("a", "b", "c"))
    chosen = JointChoice(state_joints=("a", "c"), action_joints=("a", "b")).of(opened, FrameColumns())
    with pytest.raises(ContractError, match=r"treats joint 1 \(b\) alike in state and action"):
        recorded_robot(ARM, opened, chosen)


def test_relative_joints_are_named():
    assert named_mask(["left_*", "waist"], NAMES) == (True, True, True, False)
    assert named_mask(["!gripper"], NAMES) == (True, True, True, False)
