"""Every option that a message or docstring names is one that some command has."""

import ast
import re
from pathlib import Path

import pytest

import pioxide
from pioxide.cli.main import COMMANDS, main
from pioxide.train.recipes import RECIPES

PACKAGE = Path(pioxide.__file__).parent
# Taken before a command reads its arguments; and a variable of a style sheet.
COMMON = {"--events", "--json", "--quiet", "--verbose", "--version", "--first"}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]")


def named():
    """Each option that stands in a text of the package, and where."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for option in OPTION.findall(node.value):
                    found.setdefault(option, []).append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    return found


def test_every_option_that_is_named_exists(capsys):
    asked = [[name, "--help"] for name in COMMANDS if name != "train"]
    for arguments in [*asked, ["train", next(iter(RECIPES)), "--help"]]:
        with pytest.raises(SystemExit):
            main(arguments)
    # What begins a line of the help; sentences name options, too.
    heads = [line.strip(" │").split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    there = {option for head in heads if head.startswith("-") for option in OPTION.findall(head)} | COMMON
    missing = {option: places for option, places in named().items() if option not in there}
    assert not missing
    assert "--camera" in named()
