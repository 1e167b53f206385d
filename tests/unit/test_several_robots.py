"""Several robots in one run: each by its own numbers, in batches, in the contract's file and in what acts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pioxide.train.run
from pioxide.cli.main import main
from pioxide.contract import (
    UNKNOWN,
    choose_robot,
    load_contract,
    load_contracts,
    model_card,
    one_a_robot,
    save_contract,
    shared_contract,
)
from pioxide.demo import text_model_path
from pioxide.errors import ContractError, FormatError, InputError, SettingsError
from pioxide.policy import FlowSampler, Policy, PolicyOptions
from pioxide.robots import StatePart
from pioxide.shards import FitSettings, fit
from pioxide.train.recipes import read_robots
from pioxide.weights import load
from support.training import (
    source,
)
from support.videos import coded, write_still_images

CAMERA, OTHER = "observation.images.top", "observation.images.wrist"
SLOT = "base_0_rgb"


def renamed(contract, name, **changes):
    return replace(contract, robot=replace(contract.robot, name=name), **changes)


@pytest.fixture(scope="module")
def pair():
    """The contracts of two robots of one network: the second is wider, and has a camera key of its own."""
    left = renamed(source().contract, "left")
    stats = {
        key: replace(one, **{f: np.append(getattr(one, f), 2.0) for f in ("mean", "std", "q01", "q99")})
        for key, one in left.norm_stats.items()
    }
    robot = replace(left.robot, name="right", state=(StatePart("state", 3),), action_dim=3)
    cameras = (replace(left.cameras[0], key="other"),)
    robot = replace(robot, cameras=(replace(robot.cameras[0], key="other"),))
    return left, replace(left, robot=robot, cameras=cameras, norm_stats=stats, default_prompt="pull")


def test_a_file_holds_several_robots_and_none_stands_for_another(pair, tmp_path):
    file = save_contract(pair, tmp_path)
    read = load_contracts(tmp_path)
    assert [one.robot.name for one in read] == ["left", "right"]
    assert load_contract(tmp_path, "right").robot.action_dim == 3
    for asked, says in ((None, "say which"), ("middle", "none of them")):
        with pytest.raises(ContractError, match=f"{says}.*--robot") as caught:
            load_contract(tmp_path, asked)
        assert "left, right" in str(caught.value) or "left" in str(caught.value)
    whole = json.loads(file.read_text())
    for damaged in (
        whole | {"robots": []},
        whole | {"robots": whole["robots"][:1] * 2},
        whole | {"more": 1},
        whole | {"version": 3},
        whole | {"robots": [whole["robots"][0], whole["robots"][1] | {"text_len": 99}]},
    ):
        file.write_text(json.dumps(damaged))
        with pytest.raises(FormatError):
            load_contracts(tmp_path)
    # Of one robot it is the file that it always was, which any name reads as far as the name goes.
    save_contract(pair[:1], tmp_path)
    assert json.loads(file.read_text())["version"] == 1
    assert load_contract(tmp_path).robot.name == load_contract(tmp_path, "toy").robot.name == "left"


def test_what_robots_share_and_what_tells_them_apart(pair):
    left, right = pair
    assert one_a_robot([left, replace(left, source="elsewhere"), right]) == pair
    shared = shared_contract(pair)
    assert (shared.model_dim, shared.family, shared.text_len) == (4, "pi0", left.text_len)
    assert (shared.robot, shared.norm_stats, shared.default_prompt) == (UNKNOWN,) * 3
    assert [(one.slot, one.key) for one in shared.cameras] == [(SLOT, UNKNOWN)]
    with pytest.raises(ContractError, match="text_len"):
        one_a_robot([left, replace(right, text_len=99)])
    with pytest.raises(ContractError, match=r"of robots called 'left'"):
        one_a_robot([left, replace(left, default_prompt=UNKNOWN)])
    with pytest.raises(ContractError, match="robot"):
        one_a_robot([left, replace(right, robot=UNKNOWN)])
    assert choose_robot([left], None, "it") == left
    card = model_card(pair)
    assert "policy for left and right" in card
    assert "--robot NAME" in card
    assert card.count("## Statistics of the state of right") == 1


def test_a_run_goes_on_with_its_own_robots_alone(pair):
    left, right = pair
    for now, says in (
        ((right, left), "left, right, in this order, and now of right, left"),
        ((left,), "now of left"),
        ((left, replace(right, default_prompt="push")), "default_prompt"),
        ((left, renamed(right, "middle")), "now of left, middle"),
    ):
        with pytest.raises((ContractError, SettingsError), match=says):
            pioxide.train.run._refuse_other_robots(pair, now, Path("run"))
    pioxide.train.run._refuse_other_robots(pair, pair, Path("run"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "mapping"),
        ("{}", "there is none"),
        ("a: b", "a: expected datasets"),
        ("a: {datasets: x, wight: 1}", "no field 'wight'"),
        ("a: {weight: 1}", "datasets: name one"),
        ("a/b: {datasets: x}", "no robot's name"),
        ("7: {datasets: x}", "no robot's name"),
        ("a: {datasets: x, weight: -1}", "a: weight"),
        ("a: {datasets: [x, y], weight: 1}", "1 for 2 datasets"),
        ("a: {datasets: [x, y], episodes: '0:3'}", "of one dataset"),
        ("a: {datasets: x, episodes: 1:30}", "in quotes"),
        ("a: {datasets: x, fit: f, robot: so101}", "leave one of the two out"),
        ("a: {datasets: x}\nb: {datasets: x}", "stands twice"),
        ("a: {datasets: x}\na: {datasets: y}", "stands twice"),
        ("a: {datasets: x, weight: 1}\nb: {datasets: y}", "some have none"),
    ],
)
def test_a_robots_file_that_can_not_be_meant_is_refused(tmp_path, text, says):
    file = tmp_path / "robots.yaml"
    file.write_text(text)
    with pytest.raises((FormatError, InputError), match=says) as caught:
        read_robots(file)
    assert str(file) in str(caught.value)


def test_paths_of_a_robots_file_are_from_where_it_is(tmp_path):
    file = tmp_path / "robots.json"
    said = {"datasets": ["x", "s3://b/y"], "weight": [1, 2], "robot": "so101", "camera": {"slot": None}}
    file.write_text(json.dumps({"a": said, "b": {"datasets": "/z", "weight": 3, "robot": "r.yaml"}}))
    a, b = read_robots(file)
    assert a.datasets == (f"{tmp_path}/x", "s3://b/y")
    assert (a.weight, a.robot, a.camera) == ((1.0, 2.0), "so101", {"slot": None})
    assert (b.datasets, b.robot) == (("/z",), f"{tmp_path}/r.yaml")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two arms of one make, of which the right one has a joint and a camera key less."""
    root = tmp_path_factory.mktemp("world")
    write_still_images(root / "left", (9, 8, 7, 8), (CAMERA,), joints=3)
    write_still_images(root / "right", (7, 9, 8, 8), (OTHER,), joints=2, seed=40)
    (root / "robots.yaml").write_text(
        f"left: {{datasets: left, weight: 3, camera: {{{SLOT}: {CAMERA}}}, prompt: go}}\n"
        f"right: {{datasets: right, weight: 1, camera: {{{SLOT}: {OTHER}}}}}\n"
    )
    return root


