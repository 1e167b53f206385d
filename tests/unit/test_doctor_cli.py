"""`pioxide doctor` on the command line: what it prints, its JSON, and its exit status."""

import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest

from pioxide import demo
from pioxide.cli import main
from pioxide.contract import Contract, from_json
from pioxide.report.doctor import Code, Severity
from pioxide.robots import so101
from pioxide.shards import FitSettings, fit, tokenize_dataset
from support.checkpoints import SMALL, random_arrays, write_orbax
from support.clinic import contract_for, record, write
from support.datasets import episodes, write_v3
from support.jobs import make_world
from support.lerobot_files import write_lerobot

TEXT = ["--text-model", str(demo.text_model_path())]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A dataset, and the directory of a contract that fits it."""
    root = tmp_path_factory.mktemp("good")
    data = record(root / "data", so101())
    return str(data), write(root / "contract", contract_for(data, so101()))


def doctor(*arguments) -> int:
    return main.main(["doctor", *map(str, arguments)])


def test_a_good_pair_ends_with_0_and_says_what_everything_is(good, capsys):
    data, contract = good
    assert doctor(contract, "--robot", "so101", "--dataset", data, *TEXT) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        "π0.5",
        "so101, 6 state and 6 action numbers, 30 Hz",
        "20 actions, 0.67 s",
        "1% quantile to -1 and 99% quantile to 1 (openpi's arithmetic)",
        "shoulder_pan",
        "absolute",
        "observation.images.front",
        "Task: pick up the cup, State: ",
        "of 200 tokens",
        "frames of 8 episodes replayed",
        "nothing disagrees",
    ):
        assert part in printed


def test_problems_end_with_3_and_name_the_way_out(good, tmp_path, capsys):
    signs = np.array([1, 1, -1, 1, 1, 1])
    data = record(tmp_path / "flipped", so101(), change=lambda s, a: (s * signs, a * signs))
    assert doctor(good[1], "--dataset", data) == main.LEFT_OUT == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "state and actions: 2 (elbow_flex): recorded numbers fit the statistics once their sign is" in printed
    )
    assert "-> turn it round in the robot's `signs`" in printed
    assert "[sign-flipped]" in printed


def test_warnings_end_with_4_where_they_count(good, tmp_path, capsys):
    contract = contract_for(good[0], so101())
    unknown = replace(contract, **{"resize": Contract().resize})
    assert doctor(write(tmp_path, unknown)) == 0
    assert doctor(write(tmp_path, unknown), "--strict") == main.FOUND == 4
    assert "nothing says how images are resized" in capsys.readouterr().out


def test_json_is_one_object_of_the_documented_fields(good, capsys):
    data, contract = good
    assert doctor(contract, "--dataset", data, "--json", *TEXT) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["version"] == 1
    assert printed["subjects"]["checkpoint"] == {"path": contract, "kind": "contract"}
    assert printed["worst"] in (None, "note")
    assert printed["joints"][5]["name"] == "gripper"
    assert 0 <= printed["joints"][5]["action_outside"] < 0.05
    assert printed["prompt"]["text"].startswith("Task: pick up the cup, State: ")
    assert printed["replay"]["episodes"] == 8
    assert from_json(printed["contract"]) == contract_for(data, so101())
    for finding in printed["findings"]:
        assert finding.keys() == {"code", "severity", "where", "message", "way_out"}
        assert Code(finding["code"])
        assert Severity(finding["severity"])


def test_what_fit_and_tokenize_made_fits_its_dataset_and_nothing_elses(tmp_path, capsys):
    world = make_world(tmp_path)
    tokens = tmp_path / "tokens"
    tokenize_dataset(world.inputs("pi05"), tokens, world.settings("pi05"))
    for made in (world.fitted, tokens):
        assert doctor(made, "--dataset", world.v3, "--strict", "--text-model", world.text_model) == 0
    assert doctor(tokens, "--dataset", world.v3, "--tokens", world.fitted, "--strict") == 0
    other = write_v3(tmp_path / "other", episodes((30, 40, 30), seed=9))
    fit(other, tmp_path / "again", FitSettings(horizon=8, vocab_size=400))
    capsys.readouterr()
    assert doctor(tokens, "--dataset", other, "--tokens", tmp_path / "again", "--json") == main.LEFT_OUT
    codes = {one["code"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert {"statistics", "other-dataset"} <= codes


def test_a_lerobot_checkpoint_is_read_and_compared(good, tmp_path, capsys):
    path = write_lerobot(tmp_path / "checkpoint")
    assert doctor(path, "--dataset", good[0], "--robot", "so101", "--json") == main.LEFT_OUT
    printed = json.loads(capsys.readouterr().out)
    assert [one["code"] for one in printed["findings"] if one["severity"] == "problem"] == ["cameras"]
    assert printed["contract"]["prompt_style"] == "lerobot"


def test_an_openpi_fine_tune_names_what_it_does_not_say(tmp_path, capsys):
    path = tmp_path / "mine"
    write_orbax(random_arrays(SMALL["pi05"].shapes()), path / "params")
    assert doctor(path, "--json") == 0
    unknown = {
        f["where"] for f in json.loads(capsys.readouterr().out)["findings"] if f["code"] == "unknown-field"
    }
    assert {"robot", "delta_mask", "action_horizon", "state_in_text", "norm_stats"} <= unknown
    assert unknown <= {field.name for field in fields(Contract)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere"),
        (["{contract}", "--dataset", "nowhere"], "no such directory"),
        (["{contract}", "--tokens", "nowhere"], "nowhere"),
        (["{contract}", "--text-model", "nowhere"], "nowhere"),
        (["{contract}", "--dataset", "{data}", "--state-keys", "joints"], "joints"),
        (["{contract}", "--dataset", "{data}", "--frames", "3"], "--frames is 3"),
        (["{broken}"], "contract.json"),
        (["{empty}"], "contract.json"),
    ],
)
def test_what_can_not_be_opened_is_one_sentence_and_ends_with_2(good, tmp_path, capsys, arguments, says):
    broken, empty = tmp_path / "broken", tmp_path / "empty"
    broken.mkdir()
    empty.mkdir()
    (broken / "contract.json").write_text('{"version": 1, "unknown": "\\u0000"}')
    places = {"data": good[0], "contract": good[1], "broken": broken, "empty": empty}
    assert doctor(*(one.format(**places) for one in arguments)) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.err.startswith("pioxide: ")


def test_control_characters_in_names_are_spelled_out(good, tmp_path, capsys):
    robot = replace(so101(), joint_names=("\x1b[31mred", *so101().joint_names[1:]))
    contract = replace(contract_for(good[0], so101()), robot=robot)
    doctor(write(tmp_path, contract))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[31mred" in printed


def test_the_help_tells_the_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        doctor("--help")
    printed = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    assert "Ends with 0 where nothing is wrong, 3 where there are problems" in printed


@pytest.mark.parametrize("robot", ["r2d2", "r2d2.yaml"])
def test_a_robot_that_is_none_is_said(good, capsys, robot):
    with pytest.raises(SystemExit) as ended:
        doctor(good[1], "--robot", robot)
    assert ended.value.code == 2
    assert robot in capsys.readouterr().err
