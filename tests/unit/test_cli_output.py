"""What commands say besides their results: nothing unasked for, and events that a script can read."""

import ast
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pioxide
from pioxide.cli import main as cli
from pioxide.cli import output
from pioxide.errors import InputError
from support.jobs import World, content, make_world

pytest.importorskip("tyro")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def tokenize(world: World, out: Path, *more: str) -> list[str]:
    given = ["--fit", str(world.fitted), "--text-model", str(world.text_model), "--on-overflow", "clip"]
    shards = ["--model", "pi0_fast", "--shard-frames", "50"]
    return ["tokenize", str(world.v3), "-o", str(out), *shards, *given, *more]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_table_of_statuses_in_code_help_and_docs(capsys: pytest.CaptureFixture[str]) -> None:
    table = re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "docs/commands.md").read_text(), re.MULTILINE)
    assert {int(status): meaning for status, meaning in table} == cli.STATUSES
    assert {cli.OK, cli.OUR_FAULT, cli.YOUR_MISTAKE, cli.LEFT_OUT, cli.FOUND} <= set(cli.STATUSES)
    for arguments in (["--help"], ["help"], []):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        printed = capsys.readouterr().out
        for status, meaning in cli.STATUSES.items():
            assert f"{status:>3}  {meaning}" in printed


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_says_nothing_but_warnings_and_errors(flag, world, tmp_path, capsys) -> None:
    assert cli.main(tokenize(world, tmp_path / "out", flag)) == 0
    capsys.readouterr()
    assert cli.main(tokenize(world, tmp_path / "out", flag)) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "there already" not in printed.err
    assert cli.main(tokenize(world, tmp_path / "out", flag, "--limit", "3")) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "limit: nothing there, 3 now" in printed.err
    assert cli.main(["check", str(world.v3), "--json", flag]) == 0
    assert json.loads(capsys.readouterr().out)[0]["episodes"] == 6
    with pytest.raises(SystemExit):
        cli.main(["tokenize", flag, "--help"])
    assert "usage: pioxide tokenize" in capsys.readouterr().out


