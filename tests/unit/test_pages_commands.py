"""No page shows a command, an option, a script or a target of make that is not there."""

import re
import shlex
import tomllib
from contextlib import redirect_stderr
from io import StringIO

import pytest

from pioxide.cli import main, output
from support.pages import ROOT, Block, blocks

SHELL = [block for block in blocks() if block.language in ("console", "sh", "bash", "")]
VARIABLE = re.compile(r"^[A-Z_]+=\S*$")
# Programs whose arguments are their own.
OTHERS = {"cargo", "git", "cd", "export", "g++", "cmake", "kill", "curl", "rerun"}


def test_every_fence_of_a_terminal_says_so() -> None:
    assert [b.place for b in SHELL if b.language != "console"] == []


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_what_is_typed_exists(block: Block) -> None:
    for words in block.commands:
        while words and VARIABLE.match(words[0]):
            words = words[1:]
        if words:
            check(words)


@pytest.mark.parametrize("page", ["docs/from-openpi.md", "docs/from-lerobot.md"])
def test_what_newcomers_are_told_to_type_exists(page: str) -> None:
    typed = re.findall(r"`(pioxide [a-z]+ [^`]+)`", (ROOT / page).read_text())
    for command in typed:
        if "..." not in command:
            check(shlex.split(command))
    assert len(typed) > 4


def test_an_option_that_is_not_there_is_noticed() -> None:
    with pytest.raises(AssertionError, match="--nothing"):
        check(["pioxide", "merge", "TOKENS", "--nothing"])


def check(words: list[str]) -> None:
    program, *rest = words
    if program == "pioxide":
        parse(rest)
    elif program == "pip":
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = re.findall(r"(?:pioxide|\.)\[([\w,]+)\]", " ".join(rest))
        assert {extra for names in named for extra in names.split(",")} <= set(known)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif program in ("python", ".venv/bin/python"):
        assert rest[0] in ("-c", "-m") or (ROOT / rest[0]).is_file(), rest[0]
    else:
        assert program in OTHERS, f"nobody checks {program}"


def parse(words: list[str]) -> None:
    """Reads a command as `pioxide` does, and runs nothing."""
    own = "--json" not in words or main._has_own_json(words[0])
    _, rest = output.split([word for word in words if word != "..."], own_json=own)
    said = StringIO()
    try:
        with redirect_stderr(said):
            main._parse(rest)
    except SystemExit as end:
        ended = end.code
    else:
        ended = 0
    assert ended == 0, f"pioxide {' '.join(words)}\n{said.getvalue()}"
