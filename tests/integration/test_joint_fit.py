"""Several datasets fitted together: as one that holds them all, and each served with its own statistics."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pioxide.cli.main import main
from pioxide.codec import FastCodec
from pioxide.data import EpisodeData, FrameColumns, LeRobotDataset, compute_stats, write_lerobot_v3
from pioxide.data.stats import Reading, StatsSource, joint_stats
from pioxide.errors import ContractError, DatasetError, FormatError, InputError, SettingsError
from pioxide.report import inspect_directory
from pioxide.shards import (
    FitResult,
    FitSettings,
    JobRequest,
    JointMember,
    JointResult,
    JointSettings,
    TokenDataset,
    fit,
    fit_jointly,
    resolve,
    tokenize_dataset,
)
from support.datasets import rewrite, with_column
from support.text_model import write_text_model

SETTINGS = FitSettings(horizon=6, vocab_size=300, held_out=0.0)
ARM, HAND = ("waist", "elbow", "gripper"), ("thumb", "index")


def arrays(joints: int, seed: int, lengths=(25, 18, 30), dtype=np.float32):
    rng = np.random.default_rng(seed)
    states = [np.cumsum(rng.normal(size=(n, joints)), axis=0).astype(dtype) for n in lengths]
    return [(s, (s + rng.normal(size=s.shape) * 0.1).astype(dtype)) for s in states]


def write(root: Path, names, data, *, robot="arm", fps=10) -> Path:
    episodes = [EpisodeData({"observation.state": s, "action": a}, "wave") for s, a in data]
    both = {"observation.state": list(names), "action": list(names)}
    return write_lerobot_v3(root, episodes, fps=fps, robot_type=robot, names=both)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Two datasets of an arm, one of a hand, and one that holds both of the arm's."""
    root = tmp_path_factory.mktemp("joint")
    one, two = arrays(3, 1), arrays(3, 2, (40, 12))
    write(root / "one", ARM, one)
    write(root / "two", ARM, two)
    write(root / "hand", HAND, arrays(2, 3), robot="hand")
    write(root / "both", ARM, one + two)
    write(root / "repeated", ARM, one + two + two)
    write_text_model(root / "text.model")
    fit_jointly([root / "one", root / "two", root / "hand"], root / "fitted", SETTINGS)
    return root


def request(world: Path, dataset: str, fitted: Path, **changes) -> JobRequest:
    model = changes.pop("model", "pi0_fast")
    return JobRequest(world / dataset, model, world / "text.model", fitted, on_overflow="clip", **changes)


@pytest.mark.parametrize("mask", [(), (True, False, True)], ids=["absolute", "relative"])
def test_datasets_of_one_robot_are_fitted_as_one_that_holds_them(world, tmp_path, mask):
    settings = replace(SETTINGS, relative=("waist", "gripper") if mask else ())
    made = fit_jointly([world / "one", world / "two"], tmp_path / "joint", settings)
    whole = fit(world / "both", tmp_path / "whole", settings)
    for member in made.members.values():
        assert member.contract.norm_stats == whole.contract.norm_stats
        assert member.contract.fast == whole.contract.fast
        assert member.contract.robot == whole.contract.robot
        assert member.contract.delta_mask == whole.contract.delta_mask == mask
    assert made.shared == [["one", "two"]]
    assert made.result["chunks"] == whole.result["chunks"]
    assert made.result["tokens"]["mean"] == pytest.approx(whole.result["tokens"]["mean"], rel=1e-12)
    assert made.result["error"]["rms"] == pytest.approx(whole.result["error"]["rms"], rel=1e-12)
    assert sum(m.fitted_chunks for m in made.members.values()) == whole.fitted_chunks


@pytest.mark.parametrize("weight", [(1, 2), (0.5, 1), (1.5, 3)])
def test_a_weight_is_as_often_as_a_dataset_is_repeated(world, tmp_path, weight):
    joint = JointSettings(weight=weight)
    settings = replace(SETTINGS, relative=("waist",))
    made = fit_jointly([world / "one", world / "two"], tmp_path / "joint", settings, joint)
    whole = fit(world / "repeated", tmp_path / "whole", settings)
    found, expected = made.members["one"].contract, whole.contract
    assert found.fast == expected.fast
    for key, stats in expected.norm_stats.items():
        for name in ("q01", "q99", "q10", "q90", "min", "max"):
            np.testing.assert_array_equal(getattr(found.norm_stats[key], name), getattr(stats, name))
        for name in ("mean", "std"):
            np.testing.assert_allclose(
                getattr(found.norm_stats[key], name), getattr(stats, name), rtol=1e-12, atol=1e-14
            )


