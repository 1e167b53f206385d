"""`doctor` finds each planted mistake and nothing else, and finds nothing in good pairs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pioxide import demo
from pioxide.contract import UNKNOWN, CameraSlot, FastVocabulary
from pioxide.data import LeRobotDataset
from pioxide.family import Family
from pioxide.report.doctor import Code, Severity
from pioxide.robots import ROBOTS, LinearGripper, aloha, droid, libero, so101, unitree_g1, ur5e
from pioxide.transforms import NormRule, Stats
from support.clinic import contract_for, faults, record, see, write
from support.datasets import rewrite, with_column

ARM = (True,) * 5  # so101's joints without its gripper
BOTH_ARMS = (True,) * 6 + (False,) + (True,) * 6  # aloha's
DEGREES = 180 / np.pi


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """A good SO-101 dataset."""
    return record(tmp_path_factory.mktemp("arm") / "data", so101())


def planted(tmp_path, change, robot=None, **options):
    """A dataset whose numbers were changed before they were written."""
    return record(tmp_path / "planted", robot or so101(), change=change, **options)


def only(examination, *codes: Code) -> str:
    """The text of the only faults there are, which must have these codes."""
    found = faults(examination)
    assert set(found) == set(codes), found
    return " | ".join(found.values())


# Good pairs


@pytest.mark.parametrize("mask", [(), BOTH_ARMS], ids=["absolute", "relative"])
@pytest.mark.parametrize("family", Family)
def test_the_demo_dataset_and_its_own_statistics_are_a_good_pair(tmp_path, family, mask):
    data = demo.dataset_path()
    contract = contract_for(data, aloha(), family=family, mask=mask, horizon=50)
    seen = see(tmp_path, contract, data, robot=aloha(), text_model=demo.text_model_path())
    assert faults(seen) == {}
    assert seen.replayed is not None
    assert seen.replayed.episodes == 12
    assert seen.replayed.frames > 3000


@pytest.mark.parametrize("name", ROBOTS)
def test_a_dataset_of_each_robot_and_its_own_statistics_are_a_good_pair(tmp_path, name):
    robot = ROBOTS[name]()
    data = record(tmp_path / "data", robot)
    for mask in {
        robot.delta_mask or (),
        (True,) * (robot.action_dim - 1) if robot.delta_mask is None else (),
    }:
        if robot.delta_mask in (None, mask):
            assert faults(see(tmp_path / "c", contract_for(data, robot, mask=mask), data, robot=robot)) == {}


@pytest.mark.parametrize("mask", [(), (True,) * 14], ids=["absolute", "relative"])
def test_the_recorded_humanoid_and_its_own_statistics_are_a_good_pair(tmp_path, shared, mask):
    data = shared("data/g1_pick_bottle")
    contract = contract_for(data, unitree_g1(), mask=mask, horizon=50)
    assert faults(see(tmp_path, contract, data, robot=unitree_g1())) == {}


@pytest.mark.parametrize("rule", ["mean_std", "min_max", "quantile10", "identity"])
def test_every_normalisation_has_good_pairs(tmp_path, arm, rule):
    contract = contract_for(
        arm, so101(), action_norm=NormRule.lerobot(rule), state_norm=NormRule.lerobot(rule)
    )
    opened = LeRobotDataset.open(arm)
    columns = {"state": ["observation.state"], "actions": ["action"]}
    whole = {}
    for key, names in columns.items():
        values = np.concatenate([episode.stack(names) for episode in opened.scan(names)])
        low, q10, q90, high = np.quantile(values, [0, 0.1, 0.9, 1], axis=0)
        whole[key] = Stats(values.mean(axis=0), values.std(axis=0), min=low, max=high, q10=q10, q90=q90)
    assert faults(see(tmp_path, replace(contract, norm_stats=whole), arm)) == {}


def test_statistics_of_other_episodes_of_the_same_robot_name_no_mistake(tmp_path):
    """A few episodes against many may reach beyond each other; no joint is swapped, flipped or rescaled."""
    data = demo.dataset_path()
    for mask in ((), BOTH_ARMS):
        for episodes in ([3, 4, 5], [6, 7]):
            contract = contract_for(data, aloha(), mask=mask, horizon=50, episodes=episodes)
            seen = see(tmp_path, contract, data)
            assert set(faults(seen)) <= {Code.OUTSIDE}
            assert seen.worst in (Severity.NOTE, Severity.WARNING)


def test_released_statistics_cover_more_than_one_dataset_and_that_is_fine(tmp_path, arm):
    contract = contract_for(arm, so101())
    wide = {
        key: Stats(one.mean, 3 * one.std, one.q01 - 1.0, one.q99 + 0.5)
        for key, one in contract.norm_stats.items()
    }
    assert faults(see(tmp_path, replace(contract, norm_stats=wide), arm)) == {}


# Planted in the numbers


def test_statistics_of_another_robot(tmp_path):
    data = demo.dataset_path()
    other = contract_for(record(tmp_path / "other", aloha(), seed=3), aloha())
    text = only(see(tmp_path / "c", other, data), Code.OTHER_ROBOT)
    assert "another robot's statistics" in text


@pytest.mark.parametrize("mask", [(), ARM], ids=["absolute", "relative"])
def test_two_swapped_joints(tmp_path, arm, mask):
    order = [0, 3, 2, 1, 4, 5]
    data = planted(tmp_path, lambda s, a: (s[:, order], a[:, order]))
    text = only(see(tmp_path / "c", contract_for(arm, so101(), mask=mask), data), Code.SWAPPED)
    assert "1 (shoulder_lift) and 3 (wrist_flex) are exchanged" in text
    assert "state" in text


def test_three_joints_in_a_round(tmp_path, arm):
    order = [3, 0, 2, 1, 4, 5]
    data = planted(tmp_path, lambda s, a: (s[:, order], a[:, order]))
    text = only(see(tmp_path / "c", contract_for(arm, so101()), data), Code.SWAPPED)
    assert "0 (shoulder_pan) -> " in text


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (DEGREES, "recorded in degrees, the statistics are in radians"),
        (1 / DEGREES, "recorded in radians, the statistics are in degrees"),
    ],
)
@pytest.mark.parametrize("mask", [(), ARM], ids=["absolute", "relative"])
def test_degrees_against_radians(tmp_path, arm, factor, says, mask):
    units = np.array([factor] * 5 + [1.0])
    data = planted(tmp_path, lambda s, a: (s * units, a * units))
    text = only(see(tmp_path / "c", contract_for(arm, so101(), mask=mask), data), Code.DEGREES)
    assert says in text
    assert "gripper" not in text


def test_degrees_in_statistics_from_elsewhere(tmp_path, arm):
    """Not the dataset's own statistics: each joint's range is another one by a tenth or two."""
    contract = contract_for(arm, so101())
    wide = {
        key: Stats(one.mean, one.std, one.q01 - 0.1, one.q99 + 0.1)
        for key, one in contract.norm_stats.items()
    }
    data = planted(tmp_path, lambda s, a: (s * DEGREES, a * DEGREES))
    only(see(tmp_path / "c", replace(contract, norm_stats=wide), data), Code.DEGREES)


def test_a_gripper_in_percent(tmp_path, arm):
    units = np.array([1.0] * 5 + [100.0])
    data = planted(tmp_path, lambda s, a: (s * units, a * units))
    text = only(see(tmp_path / "c", contract_for(arm, so101()), data), Code.SCALE)
    assert "5 (gripper)" in text
    assert "multiplied by 0.01" in text


@pytest.mark.parametrize("mask", [(), ARM], ids=["absolute", "relative"])
def test_a_gripper_turned_round(tmp_path, arm, mask):
    def turned(s, a):
        s[:, 5], a[:, 5] = 1 - s[:, 5], 1 - a[:, 5]
        return s, a

    text = only(
        see(tmp_path / "c", contract_for(arm, so101(), mask=mask), planted(tmp_path, turned)),
        Code.GRIPPER_REVERSED,
    )
    assert "state and actions: 5 (gripper)" in text
    assert "LinearGripper((1, 0))" in text
    mended = replace(so101(), grippers={5: LinearGripper((1, 0))})
    contract = replace(contract_for(arm, so101(), mask=mask), robot=mended)
    assert faults(see(tmp_path / "d", contract, tmp_path / "planted")) == {}


def test_a_sign_flipped(tmp_path, arm):
    signs = np.array([1, 1, -1, 1, 1, 1])
    data = planted(tmp_path, lambda s, a: (s * signs, a * signs))
    text = only(see(tmp_path / "c", contract_for(arm, so101()), data), Code.SIGN_FLIPPED)
    assert "state and actions: 2 (elbow_flex)" in text


def test_aloha_statistics_without_the_signs_that_the_robot_turns(tmp_path):
    data = demo.dataset_path()
    plain = contract_for(data, aloha(adapt_to_pi=False), horizon=50)
    found = faults(see(tmp_path, replace(plain, robot=aloha()), data))
    assert Code.SIGN_FLIPPED in found
    for joint in ("left_shoulder", "left_elbow", "right_shoulder", "right_elbow"):
        assert joint in found[Code.SIGN_FLIPPED]
    assert "adapt_to_pi=False" in found[Code.SIGN_FLIPPED]


def test_a_constant_offset(tmp_path, arm):
    shift = np.array([0, 0, 0, 0.9, 0, 0])
    data = planted(tmp_path, lambda s, a: (s + shift, a + shift))
    text = only(see(tmp_path / "c", contract_for(arm, so101()), data), Code.OFFSET)
    assert "3 (wrist_flex)" in text
    assert "moved by -0." in text


def test_a_joint_wholly_outside(tmp_path, arm):
    def elsewhere(s, a):
        s[:, 1], a[:, 1] = 3 + 0.2 * s[:, 1] ** 2, 3 + 0.2 * a[:, 1] ** 2
        return s, a

    seen = see(tmp_path / "c", contract_for(arm, so101()), planted(tmp_path, elsewhere))
    text = only(seen, Code.OUTSIDE)
    assert "state and actions: 1 (shoulder_lift): up to 100% of the recorded numbers" in text
    assert seen.worst is Severity.PROBLEM
    assert seen.joints[1].action_outside == 1.0
    assert seen.joints[0].action_outside < 0.05


def test_absolute_statistics_under_a_contract_that_says_relative(tmp_path, arm):
    contract = replace(contract_for(arm, so101(), mask=()), delta_mask=ARM)
    text = only(see(tmp_path, contract, arm), Code.RELATIVE_STATISTICS)
    assert "the statistics are of absolute actions; the contract says relative" in text


def test_relative_statistics_under_a_contract_that_says_absolute(tmp_path, arm):
    contract = replace(contract_for(arm, so101(), mask=ARM), delta_mask=())
    text = only(see(tmp_path, contract, arm), Code.RELATIVE_STATISTICS)
    assert "the statistics are of actions relative to the state; the contract says absolute" in text


@pytest.mark.parametrize("mask", [(), ARM], ids=["absolute", "relative"])
def test_recorded_actions_that_are_differences_already(tmp_path, arm, mask):
    def differences(s, a):
        a[:, :5] -= s[:, :5]
        return s, a

    seen = see(tmp_path / "c", contract_for(arm, so101(), mask=mask), planted(tmp_path, differences))
    text = only(seen, Code.RELATIVE_STATISTICS)
    assert mask or "the recorded actions are differences from the state already" in text


def test_what_nobody_says_of_relative_actions_is_read_off_the_frames(tmp_path, arm):
    for mask, says in (
        ((), "statistics are absolute"),
        (ARM, "statistics are relative for 0 (shoulder_pan)"),
    ):
        contract = replace(contract_for(arm, so101(), mask=mask), delta_mask=UNKNOWN)
        seen = see(tmp_path, contract, arm)
        assert set(faults(seen)) == {Code.UNKNOWN}
        assert any(says in one.message for one in seen.found)


def test_a_joint_that_never_moves_is_said_and_is_no_fault(tmp_path):
    def held(s, a):
        s[:, 4], a[:, 4] = 0.5, 0.5
        return s, a

    data = planted(tmp_path, held)
    seen = see(tmp_path / "c", contract_for(data, so101()), data)
    assert faults(seen) == {}
    assert {one.where for one in seen.found if one.code is Code.CONSTANT} == {
        "state: 4 (wrist_roll)",
        "actions: 4 (wrist_roll)",
    }


def test_a_joint_that_moves_where_the_statistics_hold_one_value(tmp_path, arm):
    def held(s, a):
        s[:, 4], a[:, 4] = 0.5, 0.5
        return s, a

    contract = contract_for(planted(tmp_path, held), so101())
    text = only(see(tmp_path / "c", contract, arm), Code.CONSTANT)
    assert "4 (wrist_roll)" in text


def test_a_joint_that_moves_too_seldom_for_quantiles(tmp_path):
    def seldom(s, a):
        s[:, 4], a[:, 4] = 0.5, 0.5
        a[60, 4] = 0.9
        return s, a

    data = planted(tmp_path, seldom)
    contract = contract_for(data, so101(), horizon=1)
    assert Code.RARELY_MOVES in faults(see(tmp_path / "c", contract, data))


def test_numbers_that_are_none(tmp_path, arm):
    data = planted(tmp_path, lambda s, a: (s, a))

    def spoil(table: pa.Table) -> pa.Table:
        rows = table["action"].to_pylist()
        rows[3][2] = float("nan")
        return with_column(table, "action", pa.array(rows, table["action"].type))

    rewrite(next((data / "data").rglob("*.parquet")), spoil)
    seen = see(tmp_path / "c", contract_for(arm, so101()), data)
    assert 'episode 0: "action" frame 3, dimension 2' in only(seen, Code.UNREADABLE)
    assert seen.replayed.episodes == 7


def test_a_clock_that_is_not_the_declared_rate(tmp_path, arm):
    data = planted(tmp_path, lambda s, a: (s, a))

    def slow(table: pa.Table) -> pa.Table:
        return with_column(table, "timestamp", pc.multiply(table["timestamp"], pa.scalar(1.5, pa.float32())))

    rewrite(next((data / "data").rglob("*.parquet")), slow)
    assert "1.5 times" in only(see(tmp_path / "c", contract_for(arm, so101()), data), Code.RATE)


# Planted in what the parts say


def test_cameras_of_other_names(tmp_path, arm):
    slots = (CameraSlot("base_0_rgb", "observation.images.top"), CameraSlot("left_wrist_0_rgb", "side"))
    text = only(see(tmp_path, contract_for(arm, so101(), cameras=slots), arm, robot=so101()), Code.CAMERAS)
    assert "observation.images.top" in text
    assert "observation.images.front" in text


def test_cameras_in_each_others_slots(tmp_path, arm):
    slots = (
        CameraSlot("base_0_rgb", "observation.images.wrist"),
        CameraSlot("left_wrist_0_rgb", "observation.images.front"),
    )
    text = only(
        see(tmp_path, contract_for(arm, so101(), cameras=slots), arm, robot=so101()), Code.CAMERA_ORDER
    )
    assert "observation.images.wrist in base_0_rgb" in text


def test_a_robot_of_another_width(tmp_path, arm):
    seven = record(tmp_path / "seven", ur5e())
    found = faults(see(tmp_path / "c", contract_for(arm, so101()), seven))
    assert "actions: so101 has 6 numbers of actions, seven has 7" in found[Code.WIDTH]
    assert Code.WIDTH in faults(see(tmp_path / "c", contract_for(arm, so101()), robot=ur5e()))


def test_statistics_of_another_width(tmp_path, arm):
    wider = contract_for(record(tmp_path / "seven", ur5e()), ur5e()).norm_stats
    text = only(
        see(tmp_path / "c", replace(contract_for(arm, so101()), norm_stats=wider), arm), Code.STATISTICS_WIDTH
    )
    assert "cover 7 numbers, and the robot has 6" in text


def test_statistics_padded_to_the_models_width_are_said_and_fit(tmp_path, arm):
    contract = contract_for(arm, so101())
    padded = {
        key: Stats(*(np.pad(getattr(one, name), (0, 26)) for name in ("mean", "std", "q01", "q99")))
        for key, one in contract.norm_stats.items()
    }
    seen = see(tmp_path, replace(contract, norm_stats=padded), arm)
    assert faults(seen) == {}
    assert any(one.code is Code.PADDED for one in seen.found)


def test_another_rate(tmp_path):
    data = record(tmp_path / "slow", so101(), fps=15)
    text = only(see(tmp_path / "c", contract_for(data, so101()), data), Code.RATE)
    assert "so101 runs at 30 Hz, slow was recorded at 15 Hz" in text


def test_joint_names_in_another_order(tmp_path):
    names = list(so101().joint_names)
    turned = [names[1], names[0], *names[2:]]
    data = record(tmp_path / "turned", so101(), names={"action": turned, "observation.state": turned})
    text = only(see(tmp_path / "c", contract_for(data, so101()), data), Code.NAMES)
    assert "shoulder_pan is 0 there and 1 in the dataset" in text


def test_a_prompt_that_is_cut(tmp_path, arm):
    contract = contract_for(arm, so101(), text_len=20)
    text = only(see(tmp_path, contract, arm, text_model=demo.text_model_path()), Code.PROMPT_TOO_LONG)
    assert "100.0% of the prompts are cut at 20 tokens" in text


def test_tokens_that_hold_the_state_for_a_checkpoint_that_never_saw_it(tmp_path, arm):
    without = contract_for(arm, so101(), state_in_text=False)
    tokens = write(tmp_path / "tokens", contract_for(arm, so101()))
    text = only(see(tmp_path / "c", without, tokens=Path(tokens)), Code.STATE_IN_PROMPT)
    assert "c has no, " in text
    seen = see(tmp_path / "c", without)
    assert any(one.code is Code.NO_STATE for one in seen.found)


def test_tokens_without_the_state_for_a_checkpoint_that_needs_it(tmp_path, arm):
    tokens = write(tmp_path / "tokens", contract_for(arm, so101(), state_in_text=False))
    only(see(tmp_path / "c", contract_for(arm, so101()), tokens=Path(tokens)), Code.STATE_IN_PROMPT)


def test_tokens_of_another_fast_vocabulary(tmp_path, arm):
    fast = FastVocabulary("a" * 64, 1024, 10.0, -354, 20, 6)
    mine = contract_for(arm, so101(), family=Family.PI0_FAST, fast=fast)
    tokens = write(tmp_path / "tokens", replace(mine, fast=replace(fast, sha256="b" * 64)))
    text = only(see(tmp_path / "c", mine, tokens=Path(tokens)), Code.FAST_VOCABULARY)
    assert "aaaaaaaaaaaa" in text
    assert "bbbbbbbbbbbb" in text


def test_a_fast_vocabulary_of_other_chunks(tmp_path, arm):
    fast = FastVocabulary("a" * 64, 1024, 10.0, -354, 16, 26)
    text = only(
        see(tmp_path / "c", contract_for(arm, so101(), family=Family.PI0_FAST, fast=fast)),
        Code.FAST_VOCABULARY,
    )
    assert "fitted for 16 actions a chunk" in text


def test_tokens_normalised_another_way_of_another_model(tmp_path, arm):
    tokens = write(tmp_path / "tokens", contract_for(arm, so101(), family=Family.PI0))
    found = faults(see(tmp_path / "c", contract_for(arm, so101()), tokens=Path(tokens)))
    assert {Code.FAMILY, Code.NORMALISATION, Code.STATE_IN_PROMPT} <= set(found)
    assert "pi05" in found[Code.FAMILY]
    assert "--model" in found[Code.FAMILY]


def test_a_checkpoint_of_joint_positions_on_droids_velocities(tmp_path):
    robot = droid(joint_positions=True)
    data = record(tmp_path / "data", robot)
    mine = contract_for(data, robot, source="pi05_droid_jointpos_polaris")
    found = faults(see(tmp_path / "c", mine, robot=droid()))
    assert "--robot droid-jointpos" in found[Code.RELATIVE]
    assert faults(see(tmp_path / "c", mine, robot=droid(joint_positions=True))) == {}


def test_libero_images_are_turned_and_that_is_said(tmp_path):
    data = record(tmp_path / "data", libero())
    for named in ({}, {"robot": libero()}):
        seen = see(tmp_path / "c", contract_for(data, libero()), data, **named)
        assert faults(seen) == {}
        assert any(one.code is Code.LIBERO_IMAGES and "[::-1, ::-1]" in one.way_out for one in seen.found)


def test_what_nobody_says_is_named_with_how_to_say_it(tmp_path, arm):
    contract = contract_for(arm, so101(), resize=UNKNOWN, action_horizon=UNKNOWN)
    seen = see(tmp_path, contract, arm)
    assert set(faults(seen)) == {Code.UNKNOWN}
    said = {one.where: one.way_out for one in seen.found if one.code is Code.UNKNOWN}
    assert said.keys() == {"resize", "action_horizon"}
    assert "--action-horizon" in said["action_horizon"]
