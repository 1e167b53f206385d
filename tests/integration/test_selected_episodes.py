"""Episodes by condition and given instructions, through the commands: made, noted down, gone on with."""

import json
from pathlib import Path

import pytest

from pioxide.cli.main import main
from pioxide.report import inspect_directory
from pioxide.shards import FitResult, TokenDataset
from support.datasets import episodes, write_v21
from support.jobs import LENGTHS, World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def untold(tmp_path_factory) -> Path:
    """A dataset of which one task is empty."""
    root = write_v21(tmp_path_factory.mktemp("untold") / "d", episodes(LENGTHS))
    file = root / "meta/tasks.jsonl"
    file.write_text(file.read_text().replace('"stack the cups"', '""'))
    return root


def tokenize(dataset: Path, world: World, out: Path, *more: str) -> int:
    given = ["--model", "pi0_fast", "--fit", str(world.fitted), "--text-model", str(world.text_model)]
    return main(["tokenize", str(dataset), "-o", str(out), *given, "--on-overflow", "clip", *more])


def test_a_job_makes_the_episodes_of_a_condition_and_goes_on_with_no_others(world, untold, tmp_path, capsys):
    chosen = ["--where", "length >= 25", "--episodes", "!0"]
    told = ["--task", "wave"]
    assert tokenize(untold, world, tmp_path / "t", *chosen, *told) == 0
    tokens = TokenDataset.open(tmp_path / "t", verify=True)
    assert sorted({tokens[i]["episode"] for i in range(len(tokens))}) == [2, 3, 5]
    assert tokens.manifest.settings["where"] == "length >= 25"
    tasks = tokens.manifest.dataset["tasks"]
    assert {tasks[str(tokens[i]["task"])] for i in range(len(tokens))} == {"fold the towel"}
    assert tokenize(untold, world, tmp_path / "t", *chosen, *told) == 0
    capsys.readouterr()
    assert tokenize(untold, world, tmp_path / "t", "--where", "length >= 20", "--episodes", "!0", *told) == 2
    assert "where: length >= 25 there, length >= 20 now" in capsys.readouterr().err
    assert tokenize(untold, world, tmp_path / "t", *chosen) == 2
    assert "task: wave there, nothing now" in capsys.readouterr().err


def test_tokens_with_given_instructions_are_found_again_by_the_report(world, untold, tmp_path):
    assert tokenize(untold, world, tmp_path / "t", "--task", "wave", "--episodes", "1,4") == 0
    tokens = TokenDataset.open(tmp_path / "t")
    tasks = tokens.manifest.dataset["tasks"]
    assert {tasks[str(tokens[i]["task"])] for i in range(len(tokens))} == {"wave"}
    report = inspect_directory(tmp_path / "t")
    assert not [finding for finding in report.warnings if finding.code.value == "empty-task"]


def test_fit_takes_the_same_choices(world, untold, tmp_path):
    options = ["--horizon", "8", "--vocab-size", "400", "--task-for", "all", "--task", "wave"]
    assert main(["fit", str(untold), "-o", str(tmp_path / "f"), "--where", "length > 8", *options]) == 0
    made = FitResult.load(tmp_path / "f")
    assert (made.settings["where"], made.settings["task_for"]) == ("length > 8", "all")
    assert main(["fit", str(untold), "-o", str(tmp_path / "f"), *options]) == 2


def test_check_looks_at_the_chosen_episodes_only(untold, capsys):
    assert main(["check", str(untold), "--json", "--where", "task ~ fold"]) == 0
    codes = {finding["code"] for finding in json.loads(capsys.readouterr().out)[0]["findings"]}
    assert "empty-task" not in codes
    assert main(["check", str(untold), "--json"]) == 0
    codes = {finding["code"] for finding in json.loads(capsys.readouterr().out)[0]["findings"]}
    assert "empty-task" in codes