def command(world, run, *options, robots="robots.yaml"):
    small = ["--train.model.size", "tiny", "--numbers.image-size", "28", "--numbers.horizon", "4"]
    small += ["--numbers.text-len", "48", "--train.batch-size", "8", "--train.schedule.warmup", "1"]
    text = ["--data.text-model", str(text_model_path()), "--train.learn-padding"]
    return main(["train", "mini", str(world / robots), "-o", str(run), *small, *text, *options])


@pytest.fixture
def begun(world, tmp_path, monkeypatch):
    """Begins a run that ends before its first update; returns what it was given."""

    def begin(*options, robots="robots.yaml"):
        given = {}

        def train(config, source, directory, *, data, judge, **_):
            batch = next(iter(source.batches()))
            given.update(contracts=source.contracts, batch=batch, data=data, codec=source.codec, judge=judge)
            return pioxide.train.run.Trained(Path(directory), Path("none"), 0, 0.0)

        monkeypatch.setattr(pioxide.train.run, "train", train)
        few = ("--train.batch-size", "32", "--train.validation.batches", "1")
        status = command(world, tmp_path / "run", *few, *options, robots=robots)
        return status, given

    return begin


def test_rows_are_by_their_own_robots_numbers(world, begun):
    status, given = begun()
    assert status == 0
    left, right = given["contracts"]
    assert [one.robot.name for one in (left, right)] == ["left", "right"]
    assert (left.model_dim, right.model_dim) == (3, 3)
    assert [one.cameras[0].key for one in (left, right)] == [CAMERA, OTHER]
    assert (left.default_prompt, right.default_prompt) == ("go", None)
    assert right.norm_stats["actions"].dim == 2
    batch = given["batch"]
    wide = batch.action_mask.any(axis=1)
    assert 20 <= (batch.source == 0).sum() <= 28
    for row, of in zip(wide, batch.source, strict=True):
        assert row.tolist() == [True, True, of == 0]
    assert (batch.actions[batch.source == 1][..., 2] == 0).all()
    assert set(given["judge"].judges) == {"left", "right"}
    kept = {"episodes": "", "where": ""}
    assert given["data"]["robots"] == [
        {"name": "left", "datasets": ["left"], "weight": [3.0], **kept},
        {"name": "right", "datasets": ["right"], "weight": [1.0], **kept},
    ]


