"""`pioxide check`: what it prints and how it ends."""

import json
import os
from pathlib import Path

import pytest

from pioxide.cli import main as cli
from support.datasets import write_v3, write_v21

pytest.importorskip("tyro")


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    write_v3(tmp_path / "good")
    warned = write_v21(tmp_path / "warned")
    file = warned / "meta/info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"total_frames": 1}))
    broken = write_v21(tmp_path / "broken")
    os.truncate(broken / "data/chunk-000/episode_000001.parquet", 1000)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "options", "status"),
    [
        (["good"], [], 0),
        (["good"], ["--strict"], 0),
        (["warned"], [], 0),
        (["good", "warned"], ["--strict"], 4),
        (["broken"], [], 3),
        ([""], ["--strict"], 3),
        (["nowhere"], [], 3),
    ],
)
def test_exit_status(datasets: Path, names, options, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(datasets / name) for name in names]
    assert cli.main(["check", *paths, "--workers", "1", *options]) == status
    out = capsys.readouterr().out
    assert ("nothing found" in out) == (names == ["good"])


def test_place_message_and_way_out_are_printed(datasets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["check", str(datasets), "--workers", "1"])
    out = capsys.readouterr().out
    assert "fault: episode 1 (data/chunk-000/episode_000001.parquet): can't be read as Parquet" in out
    assert "[episode-unusable]\n      --skip-bad leaves it out" in out
    assert "warning: meta/info.json: total_frames is 1, but the listed episodes make 20" in out
    assert "3 datasets" in out


def test_json_is_alone_on_standard_output(datasets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(datasets / "*"), "--json", "--workers", "2"]) == 3
    found = {Path(d["path"]).name: d for d in json.loads(capsys.readouterr().out)}
    assert {name: [f["code"] for f in d["findings"]] for name, d in found.items()} == {
        "good": [],
        "warned": ["totals-differ"],
        "broken": ["episode-unusable"],
    }
    assert found["broken"]["findings"][0]["episodes"] == [1]
    assert (found["good"]["version"], found["good"]["frames"]) == ("v3.0", 20)


def test_no_path_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 2
    assert "name a dataset" in capsys.readouterr().err
