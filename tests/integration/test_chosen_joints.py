"""Joints chosen by name, all the way: fit, tokens, check, doctor and report speak of the chosen ones only."""

from pathlib import Path

import numpy as np
import pytest

from pioxide.cli.main import main
from pioxide.data import EpisodeData, write_lerobot_v3
from pioxide.errors import ContractError, InputError, SettingsError
from pioxide.report import inspect_directory
from pioxide.report.doctor import Request, examine
from pioxide.shards import FitSettings, JobRequest, TokenDataset, fit, resolve, tokenize_dataset
from support.text_model import write_text_model

NAMES = ["waist", "left_wrist", "left_hand", "head"]
SETTINGS = FitSettings(horizon=8, vocab_size=300)


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    states = [np.cumsum(rng.normal(size=(n, 4)), axis=0).astype(np.float32) for n in (30, 25, 20)]
    return [(state, (state + 0.1).astype(np.float32)) for state in states]


def write(root: Path, dims=(0, 1, 2, 3)) -> Path:
    """The robot with some of its joints, in some order."""
    names = [NAMES[d] for d in dims]
    data = [EpisodeData({"observation.state": s[:, dims], "action": a[:, dims]}, "wave") for s, a in arrays()]
    return write_lerobot_v3(
        root, data, fps=10, robot_type="arm", names={"observation.state": names, "action": names}
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("chosen")
    chosen = FitSettings(horizon=8, vocab_size=300, joints=("left_*", "waist"), relative=("!left_hand",))
    fit(write(root / "all"), root / "fitted", chosen)
    write(root / "few", dims=(1, 2, 0))
    write_text_model(root / "text.model")
    return root


def request(world: Path, dataset="all", **changes) -> JobRequest:
    return JobRequest(
        world / dataset, changes.pop("model", "pi0_fast"), world / "text.model", world / "fitted", **changes
    )


def make(wanted: JobRequest, output: Path) -> None:
    inputs, settings = resolve(wanted)
    tokenize_dataset(inputs, output, settings)


def test_a_choice_is_fitted_as_a_dataset_that_has_nothing_else(world, tmp_path):
    made = fit(world / "few", tmp_path / "f", FitSettings(horizon=8, vocab_size=300, delta_mask=(1, -1, 1)))
    chosen = fit(
        world / "all",
        world / "fitted",
        FitSettings(horizon=8, vocab_size=300, joints=("left_*", "waist"), relative=("!left_hand",)),
    )
    assert chosen.found
    assert chosen.contract.norm_stats == made.contract.norm_stats
    assert chosen.contract.fast == made.contract.fast
    assert chosen.contract.delta_mask == made.contract.delta_mask == (True, False, True)
    assert chosen.contract.robot == made.contract.robot
    assert chosen.contract.robot.joint_names == ("left_wrist", "left_hand", "waist")
    assert chosen.result == made.result
    assert chosen.dataset["action_names"] == ["left_wrist", "left_hand", "waist"]


@pytest.mark.parametrize("model", ["pi0", "pi05", "pi0_fast"])
def test_tokens_are_those_of_a_dataset_that_has_nothing_else(world, tmp_path, model):
    shards = []
    for name in ("all", "few"):
        make(request(world, name, model=model, on_overflow="clip"), tmp_path / name)
        shards.append([p.read_bytes() for p in sorted((tmp_path / name / "shards").iterdir())])
    assert shards[0] == shards[1]
    rows = TokenDataset.open(tmp_path / "all")
    assert rows.columns.action_dims == (1, 2, 0)
    assert rows.contract.robot.action_dim == 3


def test_another_choice_than_the_fitted_one_is_refused(world):
    with pytest.raises(ContractError, match=r"was fitted on 3 numbers(?s:.*)--joints"):
        resolve(request(world, joints=("waist", "left_*")))
    with pytest.raises(InputError, match="has no joint 'neck'; it has waist, left_wrist"):
        resolve(request(world, joints=("neck",)))


def test_fitting_again_with_another_choice_is_refused(world):
    with pytest.raises(SettingsError, match="drop: nothing there, head now"):
        fit(world / "all", world / "fitted", FitSettings(horizon=8, vocab_size=300, drop=("head",)))


def test_relative_is_not_said_twice():
    with pytest.raises(InputError, match="in two ways"):
        FitSettings(relative=("waist",), delta_mask=(1,))


def test_report_and_doctor_speak_of_the_chosen_joints(world, tmp_path):
    make(request(world, on_overflow="clip"), tmp_path / "t")
    for directory in (tmp_path / "t", world / "fitted"):
        report = inspect_directory(directory)
        assert report.actions.names == ("left_wrist", "left_hand", "waist")
    found = examine(Request(str(tmp_path / "t"), dataset=world / "all"))
    assert found.replayed is not None
    assert found.worst is None or found.worst.value != "error", [d.message for d in found.found]
    named = examine(Request(str(world / "fitted"), dataset=world / "all", joints=("left_*", "waist")))
    assert named.replayed is not None


def test_the_command_line_chooses(world, tmp_path, capsys):
    options = "--horizon 8 --vocab-size 300 --drop head --relative left_*,waist"
    assert main(["fit", str(world / "all"), "-o", str(tmp_path / "f"), *options.split()]) == 0
    assert "relative to the state" in capsys.readouterr().out
    assert main(["check", str(world / "all"), "--joints", "waist", "--width", "2"]) == 0
    assert main(["check", str(world / "all"), "--joints", "neck"]) == 3
    assert "it has waist, left_wrist, left_hand, head" in capsys.readouterr().out