def test_each_robot_has_its_own_statistics_and_all_have_one_vocabulary(world):
    made = JointResult.load(world / "fitted")
    assert made.shared == [["one", "two"], ["hand"]]
    assert len({member.contract.fast.sha256 for member in made.members.values()}) == 1
    assert [m.contract.fast.action_dim for m in made.members.values()] == [3, 3, 2]
    assert FastCodec.load(world / "fitted").fingerprint == made.members["hand"].contract.fast.sha256
    alone = compute_stats(LeRobotDataset.open(world / "hand"), horizon=6)
    assert made.members["hand"].contract.norm_stats == alone
    assert all(m.result["chunks"] > 0 and len(m.result["joints"]) for m in made.members.values())
    assert made.members["hand"].result["naive_tokens"] == 12


def test_statistics_can_be_each_datasets_or_all_of_them(world, tmp_path):
    paths = [world / "one", world / "two"]
    each = fit_jointly(paths, tmp_path / "each", SETTINGS, JointSettings(statistics="dataset"))
    assert each.shared == [["one"], ["two"]]
    assert each.members["two"].contract.norm_stats == compute_stats(LeRobotDataset.open(paths[1]), horizon=6)
    write(tmp_path / "renamed", ("a", "b", "c"), arrays(3, 5), robot="other")
    robots = [world / "one", tmp_path / "renamed"]
    assert fit_jointly(robots, tmp_path / "r", SETTINGS).shared == [["one"], ["renamed"]]
    every = fit_jointly(robots, tmp_path / "all", SETTINGS, JointSettings(statistics="all"))
    assert every.shared == [["one", "renamed"]]
    with pytest.raises(ContractError, match=r"hand has hand at 10 Hz, 2 state and 2 action numbers \(thumb"):
        fit_jointly(
            [world / "one", world / "hand"], tmp_path / "no", SETTINGS, JointSettings(statistics="all")
        )
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", ["one", "hand"])
@pytest.mark.parametrize("model", ["pi0", "pi0_fast"])
def test_tokenize_takes_the_statistics_of_its_dataset(world, tmp_path, name, model):
    inputs, settings = resolve(request(world, name, world / "fitted", model=model))
    member = JointResult.load(world / "fitted").members[name]
    assert settings.contract.norm_stats == member.contract.norm_stats
    tokenize_dataset(inputs, tmp_path / "joint", settings)
    rows = TokenDataset.open(tmp_path / "joint", verify=True)
    assert rows.contract.robot.joint_names == (ARM if name == "one" else HAND)
    inputs, settings = resolve(request(world, name, world / "fitted" / name, model=model))
    tokenize_dataset(inputs, tmp_path / "named", settings)
    shards = [
        [file.read_bytes() for file in sorted((tmp_path / out / "shards").iterdir())]
        for out in ("joint", "named")
    ]
    assert shards[0] == shards[1]


def test_another_dataset_of_a_known_robot_is_served_and_an_unknown_robot_refused(world, tmp_path):
    write(tmp_path / "more", ARM, arrays(3, 9))
    _, settings = resolve(JobRequest(tmp_path / "more", "pi0", world / "text.model", world / "fitted"))
    known = JointResult.load(world / "fitted").members["one"].contract
    assert settings.contract.norm_stats == known.norm_stats
    write(tmp_path / "leg", ("hip", "knee", "foot"), arrays(3, 9), robot="leg")
    with pytest.raises(
        ContractError, match=r"does not know the robot of .*leg(?s:.*)one: arm at 10 Hz"
    ) as error:
        resolve(JobRequest(tmp_path / "leg", "pi0", world / "text.model", world / "fitted"))
    assert "hand: hand at 10 Hz, 2 state and 2 action numbers (thumb, index)" in str(error.value)


