"""Data that were looked at when they were fitted are not looked at again before they become tokens."""

from pathlib import Path

import pytest

import pioxide.data
from pioxide.cli.main import main
from support.datasets import episodes, write_v21
from support.jobs import LENGTHS
from support.text_model import write_text_model


@pytest.fixture
def world(tmp_path, monkeypatch):
    data = episodes(LENGTHS)
    for episode in data:
        episode.columns["action"][:, 1] = 0.5
    root = write_v21(tmp_path / "d", data)
    write_text_model(tmp_path / "text.model")
    assert main(["fit", str(root), "-o", str(tmp_path / "f"), "--horizon", "8", "--vocab-size", "400"]) == 0
    looked: list[Path] = []
    check = pioxide.data.check_dataset

    def noted(dataset, *args, **kwargs):
        looked.append(dataset.path)
        return check(dataset, *args, **kwargs)

    monkeypatch.setattr(pioxide.data, "check_dataset", noted)
    return tmp_path, looked


def tokenize(root: Path, out: str, *more: str) -> int:
    given = ["--model", "pi0", "--fit", str(root / "f"), "--text-model", str(root / "text.model")]
    return main(["tokenize", str(root / "d"), "-o", str(root / out), *given, *more])


def test_the_same_data_are_looked_at_once_and_the_warnings_said_again(world, capsys):
    root, looked = world
    assert tokenize(root, "t") == 0
    kept = [line for line in capsys.readouterr().err.splitlines() if "warning:" in line]
    assert looked == []
    assert any("elbow (actions): never moves" in line for line in kept)
    (root / "f" / "findings.json").unlink()
    assert tokenize(root, "u") == 0
    assert [line for line in capsys.readouterr().err.splitlines() if "warning:" in line] == kept
    assert len(looked) == 1
    assert tokenize(root, "strict", "--strict") == 4


def test_other_episodes_other_data_and_a_damaged_file_are_looked_at(world):
    root, looked = world
    assert tokenize(root, "a", "--episodes", "0:3") == 0
    assert len(looked) == 1
    (root / "f" / "findings.json").write_text("{")
    assert tokenize(root, "b") == 0
    assert len(looked) == 2