def test_events_of_a_job(world, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert cli.main(tokenize(world, out, "--json", "-v")) == 0
    said = lines(capsys.readouterr().out)
    assert said[0]["event"] == "start"
    assert said[0]["command"] == "tokenize"
    assert said[-1]["event"] == "done"
    assert (said[-1]["status"], said[-1]["output"]) == (0, str(out))
    assert said[-1]["totals"]["rows"] == 148
    assert all(one["time"] > 1.7e9 for one in said)
    progress = [one for one in said if one["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == 148
    assert progress[-1]["unit"] == "frames"
    logged = [one["message"] for one in said if one["event"] == "log"]
    assert any(re.match(r"shard-00000\.parquet: \d+ rows", line) for line in logged)
    assert cli.main(["merge", str(out), "--json"]) == 0
    assert lines(capsys.readouterr().out)[-1]["totals"]["rows"] == 148
    assert cli.main(tokenize(world, out, "--limit", "3", "--json")) == 2
    printed = capsys.readouterr()
    said = lines(printed.out)
    assert [said[0]["event"], said[-1]["event"], said[-1]["status"]] == ["start", "failed", 2]
    assert "limit: nothing there, 3 now" in said[-1]["message"]
    assert "limit: nothing there" in printed.err
    with pytest.raises(SystemExit):
        cli.main(["tokenize", "--json", "--no-such-option"])
    assert lines(capsys.readouterr().out)[-1]["event"] == "failed"


def test_events_beside_text(world, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert cli.main(tokenize(world, out, "--events", "--part", "1/2")) == 0
    printed = capsys.readouterr()
    assert "part 1/2 complete" in printed.out
    said = lines(printed.err)
    assert said[-1]["part"] == "1/2"
    assert said[-1]["shards"] == ["shard-00000.parquet", "shard-00002.parquet"]
    arguments = ["fit", str(world.v3), "-o", str(tmp_path / "f"), "--horizon", "8", "--vocab-size", "400"]
    assert cli.main([*arguments, "--events"]) == 0
    said = lines(capsys.readouterr().err)
    assert "statistics of 6 episodes" in [one.get("what") for one in said]
    assert cli.main(["check", str(world.v3), str(world.v21), "--events"]) == 0
    said = lines(capsys.readouterr().err)
    assert [one["done"] for one in said if one["event"] == "progress"][-1] == 2


def test_events_of_warnings_and_of_strict(world, tmp_path, capsys) -> None:
    from pioxide.data import EpisodeData
    from support.datasets import episodes, write_v21

    data = episodes((30, 30, 30))
    write_v21(tmp_path / "d", [EpisodeData(data[0].columns, ""), *data[1:]])
    arguments = tokenize(world, tmp_path / "out", "--events", "--strict")
    arguments[1] = str(tmp_path / "d")
    assert cli.main(arguments) == 4
    said = lines(capsys.readouterr().err)
    warnings = [one for one in said if one["event"] == "warning"]
    assert warnings
    assert all({"code", "place", "message"} <= one.keys() for one in warnings)
    assert said[-1]["event"] == "failed"
    assert said[-1]["status"] == 4
    assert not (tmp_path / "out").exists()


def test_verbose_shows_log_lines_once_and_leaves_logging_as_it_was(world, tmp_path, capsys) -> None:
    import logging

    log = logging.getLogger("pioxide")
    before = (list(log.handlers), log.level, log.propagate)
    assert cli.main(tokenize(world, tmp_path / "out", "-v")) == 0
    err = capsys.readouterr().err
    assert len(re.findall(r"^INFO pioxide\.shards\.run: shard-00000\.parquet", err, re.MULTILINE)) == 1
    assert (list(log.handlers), log.level, log.propagate) == before
    assert output.current.speaks


def test_command_that_formats_its_own_log_lines_does(monkeypatch, capsys) -> None:
    """`pioxide serve` writes the time before each."""
    import logging

    def serve() -> None:
        assert logging.getLogger("pioxide").propagate
        assert not logging.getLogger("pioxide").handlers

    monkeypatch.setattr(cli, "_parse", lambda _: serve)
    assert cli.main(["serve"]) == 0


def test_reader_of_events_that_has_gone_stops_no_job(world, tmp_path) -> None:
    out = tmp_path / "out"
    arguments = [sys.executable, "-m", "pioxide", *tokenize(world, out, "--json")]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(60) == 0
    assert "manifest.json" in content(out)


def test_failure_of_ours_is_an_event_too(monkeypatch, capsys) -> None:
    def broken():
        raise RuntimeError("boom")

    monkeypatch.setattr(cli, "_parse", lambda _: broken)
    assert cli.main(["anything", "--events"]) == 1
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["event"], last["status"]) == ("failed", 1)

    def mistaken():
        raise InputError("no")

    monkeypatch.setattr(cli, "_parse", lambda _: mistaken)
    assert cli.main(["anything", "--events"]) == 2
    assert lines(capsys.readouterr().err)[-1]["message"] == "no"


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_for_terminals(world, tmp_path, terminal: bool) -> None:
    out = tmp_path / "out"
    jobs = [tokenize(world, out), ["merge", str(out)], ["check", str(world.v3)], ["inspect", str(out)]]
    for job in jobs:
        ours, theirs = pty.openpty() if terminal else os.pipe()
        child = subprocess.Popen(
            [sys.executable, "-m", "pioxide", *job], stdout=subprocess.DEVNULL, stderr=theirs, env=plain()
        )
        os.close(theirs)
        said = b""
        while block := read(ours):
            said += block
        os.close(ours)
        assert child.wait(60) == 0, said
        assert (b"\x1b[" in said) == terminal, (job, said)


def plain() -> dict[str, str]:
    away = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
    return {name: value for name, value in os.environ.items() if name not in away} | {"TERM": "xterm"}


def read(handle: int) -> bytes:
    try:
        return os.read(handle, 65536)
    except OSError:  # how Linux says that the other end of a terminal was closed
        return b""


def test_library_prints_nothing() -> None:
    package = Path(pioxide.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        if name.startswith("cli/") or name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{name}:{node.lineno}")
    assert found == []


def test_cut_rows_are_warned_of_however_quiet_a_command_is(world: World, tmp_path: Path, capsys) -> None:
    cut = ["--max-len", "20"]
    assert cli.main(tokenize(world, tmp_path / "quiet", "-q", *cut)) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "rows are longer than 20 tokens and were cut" in printed.err
    assert "--max-len " in printed.err
    assert cli.main(tokenize(world, tmp_path / "part", "-q", *cut, "--part", "1/2")) == 0
    assert "rows are longer than 20 tokens" in capsys.readouterr().err
    assert cli.main(tokenize(world, tmp_path / "events", "--json", *cut)) == 0
    said = [event for event in lines(capsys.readouterr().out) if event.get("code") == "rows-cut"]
    assert len(said) == 1
    assert "were cut" in said[0]["message"]