def test_where_statistics_are_each_datasets_another_dataset_is_not_guessed(world, tmp_path):
    paths = [world / "one", world / "two"]
    fit_jointly(paths, tmp_path / "each", SETTINGS, JointSettings(statistics="dataset"))
    two = FitResult.load(tmp_path / "each" / "two")
    _, settings = resolve(request(world, "two", tmp_path / "each", model="pi0"))
    assert settings.contract.norm_stats == two.contract.norm_stats
    with pytest.raises(ContractError, match=r"one, two have its joints and differ(?s:.*)--fit .*each/one"):
        resolve(request(world, "both", tmp_path / "each", model="pi0"))


def test_episodes_are_held_out_and_judged_by_dataset(world, tmp_path):
    made = fit_jointly([world / "one", world / "hand"], tmp_path / "f", replace(SETTINGS, held_out=0.3))
    for name, member in made.members.items():
        assert len(member.held_out) == 1
        opened = LeRobotDataset.open(world / name)
        assert member.result["chunks"] == opened.episode(member.held_out[0]).length


def test_members_are_read_in_their_own_way(world, tmp_path):
    own = replace(SETTINGS, joints=("index",), episodes="!0")
    made = fit_jointly([world / "one", JointMember(world / "hand", own)], tmp_path / "f", SETTINGS)
    assert made.members["hand"].contract.robot.joint_names == ("index",)
    assert made.members["hand"].settings["episodes"] == "!0"
    _, settings = resolve(request(world, "hand", tmp_path / "f", model="pi0"))
    assert settings.contract.robot.joint_names == ("index",)
    with pytest.raises(InputError, match="horizon is 9, of the others 6"):
        fit_jointly(
            [world / "one", JointMember(world / "hand", replace(own, horizon=9))], tmp_path / "g", SETTINGS
        )


def test_a_joint_fit_is_found_again_and_others_are_refused(world):
    paths = [world / "one", world / "two", world / "hand"]
    assert fit_jointly(paths, world / "fitted", SETTINGS).found
    for datasets, settings, joint, message in (
        (paths[:2], SETTINGS, None, "datasets.hand"),
        (paths, replace(SETTINGS, scale=5.0), None, "scale: 10.0 there, 5.0 now"),
        (paths, SETTINGS, JointSettings(weight=(1, 2, 1)), "joint.weight"),
    ):
        with pytest.raises(SettingsError, match=message):
            fit_jointly(datasets, world / "fitted", settings, joint)
    with pytest.raises(SettingsError, match="was not made by pioxide fit"):
        fit(paths[0], world / "fitted", SETTINGS)


def test_datasets_of_one_name_have_directories_of_their_own(world, tmp_path):
    write(tmp_path / "a" / "data", ARM, arrays(3, 1))
    write(tmp_path / "b" / "data", ARM, arrays(3, 2))
    made = fit_jointly([tmp_path / "a" / "data", tmp_path / "b" / "data"], tmp_path / "f", SETTINGS)
    assert list(made.members) == ["data", "data-2"]


def test_bad_episodes_are_left_out_of_their_dataset(world, tmp_path):
    broken = spoil(write(tmp_path / "broken", ARM, arrays(3, 1, (25, 18, 30, 9))), 3)
    with pytest.raises(DatasetError, match="episode 3"):
        fit_jointly([broken, world / "two"], tmp_path / "f", SETTINGS)
    made = fit_jointly([broken, world / "two"], tmp_path / "f", SETTINGS, skip_bad=True)
    assert [s["episode"] for s in made.members["broken"].skipped] == [3]
    assert made.members["two"].skipped == []
    kept = compute_stats(LeRobotDataset.open(broken), horizon=6, episodes=range(3))
    alone = fit_jointly([broken], tmp_path / "g", SETTINGS, skip_bad=True).members["broken"]
    assert alone.contract.norm_stats == kept


