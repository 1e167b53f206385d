"""Blocks of code in README and docs, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in ROOT.glob("docs/**/*.md")),
]
FENCE = re.compile(
    r"^(?P<mark><!-- not run: .*? -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    """A block of code.

    Attributes:
        page: Under the repository.
        line: Of its first line of code, from 1.
        language: After the fence; empty for none.
        code: Between the fences.
        runs: Whether nothing stands before it that says why it can't be run.
    """

    page: str
    line: int
    language: str
    code: str
    runs: bool

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """What a person would type, as words: comments, pipes and where output goes are left out."""
        joined = self.code.replace("\\\n", " ")
        lines = [line.removeprefix("$ ") for line in joined.splitlines() if line.strip()]
        if any(line.startswith("$ ") for line in joined.splitlines()):
            lines = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
        return [_words(line) for line in lines]


def blocks() -> list[Block]:
    """Every block of every page, in order."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("code")) + 1
            name = page.relative_to(ROOT).as_posix()
            found.append(Block(name, line, match["language"], match["code"], match["mark"] is None))
    return found


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>")
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if word[0] in "|>":
            break
        words.append(word)
    # TEXT_MODEL=$(...) and the like: a variable for what follows.
    return [] if words and re.match(r"^\w+=\$\(", words[0]) else words
