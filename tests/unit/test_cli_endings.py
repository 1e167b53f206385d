"""How a command ends when it is stopped, or when nobody takes what it prints."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pioxide.cli import main as cli
from pioxide.files import new_directory

pytest.importorskip("tyro")


def run(monkeypatch: pytest.MonkeyPatch, command) -> int:
    monkeypatch.setattr(cli, "_parse", lambda _: command)
    return cli.main(["anything"])


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated"),
    ],
)
def test_stopped_command_leaves_nothing_half_written(
    number, status, said, tmp_path, monkeypatch, capsys
) -> None:
    def command() -> None:
        with new_directory(tmp_path / "out") as directory:
            (directory / "half").touch()
            os.kill(os.getpid(), number)
            signal.pause()

    before = signal.getsignal(number)
    assert run(monkeypatch, command) == status
    assert os.listdir(tmp_path) == []
    assert capsys.readouterr().err == f"pioxide: {said}\n"
    assert signal.getsignal(number) is before


def test_interrupt_that_an_import_turned_into_an_error(monkeypatch, capsys) -> None:
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            raise ImportError("numpy.core could not be imported") from None

    assert run(monkeypatch, command) == 130
    assert capsys.readouterr().err == "pioxide: interrupted\n"


def test_interrupt_while_the_command_line_is_imported() -> None:
    code = """
import os, runpy, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "pioxide.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
sys.meta_path.insert(0, Interrupting())
runpy.run_module("pioxide", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "pioxide: interrupted\n")


def test_reader_that_has_enough() -> None:
    """`pioxide inspect | head -1`: rich would end the process with status 1."""
    code = """
import sys
from pioxide.cli import main as cli, show
cli._parse = lambda _: lambda: show.table("title", ["a"], [["x" * 50]] * 5_000)
sys.exit(cli.main(["anything"]))
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(60) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["fit", "--help"]])
def test_full_disk_behind_standard_output(arguments) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pioxide", *arguments], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr == b"pioxide: can't write the output: No space left on device\n"


def test_other_error_of_the_system_is_still_a_fault_of_ours(monkeypatch, capsys) -> None:
    def command() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    assert run(monkeypatch, command) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ascii_locale_takes_names_that_are_no_utf8(tmp_path: Path) -> None:
    environment = os.environ | {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    name = os.fsencode(tmp_path) + b"/robot-\xe4-\xcf\x80"
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"pioxide", b"fit", name, b"-o", b"x"],
        capture_output=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert b"no such directory" in done.stderr
    assert b"Traceback" not in done.stderr


def job(stage: str, done: Path) -> list[str]:
    """A process that says what it does, then makes a file, then prints a result."""
    code = f"""
import sys
from pathlib import Path
from rich.console import Console
from pioxide.cli import main, output, show
def command():
    sys.stdin.read()  # until the reader of the output has gone
    output.current.stage({stage!r})
    Console(stderr=True).print({stage!r})
    Path({str(done)!r}).touch()
    show.console().print({stage!r})
    print("result")
    return 3
main._parse = lambda _: command
sys.exit(main.main(["anything"]))
"""
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("gone", ["stdout", "stderr"])
def test_work_goes_on_when_the_reader_of_the_output_has_gone(gone: str, tmp_path: Path) -> None:
    command, pipe = job("counting", tmp_path / "made"), subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        closed = process.stdout if gone == "stdout" else process.stderr
        kept = process.stderr if gone == "stdout" else process.stdout
        assert closed is not None
        assert kept is not None
        assert process.stdin is not None
        closed.close()
        process.stdin.close()
        said = kept.read().decode()
        assert process.wait(60) == 3  # what the command itself says, and not that all is well
    assert (tmp_path / "made").exists()
    assert "Traceback" not in said
    assert ("counting" if gone == "stdout" else "result") in said


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_command_without_standard_streams(closed: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    command = [*job("counting", made)]
    line = f'exec "$0" "$@" {closed}'
    done = subprocess.run(["sh", "-c", line, *command], input=b"", capture_output=True, timeout=60)
    assert (done.returncode, made.exists()) == (3, True)
    assert b"Traceback" not in done.stderr
    assert done.stdout == (b"" if ">&- " in f"{closed} ".replace("2>&-", "") else b"counting\nresult\n")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EMFILE, errno.EFBIG])
def test_what_the_machine_refuses_is_no_fault_of_pioxide(number: int, monkeypatch, capsys) -> None:
    def command() -> None:
        raise OSError(number, os.strerror(number), "/data/run")

    assert run(monkeypatch, command) == 2
    said = capsys.readouterr().err
    assert "/data/run: " in said
    assert os.strerror(number) in said
    assert "Traceback" not in said