def spoil(root: Path, episode: int) -> Path:
    """Puts a NaN into the last frame of an episode."""

    def change(table):
        values = np.array(table["action"].to_pylist(), np.float32)
        values[np.flatnonzero(table["episode_index"].to_numpy() == episode)[-1], 1] = np.nan
        return with_column(table, "action", pa.array(values.tolist(), table["action"].type))

    for file in root.glob("data/**/*.parquet"):
        rewrite(file, change)
    return root


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_float64_after_float32_is_counted_exactly(tmp_path, cache_bytes):
    narrow, wide = arrays(3, 1), arrays(3, 2, dtype=np.float64)
    sources = [
        StatsSource(LeRobotDataset.open(write(tmp_path / name, ARM, data)), Reading(FrameColumns()))
        for name, data in (("narrow", narrow), ("wide", wide))
    ]
    stats = joint_stats(sources, horizon=1, cache_bytes=cache_bytes)["state"]
    values = np.concatenate([s.astype(np.float64) for s, _ in narrow + wide])
    np.testing.assert_array_equal(stats.q99, np.quantile(values, 0.99, axis=0, method="inverted_cdf"))
    turned = joint_stats(sources[::-1], horizon=1, cache_bytes=cache_bytes)["state"]
    np.testing.assert_array_equal(stats.q01, turned.q01)


def test_a_bad_episode_is_reported_once_though_counting_begins_again(tmp_path):
    spoil(write(tmp_path / "narrow", ARM, arrays(3, 1, (25, 18, 30, 9))), 3)
    write(tmp_path / "wide", ARM, arrays(3, 2, dtype=np.float64))
    bad = []
    sources = [
        StatsSource(
            LeRobotDataset.open(tmp_path / name),
            Reading(FrameColumns()),
            on_bad=lambda info, _: bad.append(info.index),
        )
        for name in ("narrow", "wide")
    ]
    joint_stats(sources, horizon=2)
    assert bad == [3]


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        (lambda: JointSettings(weight=(1, 0)), "weight 0"),
        (lambda: JointSettings(weight=(float("nan"),)), "weight nan"),
        (lambda: JointSettings(statistics="some"), "expected one of robot, dataset, all"),
        (lambda: JointSettings(weight=(1,)).whole(2), "1 weights for 2 datasets"),
    ],
)
def test_weights_and_statistics_that_can_not_be_are_refused(joint, message):
    with pytest.raises(InputError, match=message):
        joint()


def test_beast_needs_one_width(world, tmp_path):
    settings = FitSettings(horizon=12, codec="beast", held_out=0.0)
    fit_jointly([world / "one", world / "two"], tmp_path / "f", settings)
    with pytest.raises(InputError, match="these robots have 2, 3 numbers"):
        fit_jointly([world / "one", world / "hand"], tmp_path / "g", settings)


def test_a_wild_value_is_named_by_its_dataset(world, tmp_path):
    state = np.tile(np.linspace(0, 1, 400, dtype=np.float32)[:, None], (1, 3))
    action = state.copy()
    action[200, 1] = 1e9
    wild = write(tmp_path / "wild", ARM, [(state, action)])
    with pytest.raises(Exception, match=r"wild: episode 0, the chunk from frame \d+, joint elbow"):
        fit_jointly([world / "hand", wild], tmp_path / "f", replace(SETTINGS, max_chunks=100_000))


def test_reading_the_whole_directory_as_one_fit_names_those_it_holds(world):
    for read in (FitResult.load, inspect_directory):
        with pytest.raises(FormatError, match=r"holds fits of several datasets; name one: .*fitted/hand"):
            read(world / "fitted")
    assert inspect_directory(world / "fitted" / "hand").actions.names == HAND


def test_the_command_fits_several_and_serves_each(world, tmp_path, capsys):
    paths = [str(world / "one"), str(world / "hand")]
    options = ["--horizon", "6", "--vocab-size", "300", "--weight", "1,2", "--statistics", "robot"]
    assert main(["fit", *paths, "-o", str(tmp_path / "f"), *options]) == 0
    printed = capsys.readouterr().out
    assert "statistics: one; hand" in printed
    assert json.loads((tmp_path / "f" / "joint.json").read_text())["joint"]["weight"] == [1.0, 2.0]
    given = ["--model", "pi0", "--fit", str(tmp_path / "f"), "--text-model", str(world / "text.model")]
    for path in paths:
        assert main(["tokenize", path, "-o", str(tmp_path / Path(path).name), *given]) == 0
    assert main(["fit", "-o", str(tmp_path / "g")]) == 2
    assert "name a dataset" in capsys.readouterr().err
