"""What fit and tokenize refuse because numbers would mean something else, and what they say of their own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pioxide.cli.main import main
from pioxide.codec import FastCodec, Pi0FastPrompts, TextTokenizer, load_codec
from pioxide.contract import UNKNOWN, load_contract, save_contract
from pioxide.data import EpisodeData, LeRobotDataset, write_lerobot_v3
from pioxide.errors import ContractError, FormatError, InputError
from pioxide.family import Family
from pioxide.report import inspect_directory
from pioxide.report.doctor.contract_table import facts
from pioxide.robots import Camera, RobotSpec, StatePart
from pioxide.shards import FitResult, FitSettings, FrameCutter, TokenDataset, fit, resolve, tokenize_dataset
from support.datasets import JOINTS, episodes
from support.jobs import HORIZON, LENGTHS, World
from support.lerobot_policies import GOLDEN, write_checkpoint, write_weights

ARM = RobotSpec(
    name="my arm",
    cameras=(Camera("front", "base_0_rgb"),),
    state=(StatePart("state", 3),),
    action_dim=3,
    hz=50.0,
    signs=(1, -1, 1),
    joint_names=tuple(JOINTS),
)
SMALL = {"horizon": HORIZON, "vocab_size": 400}


def renamed(world: World, path: Path, names: dict[str, list[str]], **info) -> Path:
    """The world's dataset whose metadata names its dimensions otherwise."""
    shutil.copytree(world.v3, path)
    document = json.loads((path / "meta/info.json").read_text()) | info
    for key, given in names.items():
        document["features"][key]["names"] = given
    (path / "meta/info.json").write_text(json.dumps(document))
    return path


def test_fit_writes_a_contract_that_says_what_it_knows_and_no_more(world: World) -> None:
    contract = FitResult.load(world.fitted).contract
    assert contract.robot.joint_names == tuple(JOINTS)
    assert (contract.robot.hz, contract.robot.plain, contract.robot.state_names) == (50.0, True, ())
    assert contract.action_horizon == HORIZON
    assert contract.fast.sha256 == FastCodec.load(world.fitted).fingerprint
    assert (contract.fast.horizon, contract.fast.action_dim) == (HORIZON, 3)
    for stats in contract.norm_stats.values():
        assert np.all((stats.min <= stats.q01) & (stats.q01 <= stats.q10) & (stats.q10 < stats.q90))
        assert np.all((stats.q90 <= stats.q99) & (stats.q99 <= stats.max))
    assert {"family", "text_len", "cameras", "state_in_text", "image_size"} <= set(contract.unknown)


@pytest.mark.parametrize(
    ("robot", "said"),
    [
        (replace(ARM, joint_names=("elbow", "waist", "gripper")), "elbow is 0 there and 1 here"),
        (replace(ARM, action_dim=4, signs=(), joint_names=()), "action_dim: .* has 4, .* has 3"),
        (replace(ARM, state=(StatePart("state", 2),), signs=()), "state_dim: .* has 2, .* has 3"),
        (replace(ARM, hz=30.0), "hz: .* has 30 Hz, .* has 50 Hz"),
        (replace(ARM, delta_mask=(True, True)), "absolute actions, .* relative by mask 2"),
    ],
    ids=["order", "actions", "state", "rate", "mask"],
)
def test_fit_refuses_a_robot_that_is_not_the_datasets(world: World, robot, said: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=said):
        fit(world.v3, tmp_path / "fit", FitSettings(robot=robot, delta_mask=(), **SMALL))
    assert not (tmp_path / "fit").exists()


def test_fit_refuses_a_mask_that_subtracts_one_joint_from_another(world: World, tmp_path: Path) -> None:
    names = {"observation.state": ["gripper", "waist", "elbow"]}
    turned = renamed(world, tmp_path / "turned", names)
    with pytest.raises(ContractError, match=r"action 0 \(waist\) relative to state 0 \(gripper\)"):
        fit(turned, tmp_path / "fit", FitSettings(delta_mask=(2, -1), **SMALL))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": {"action": ["elbow", "waist", "gripper"]}}, "another order"),
        ({"names": {"action": ["a", "b", "c"]}}, r"another robot.*waist / a, elbow / b, gripper / c"),
        ({"names": {}, "fps": 30}, "hz: .* has 50 Hz, .* has 30 Hz"),
    ],
    ids=["order", "robot", "rate"],
)
def test_statistics_of_another_robot_are_refused(world: World, change, said: str, tmp_path: Path) -> None:
    other = renamed(world, tmp_path / "other", **change)
    request = world.request(dataset=other)
    with pytest.raises(ContractError, match=said):
        tokenize_dataset(world.inputs(dataset=other), tmp_path / "out", resolve(request)[1])
    assert not (tmp_path / "out").exists()


def test_statistics_of_another_width_are_refused(world: World, tmp_path: Path) -> None:
    def wider(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, x[:, :1]], axis=1)

    data = [
        EpisodeData({k: wider(e.columns[k]) for k in ("observation.state", "action")}, e.frame_tasks)
        for e in episodes(LENGTHS)
    ]
    other = write_lerobot_v3(tmp_path / "other", data, fps=50, robot_type="arm")
    with pytest.raises(ContractError, match=r"was fitted on 3 numbers .* has 4"):
        resolve(world.request(dataset=other))