def test_one_action_tokenizer_writes_all_robots_actions(world, begun, capsys):
    status, given = begun("--numbers.family", "pi0_fast", "--numbers.text-len", "120")
    assert status == 0
    left, right = given["contracts"]
    assert left.fast == right.fast
    assert left.fast.sha256 == given["codec"].fingerprint
    assert left.fast.action_dim is None
    assert (left.model_dim, right.model_dim) == (3, 2)
    fits = [world / "fits" / name for name in ("left", "right")]
    for directory in fits:
        fit(world / directory.name, directory, FitSettings(horizon=4, vocab_size=272, scale=6.0))
    (world / "apart.yaml").write_text(
        "".join(
            f"{f.name}: {{datasets: {f.name}, fit: fits/{f.name}, camera: {{{SLOT}: {key}}}}}\n"
            for f, key in zip(fits, (CAMERA, OTHER), strict=True)
        )
    )
    capsys.readouterr()
    quantile = ("--numbers.normalization", "quantile")
    fast = ("--numbers.family", "pi0_fast", "--numbers.text-len", "120")
    assert begun(*fast, *quantile, robots="apart.yaml")[0] == 2
    assert "fitted apart" in capsys.readouterr().err
    status, given = begun(*quantile, robots="apart.yaml")  # a flow needs no tokenizer
    assert (status, [one.robot.name for one in given["contracts"]]) == (0, ["left", "right"])


def test_what_is_each_robots_is_not_said_for_all(begun, capsys):
    for options, says in (
        (("--data.robot", "so101"), "data.robot"),
        (("--data.weight", "1", "2"), "data.weight"),
        (("--numbers.prompt", "go"), "numbers.prompt"),
        (("--data.advantage", "x.json"), "of one dataset"),
    ):
        assert begun(*options)[0] == 2
        assert says in capsys.readouterr().err


def test_two_robots_are_trained_and_each_acts_by_its_own_numbers(world, tmp_path, capsys):
    short = ["--train.steps", "4", "--train.checkpoints.every", "2", "--train.checkpoints.keep", "9"]
    short += ["--train.logging.every", "1", "--train.logging.no-tensorboard"]
    short += ["--train.validation.batches", "1", "--train.validation.flow-steps", "1"]
    run, cut = tmp_path / "run", tmp_path / "cut"
    assert command(world, run, *short) == 0
    said = capsys.readouterr()
    assert "left/loss" in said.err
    assert "right/error/step_4" in said.err
    assert "--robot left" in said.out
    shutil.copytree(run, cut)
    shutil.rmtree(cut / "checkpoints/4")
    text = (world / "robots.yaml").read_text()
    for other in ("".join(text.splitlines(keepends=True)[::-1]), text.replace("weight: 3", "weight: 2")):
        (world / "other.yaml").write_text(other)
        assert command(world, cut, *short, "--resume", robots="other.yaml") == 2
        assert "data.robots: the run has" in capsys.readouterr().err
    assert command(world, cut, *short, "--resume") == 0
    checkpoints = [one / "checkpoints/4" for one in (run, cut)]
    trees = [load(one).tree for one in checkpoints]
    for path in trees[0].specs:
        np.testing.assert_array_equal(*(tree.read(path) for tree in trees))

    checkpoint = checkpoints[0]
    for asked, says in (({}, "say which"), ({"robot": "middle"}, "none of them")):
        with pytest.raises(ContractError, match=says):
            Policy.load(checkpoint, **asked)
    options = PolicyOptions(sampler=FlowSampler(num_steps=1), compile_when="on_demand")
    for name, joints, key in (("left", 3, CAMERA), ("right", 2, OTHER)):
        policy = Policy.load(checkpoint, robot=name, options=options)
        stats = policy.contract.norm_stats["actions"]
        assert stats == load_contract(run, name).norm_stats["actions"]
        seen = {key: coded(1), "observation.state": np.zeros(joints), "task": "go"}
        actions = policy(seen).actions
        assert actions.shape == (4, joints)
        # What the network says lies in a few deviations, and so its actions about this robot's mean.
        assert (np.abs(actions - stats.mean) < 8 * stats.std).all()
    capsys.readouterr()
    assert main(["info", str(checkpoint)]) == 0
    assert "with the robot right" in capsys.readouterr().out
    assert main(["convert", str(checkpoint), str(tmp_path / "all"), "--to", "lerobot"]) == 2
    assert "--robot" in capsys.readouterr().err
    one = ["convert", str(checkpoint), str(tmp_path / "one"), "--to", "lerobot", "--robot", "right"]
    assert main(one) == 0
    assert "the numbers of left" in capsys.readouterr().out
    assert load_contract(tmp_path / "one").robot.name == "right"
    assert main(["doctor", str(checkpoint)]) == 2
    assert main(["serve", str(checkpoint)]) == 2
