"""The contract: what it refuses, how it survives its file, and what two of them say to each other."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pioxide.contract import (
    UNKNOWN,
    CameraSlot,
    Contract,
    FastVocabulary,
    Memory,
    assign_cameras,
    check_delta_mask,
    differences,
    from_json,
    load_contract,
    merge,
    moved_names,
    refuse_differences,
    save_contract,
    to_json,
)
from pioxide.contract.contract import FIELDS
from pioxide.contract.numbers import Numbers, covering
from pioxide.errors import ContractError, FormatError, InputError
from pioxide.family import Family
from pioxide.robots import ROBOTS, Camera, aloha, droid, so101
from pioxide.transforms import NormMode, NormRule, Stats

rng = np.random.default_rng(7)


def stats(dim: int, **more) -> Stats:
    low = rng.normal(0, 1, dim)
    return Stats(low + 1, np.ones(dim) * 0.3, low, low + 2, **more)


STATS = {"state": stats(6), "actions": stats(6)}


def whole(**changes) -> Contract:
    """A contract in which every field is stated."""
    base = Contract(
        family=Family.PI05,
        robot=so101(),
        cameras=(
            CameraSlot("base_0_rgb", "observation.images.front"),
            CameraSlot("left_wrist_0_rgb", "observation.images.wrist", required=False),
            CameraSlot("right_wrist_0_rgb", None, required=False),
        ),
        absent_camera="masked",
        delta_mask=(True,) * 5 + (False,),
        state_norm=NormRule.openpi("quantile"),
        action_norm=NormRule.lerobot("mean_std"),
        norm_stats=STATS,
        state_in_text=True,
        state_text_dim=None,
        prompt_style="openpi",
        text_len=200,
        default_prompt=None,
        action_horizon=50,
        model_dim=32,
        num_steps=10,
        play_steps=None,
        image_size=224,
        resize="antialias",
        fast=None,
        max_delay=0,
        answer_gap=0,
        subtask_style=None,
        advantage_style=None,
        memory=None,
        source="a test",
    )
    return replace(base, **changes)


def test_a_contract_survives_its_file_exactly(tmp_path):
    contract = whole(fast=FastVocabulary("0" * 64, 1024, 0.1 + 0.2, -354, 16, 6))
    assert load_contract(tmp_path) is None
    save_contract(contract, tmp_path)
    assert load_contract(tmp_path) == contract
    assert load_contract(tmp_path).source == "a test"


@given(st.sets(st.sampled_from(FIELDS)))
@settings(max_examples=50, deadline=None)
def test_unknown_fields_are_listed_by_name_and_stay_unknown(names):
    contract = replace(whole(), **dict.fromkeys(names, UNKNOWN))
    document = json.loads(json.dumps(to_json(contract)))
    assert set(document["unknown"]) == set(contract.unknown) == names
    assert from_json(document) == contract


@pytest.mark.parametrize("name", ROBOTS)
def test_every_robot_survives_in_a_contract(name):
    contract = Contract(robot=ROBOTS[name]())
    assert from_json(json.loads(json.dumps(to_json(contract)))) == contract


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("family"), "'family' must be stated"),
        (lambda d: d["unknown"].append("family"), "'family' must be stated"),
        (lambda d: d.update(version=2), "version 2"),
        (lambda d: d.update(hats=3), "no field 'hats'"),
        (lambda d: d.update(family="pi7"), "family"),
        (lambda d: d.update(family=3), "family"),
        (lambda d: d.update(resize=["antialias"]), "resize"),
        (lambda d: d.update(prompt_style=None), "prompt_style"),
        (lambda d: d.update(model_dim=None), "model_dim"),
        (lambda d: d["cameras"][0].update(key=["front"]), "cameras"),
        (lambda d: d.update(text_len="long"), "text_len"),
        (lambda d: d.update(text_len=True), "text_len"),
        (lambda d: d.update(state_in_text="yes"), "state_in_text"),
        (lambda d: d.update(cameras=[{"slot": 3, "required": True}]), "cameras"),
        (lambda d: d.update(cameras=None), "cameras"),
        (lambda d: d.update(delta_mask=[True]), "delta_mask"),
        (lambda d: d.update(state_norm={"mode": "fancy"}), "state_norm"),
        (lambda d: d["norm_stats"]["state"].update(mean=[None] * 6), "norm_stats"),
        (lambda d: d["norm_stats"]["state"].update(q01=[9.0] * 6), "q01"),
        (lambda d: d["robot"].update(hz=-1), "robot"),
        (lambda d: d.update(unknown="none"), "unknown"),
        (lambda d: d.update(max_delay=-1), "max_delay"),
        (lambda d: d.update(default_prompt=3), "default_prompt"),
        (lambda d: d.update(subtask_style="behind"), "subtask_style"),
        (lambda d: d.update(advantage_style="0.3"), "advantage_style"),
        (lambda d: d.update(memory={"frames": 1, "stride": 1.0, "every": 4}), "memory"),
        (lambda d: d.update(memory={"frames": 6, "stride": 0, "every": 4}), "memory"),
        (lambda d: d.update(memory={"frames": 6, "stride": 1.0}), "memory"),
    ],
)
def test_a_damaged_file_is_refused_with_the_field(change, says):
    document = to_json(whole())
    change(document)
    with pytest.raises(FormatError, match=says):
        from_json(document)


def test_no_file_value_is_anything_but_a_format_error(tmp_path):
    for text in ("", "[]", "[" * 100_000, '{"version": 1}', "\ufeff{}", '{"version": 1, "unknown": [[]]}'):
        (tmp_path / "contract.json").write_text(text, encoding="utf-8")
        with pytest.raises(FormatError):
            load_contract(tmp_path)


@given(
    st.sampled_from(FIELDS),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
)
@settings(max_examples=400, deadline=None)
def test_any_value_in_any_field_is_read_or_a_format_error(name, value):
    document = to_json(whole())
    document[name] = value
    with contextlib.suppress(FormatError):  # and nothing else
        assert isinstance(from_json(document), Contract)


def test_a_contract_does_not_differ_from_itself_or_from_silence():
    contract = whole()
    assert differences(contract, contract) == []
    assert differences(contract, Contract()) == []
    assert merge(contract, Contract()) == contract
    assert merge(Contract(), contract) == contract


DIFFERENT = {
    "family": "pi0",
    "delta_mask": (),
    "absent_camera": "black",
    "state_norm": NormRule.openpi("zscore"),
    "action_norm": NormRule.lerobot("mean_std", 1e-6),
    "state_in_text": False,
    "state_text_dim": 32,
    "prompt_style": "lerobot",
    "text_len": 48,
    "default_prompt": "go",
    "action_horizon": 16,
    "model_dim": 24,
    "num_steps": 5,
    "play_steps": 10,
    "image_size": 448,
    "resize": "interpolate",
    "fast": FastVocabulary("1" * 64, 1024, 10.0, -354),
    "max_delay": 4,
    "answer_gap": 1,
    "subtask_style": "instead",
    "advantage_style": "text",
    "memory": Memory(frames=4, stride=0.5),
    "cameras": (CameraSlot("top"), CameraSlot("side")),
    "robot": aloha(),
    "norm_stats": {"state": stats(6), "actions": stats(6)},
}


def test_a_memory_survives_its_file_and_old_files_have_none():
    contract = whole(memory=Memory(frames=4, stride=0.5, every=2))
    document = json.loads(json.dumps(to_json(contract)))
    assert from_json(document) == contract
    del document["memory"]
    assert from_json(document).memory is None
    assert contract.memory.ages == (1.5, 1.0, 0.5, 0.0)
    for changes in ({"family": "pi0"}, {"absent_camera": "black"}):
        with pytest.raises(InputError, match="memory"):
            replace(contract, **changes)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_that_differs_is_refused_with_both_sides(name):
    ours, theirs = whole(), replace(whole(), **{name: DIFFERENT[name]})
    with pytest.raises(ContractError, match=name) as caught:
        merge(ours, theirs, names=("the checkpoint", "the robot"))
    assert name in caught.value.fields
    assert "the checkpoint has" in str(caught.value)
    assert "the robot has" in str(caught.value)
    refuse_differences(ours, theirs, only=[other for other in FIELDS if other != name])


@pytest.mark.parametrize(
    ("left", "right", "says"),
    [
        (so101(), replace(so101(), state=aloha().state, joint_names=(), state_names=()), "state_dim"),
        (aloha(), aloha(adapt_to_pi=False), "signs"),
        (aloha(), replace(aloha(), grippers={}), "grippers"),
        (droid(), droid(joint_positions=True), "joint_units"),
        (so101(), replace(so101(), hz=50.0), "hz"),
        (so101(), replace(so101(), joint_names=tuple(reversed(so101().joint_names))), "joint_names"),
    ],
)
def test_two_robots_whose_numbers_mean_different_things(left, right, says):
    found = differences(Contract(robot=left), Contract(robot=right))
    assert any(says in difference.field for difference in found), found


def test_absent_names_units_and_rate_of_a_robot_are_filled_in():
    silent = replace(so101(), joint_names=(), state_names=(), hz=None)
    merged = merge(Contract(robot=so101()), Contract(robot=silent))
    assert merged.robot == so101()


def test_joint_names_are_compared_by_their_words():
    ours = ("left_elbow", "left_gripper", "right_elbow")
    assert moved_names(ours, ("kLeftElbow", "left_arm_gripper.pos", "RightElbow")) == []
    assert moved_names(ours, ("right_elbow.pos", "left_gripper.pos", "left_elbow.pos")) == [
        ("left_elbow", 0, 2),
        ("right_elbow", 2, 0),
    ]
    assert moved_names(ours, ("a", "b", "c")) == []
    assert moved_names((), ours) == []


def test_a_delta_between_two_different_joints_is_refused():
    turned = replace(so101(), state_names=tuple(reversed(so101().joint_names)))
    with pytest.raises(ContractError, match=r"action 0 \(shoulder_pan\) relative to state 0 \(gripper\)"):
        check_delta_mask(turned, (True,) * 5)
    check_delta_mask(turned, ())
    with pytest.raises(ContractError, match="covers 7"):
        check_delta_mask(so101(), (True,) * 7)


def test_statistics_of_another_robot_are_refused_and_padding_is_cut():
    contract = whole(norm_stats={"state": stats(8), "actions": stats(7)})
    with pytest.raises(ContractError, match="cover 8 numbers, and the robot has 6"):
        Numbers.of(contract)
    with pytest.raises(ContractError, match="cover 5 numbers"):
        Numbers.of(whole(norm_stats={"state": stats(5), "actions": stats(6)}))
    six = stats(6)
    padded = Stats(*(np.append(getattr(six, n), np.zeros(26)) for n in ("mean", "std", "q01", "q99")))
    assert covering(whole(norm_stats={"state": padded}), "state", 6) == six


def test_unknown_fields_are_asked_for_with_the_way_to_say_them():
    with pytest.raises(ContractError, match="delta_mask: whether actions are relative") as caught:
        Numbers.of(whole(delta_mask=UNKNOWN, action_norm=UNKNOWN))
    assert caught.value.fields == ("delta_mask", "action_norm")


def test_cameras_take_the_slots_that_the_checkpoint_knows_by_their_keys():
    slots = (
        CameraSlot("observation.images.wrist", "observation.images.wrist"),
        CameraSlot("observation.images.front", "observation.images.front"),
    )
    assigned = assign_cameras(slots, so101())
    assert [(c.slot, c.key, c.required) for c in assigned] == [
        ("observation.images.wrist", "observation.images.wrist", False),
        ("observation.images.front", "observation.images.front", True),
    ]


def test_slots_left_open_take_the_robots_declaration():
    slots = tuple(CameraSlot(slot) for slot in Family.PI0.cameras)
    assert [c.key for c in assign_cameras(slots, droid())] == [
        "observation/exterior_image_1_left",
        "observation/wrist_image_left",
        None,
    ]


@pytest.mark.parametrize(
    ("slots", "robot", "chosen", "says"),
    [
        ((CameraSlot("top", "top"), CameraSlot("side", "side")), so101(), {}, "nothing fills the slot 'top'"),
        ((CameraSlot("observation.images.front", "observation.images.front"),), so101(), {}, "has no slot"),
        ((CameraSlot("a"),), so101(), {"b": "observation.images.front"}, "no image slot 'b'"),
        ((CameraSlot("a"),), so101(), {"a": "rear"}, "no camera 'rear'"),
        (
            (CameraSlot("base_0_rgb"), CameraSlot("b", None)),
            replace(so101(), cameras=(*so101().cameras, Camera("x", "b"))),
            {},
            "has no slot",
        ),
    ],
)
def test_cameras_that_do_not_fit_are_refused_with_both_sides(slots, robot, chosen, says):
    with pytest.raises(ContractError, match=says) as caught:
        assign_cameras(slots, robot, chosen)
    assert "was trained with cameras" in str(caught.value)
    assert caught.value.fields == ("cameras",)


def test_a_person_may_say_which_camera_goes_where():
    slots = (CameraSlot("top", "top"), CameraSlot("side", "side"))
    chosen = {"top": "observation.images.front", "side": "observation.images.wrist"}
    assert [c.key for c in assign_cameras(slots, so101(), chosen)] == list(chosen.values())


MODES = [NormRule.openpi("mean_std"), NormRule.openpi("quantiles"), NormRule.openpi("identity")]
MODES += [NormRule.lerobot(mode) for mode in NormMode]


@pytest.mark.parametrize("rule", MODES, ids=str)
@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_the_way_there_and_back_gives_the_recorded_actions(name, rule, relative):
    robot = replace(ROBOTS[name](), delta_mask=None)
    mask = (True,) * (min(robot.state_dim, robot.action_dim) - 1) if relative else ()

    def covered(dim: int) -> Stats:
        low = rng.normal(0, 1, dim)
        return Stats(low, low**2 + 0.1, low, low + 2, min=low, max=low + 3, q10=low, q90=low + 1)

    contract = whole(
        robot=robot,
        delta_mask=mask,
        state_norm=rule,
        action_norm=rule,
        norm_stats={"state": covered(robot.state_dim), "actions": covered(robot.action_dim)},
    )
    numbers = Numbers.of(contract)
    states = rng.uniform(0.1, 0.9, (5, robot.state_dim))
    actions = rng.uniform(0.1, 0.9, (5, 4, robot.action_dim))
    normalised = numbers.apply_actions(actions, states)
    padded = np.concatenate([normalised, np.full((5, 4, 3), 7.0)], axis=-1)
    np.testing.assert_allclose(numbers.invert_actions(padded, states), actions, atol=1e-5)
    # An episode cut into chunks gives the same as chunks one by one.
    steps = rng.uniform(0.1, 0.9, (5, robot.action_dim))
    episode = numbers.episode(states, steps)
    windows = np.lib.stride_tricks.sliding_window_view(episode.steps, 3, axis=0).transpose(0, 2, 1)
    cut = np.stack([steps[i : i + 3] for i in range(3)])
    np.testing.assert_allclose(
        episode.chunks(windows, slice(0, 3)), numbers.apply_actions(cut, states[:3]), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_array_equal(episode.state(slice(None)), numbers.apply_state(states))


def test_states_outside_the_statistics_are_counted():
    contract = whole()
    numbers = Numbers.of(contract)
    low, high = contract.norm_stats["state"].q01, contract.norm_stats["state"].q99
    far = (low + high) / 2
    far[3] += 1e6
    inside, outside = numbers.state_range(numbers.apply_state(np.stack([(low + high) / 2, far])))
    assert inside.dims == ()
    assert outside.dims == (3,)
    assert outside.worst == pytest.approx(1e6, rel=1e-3)


def test_values_that_can_not_be_are_refused():
    for name, value in (
        ("text_len", 0),
        ("family", "pi9"),
        ("resize", "nearest"),
        ("max_delay", -1),
        ("image_size", 2.5),
    ):
        with pytest.raises(InputError, match=name):
            Contract(**{name: value})
    with pytest.raises(InputError, match="stands twice"):
        Contract(cameras=(CameraSlot("a"), CameraSlot("a")))
    assert Contract(delta_mask=(False, False)).delta_mask == ()
    assert Contract(delta_mask=(True, False)) == Contract(delta_mask=(True,))