def test_a_tokenizer_for_other_chunks_is_refused(world: World, tmp_path: Path) -> None:
    config = json.loads((world.fitted / "processor_config.json").read_text())
    fast = tmp_path / "fast"
    shutil.copytree(world.fitted, fast)
    for name, value in (("time_horizon", 16), ("action_dim", 26)):
        (fast / "processor_config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(ContractError, match=r"was fitted for chunks .*and here .* is"):
            resolve(world.request(fast=fast))


def test_files_that_no_longer_belong_together_are_named(world: World, tmp_path: Path) -> None:
    tokenize_dataset(world.inputs("pi0"), tmp_path / "out", world.settings("pi0"))
    shutil.copytree(world.fitted, tmp_path / "fit")
    for directory in (tmp_path / "fit", tmp_path / "out"):
        path = directory / "norm_stats.json"
        kept, stats = path.read_text(), json.loads(path.read_text())
        stats["norm_stats"]["actions"]["q99"][0] += 1
        path.write_text(json.dumps(stats))
        with pytest.raises(ContractError, match="other statistics of 'actions', so one was changed"):
            (TokenDataset.open if directory.name == "out" else FitResult.load)(directory)
        path.write_text(kept)
    contract = load_contract(tmp_path / "out")
    save_contract(replace(contract, text_len=90), tmp_path / "out")
    with pytest.raises(FormatError, match=r"contract\.json is not the one that the tokens were made with"):
        TokenDataset.open(tmp_path / "out")
    (tmp_path / "fit/contract.json").unlink()
    with pytest.raises(FormatError, match=r"has no contract\.json; an older pioxide made it"):
        FitResult.load(tmp_path / "fit")


def test_tokens_for_the_contract_of_other_tokens_are_the_same(world: World, tmp_path: Path) -> None:
    tokenize_dataset(world.inputs(), tmp_path / "first", world.settings(max_len=90))
    for given in (tmp_path / "first", tmp_path / "first/contract.json"):
        request = world.request(fit=None, contract=str(given))
        inputs, settings = resolve(request)
        assert inputs.fast == tmp_path / "first/fast"
        assert settings == world.settings(max_len=90)
    with pytest.raises(ContractError, match=r"text_len: .*first has 90, the request has 250"):
        resolve(replace(request, contract=str(tmp_path / "first"), max_len=250))
    with pytest.raises(ContractError, match=r"family: .*first has pi0_fast, the request has pi05"):
        resolve(replace(request, contract=str(tmp_path / "first"), model=Family.PI05))


@pytest.mark.parametrize("case", ["pi05_model", "pi0_mean_std"])
def test_tokens_for_a_checkpoint_of_lerobots(world: World, case: str, tmp_path: Path) -> None:
    weights = pytest.importorskip("pioxide.weights")
    path = write_checkpoint(case, tmp_path / "checkpoint")
    if not (path / "model.safetensors").exists():
        layouts = json.loads((GOLDEN / "layouts.json").read_text())
        write_weights({"layout": "pi0", "salt": "any", "image_size": 28}, path, layouts, {})
    with weights.load(path) as checkpoint:
        contract = checkpoint.contract
    robot = contract.robot
    rng = np.random.default_rng(0)
    columns = {
        "observation.state": rng.uniform(-1, 1, (9, robot.state_dim)).astype(np.float32),
        "action": rng.uniform(-1, 1, (9, robot.action_dim)).astype(np.float32),
    }
    data = write_lerobot_v3(tmp_path / "data", [EpisodeData(columns, "go")], fps=50, robot_type="arm")
    request = world.request(contract.family, dataset=data, fit=None, contract=str(path))
    inputs, settings = resolve(request)
    assert settings.contract == contract
    tokenize_dataset(inputs, tmp_path / "out", settings)
    assert TokenDataset.open(tmp_path / "out").contract == contract
    with pytest.raises(ContractError, match="state_norm"):
        resolve(replace(request, normalization="quantile"))


def test_a_contract_that_leaves_something_open_asks_for_it(world: World, tmp_path: Path) -> None:
    full = world.settings("pi05").contract
    save_contract(replace(full, delta_mask=UNKNOWN, prompt_style=UNKNOWN), tmp_path)
    request = world.request("pi05", fit=None, contract=str(tmp_path / "contract.json"))
    with pytest.raises(ContractError, match=r"(?s)delta_mask: whether actions.*prompt_style: whose prompt"):
        resolve(request)


def test_pi05_without_the_state_in_its_prompt(world: World, tmp_path: Path) -> None:
    settings = world.settings("pi05", state_in_text=False)
    tokenize_dataset(world.inputs("pi05"), tmp_path / "out", settings)
    tokenize_dataset(world.inputs("pi0"), tmp_path / "pi0", world.settings("pi0"))
    made, pi0 = (TokenDataset.open(tmp_path / name) for name in ("out", "pi0"))
    for row, plain in zip(made, pi0, strict=True):
        np.testing.assert_array_equal(row["tokens"][:48], plain["tokens"])
        assert "state" not in row
    assert made.max_len == 200


def test_the_commands_say_what_the_numbers_mean(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("yaml")
    robot = tmp_path / "arm.yaml"
    robot.write_text(json.dumps(replace(ARM, joint_names=("waist", "upper", "gripper")).to_mapping()))
    options = ["--robot", str(robot), "--delta-mask", "1,-1", "--horizon", "8", "--vocab-size", "400"]
    assert main(["fit", str(world.v3), "-o", str(tmp_path / "fit"), *options]) == 0
    printed = capsys.readouterr().out
    assert "chunks of 8 x 3 of my arm at 50 Hz; turned round for the model: 1 (upper)" in printed
    assert "relative to the state in 1 of 3: 0 (waist), absolute in 1 (upper), 2 (gripper)" in printed
    assert "named otherwise (robot / dataset): upper / elbow" in printed
    given = ["--fit", str(tmp_path / "fit"), "--text-model", str(world.text_model), "--on-overflow", "clip"]
    command = ["tokenize", str(world.v3), "-o", str(tmp_path / "out"), "--model", "pi0-fast", *given]
    assert main(command) == 0
    assert "π0-FAST: chunks of 8 x 3 of my arm at 50 Hz; turned round" in capsys.readouterr().out
    assert TokenDataset.open(tmp_path / "out").contract.robot.signs == (1, -1, 1)
    assert main([*command, "--delta-mask", ""]) == 2
    said = capsys.readouterr().err
    assert "has actions relative by mask 1, the request has absolute actions" in said
    assert main(["fit", str(world.v3), "-o", str(tmp_path / "fit"), *options[2:]]) == 2
    assert "robot: my arm there, nothing now" in capsys.readouterr().err


def test_an_unknown_robot_is_answered_with_the_known_ones(world: World, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", str(world.v3), "-o", "nowhere", "--robot", "alhoa"])
    assert end.value.code == 2
    assert "aloha" in capsys.readouterr().err


CODEC_NAMES = {"binning": "binning", "beast": "BEAST"}


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_tokens_of_another_codec_say_so_and_reach_no_other(world: World, tmp_path: Path, codec: str) -> None:
    more = {"limit": 3.0, "bins": 512} if codec == "binning" else {"control_points": 5}
    made = fit(world.v3, tmp_path / "fit", FitSettings(horizon=HORIZON, codec=codec, **more))
    assert made.result["clipped_chunks"] <= made.result["chunks"]
    inputs, settings = resolve(world.request(fit=tmp_path / "fit", max_len=200))
    tokenize_dataset(inputs, tmp_path / "out", settings)
    tokens = TokenDataset.open(tmp_path / "out")
    assert tokens.contract.fast == made.contract.fast
    own = load_codec(tokens.fast_directory)
    assert own.fingerprint == made.contract.fast.sha256
    # Every row holds the ids that this codec gives its frame.
    prompts = Pi0FastPrompts(TextTokenizer.load(world.text_model), own, 200)
    cutter = FrameCutter.of(tokens.contract, tokens.columns)
    episode = next(iter(LeRobotDataset.open(world.v3).scan(cutter.columns.all, [0])))
    chunks = np.concatenate([block.chunks for block in cutter.blocks(episode)])
    expected, _ = own.decode_batch(own.encode_batch(chunks, on_overflow="clip"), horizon=HORIZON, dim=3)
    rows = next(iter(tokens.batches(len(chunks))))
    ids = [row[:length] for row, length in zip(rows["tokens"], rows["length"], strict=True)]
    decoded, _ = prompts.ids_to_actions_batch(ids, horizon=HORIZON, dim=3)
    np.testing.assert_array_equal(decoded, expected)
    # Nor does what is said of it call it FAST.
    report = inspect_directory(tmp_path / "fit", dataset=world.v3)
    assert report.subject == f"{CODEC_NAMES[codec]} tokenizer"
    shown = [line for name, line in facts(tokens.contract) if name == "action tokens"]
    assert len(shown) == 1
    assert "FAST" not in shown[0]
    # The contract of these tokens takes no other's, and that of others' takes none of these.
    fast = replace(tokens.contract, fast=load_contract(world.fitted).fast)
    file = save_contract(fast, tmp_path)
    for contract, other in ((tmp_path / "out", world.fitted), (file, tmp_path / "fit")):
        with pytest.raises(ContractError, match=f"the {codec} codec"):
            resolve(world.request(fit=None, contract=str(contract), fast=other))


def test_an_option_of_another_codec_is_refused() -> None:
    with pytest.raises(InputError, match=r"vocab_size is no option of the codec binning, which has --bins"):
        FitSettings(codec="binning", vocab_size=2048)
    with pytest.raises(InputError, match=r"control_points is no option of the codec fast"):
        FitSettings(control_points=5)
