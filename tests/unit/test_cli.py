"""The command line's frame: help without heavy imports, exit statuses, a sentence instead of a traceback."""

import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pioxide
from pioxide.cli import main as cli
from pioxide.cli import show
from pioxide.errors import InputError

pytest.importorskip("tyro")


class Command:
    """Stands in for a command that ends in some way."""

    def __init__(self, end) -> None:
        self.end = end

    def __call__(self):
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (3, 3, ""),
        (InputError("joint 3 is NaN"), 2, "pioxide: joint 3 is NaN\n"),
        (KeyboardInterrupt(), 130, "pioxide: interrupted\n"),
        (KeyboardInterrupt("2 shards are kept"), 130, "pioxide: 2 shards are kept\n"),
        (ModuleNotFoundError("No module", name="pyarrow.parquet"), 2, 'pip install "pioxide[data]"'),
        (ModuleNotFoundError("No module", name="matplotlib"), 2, 'pip install "pioxide[report]"'),
        (ModuleNotFoundError("No module", name="something_of_ours"), 1, "fault in pioxide"),
        (InputError("lacks \x1b[2Ja\u202eb"), 2, "pioxide: lacks \\x1b[2Ja\\u202eb\n"),
        (MemoryError("no 5 GiB"), 2, "pioxide: not enough memory: no 5 GiB\n"),
        (RuntimeError("boom"), 1, "fault in pioxide"),
    ],
)
def test_exit_status_and_sentence(
    end, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_parse", lambda _: Command(end))
    assert cli.main(["anything"]) == status
    error = capsys.readouterr().err
    assert said in error
    # A traceback is for our own faults alone.
    assert ("Traceback" in error) == (status == 1)


# What stands for a value in a help; "[TEXT" is how a list of texts begins.
KNOWN = """
    INT NUMBER NUMBER,NUMBER TEXT [TEXT NAME NAME|FILE.yaml URL DIR FILE FILE.html FILE.mp4 DATASET FITTED
    TOKENS TOKENS|FITTED RUN CKPT N/OF N,-N A,B A:B,!C COLUMN COLUMN|FILE.json FILE.json
    CONDITION SLOT=KEY
"""


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_explains_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"] if command else [])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: pioxide {command}".strip() in out
    for name in [] if command else cli.COMMANDS:
        assert f"• {name}" in out
    assert "(default: )" not in out
    assert "(default: '')" not in out


@pytest.mark.parametrize("command", [[name] for name in cli.COMMANDS] + [["train", "mini"]])
def test_commands_write_values_alike(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    out = capsys.readouterr().out
    said = set(re.findall(r"^│ (?:-o \S+, )?--[a-z0-9.-]+ ([^ ,│]+)", out, re.MULTILINE))
    choices = {one for one in said if one.startswith("{")}
    assert said - choices <= set(KNOWN.split())
    # A choice is written as its value, never as the name of a constant.
    assert [one for one in choices if not one.startswith(("{None}", "{reach")) and one != one.lower()] == []
    assert not re.search(r"\b(STR|FLOAT)\b", out.splitlines()[0])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pioxide.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('jax', 'flax', 'pyarrow', 'matplotlib', 'fsspec', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version_and_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pioxide {pioxide.__version__}\n"
    with pytest.raises(SystemExit) as end:
        cli.main(["fit", "--no-such-option"])
    assert end.value.code == 2


def test_base_install_says_which_extra_the_command_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without_tyro(name: str, *args, **kwargs):
        if name.partition(".")[0] == "tyro":
            raise ModuleNotFoundError("No module named 'tyro'", name="tyro")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tyro)
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["fit", "--help"]) == 2
    assert 'pip install "pioxide[data]"' in capsys.readouterr().err
    # What there is can be seen without.
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)
    assert 'pip install "pioxide[data]"' in out


@pytest.mark.parametrize(("command", "extra"), cli.NEEDS.items())
def test_a_command_names_all_it_needs_at_once(
    command: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(arguments: list[str]) -> None:
        raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.setattr(cli, "_parse", missing)
    assert cli.main([command, "x"]) == 2
    assert f'pip install "pioxide[{extra}]"' in capsys.readouterr().err


def test_every_extra_named_is_declared() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert {*cli.EXTRAS.values(), *cli.NEEDS.values()} <= set(project["optional-dependencies"])


def test_figures_as_people_say_them() -> None:
    assert [show.size(n) for n in (0, 999, 1500, 2.5e9)] == ["0 bytes", "999 bytes", "1.5 kB", "2.5 GB"]
    assert (show.counted(1, "shard"), show.counted(1234, "shard")) == ("1 shard", "1,234 shards")
    assert [show.share(*p) for p in ((0, 10), (1, 100_000), (6, 100))] == ["0", "1 (under 0.1%)", "6 (6.0%)"]


@pytest.mark.parametrize("width", [30, 44, 60])
def test_numbers_in_a_table_are_never_cut(width: int, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show.table("", ["joint", "RMS", "largest"], [["a_joint_with_a_long_name" * 3, "0.001234", "12.3456"]])
    out = capsys.readouterr().out
    assert "0.001234" in out
    assert "12.3456" in out


def test_version_help_and_a_near_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-V"]) == 0
    assert capsys.readouterr().out == f"pioxide {pioxide.__version__}\n"
    with pytest.raises(SystemExit) as end:
        cli.main(["help", "fit"])
    assert end.value.code == 0
    assert "usage: pioxide fit" in capsys.readouterr().out
    for said, hint in [("tokenise", "did you mean tokenize?"), ("xyzzy", "there is demo, check, index")]:
        assert cli.main([said]) == 2
        assert f"no command '{said}'; {hint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "train mini data -o out --data.camera a=b --data.camera=c=d",
        "serve checkpoint --prompt one --prompt two",
        "fit data -o out --drop 1 --drop 2",
    ],
)
def test_an_option_of_several_values_that_stands_twice_is_refused(line, capsys):
    """The second would take the first one's place."""
    assert cli.main(line.split()) == 2
    assert "is given twice: write all its values after one --" in capsys.readouterr().err
