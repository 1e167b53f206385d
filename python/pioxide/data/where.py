"""Conditions on episodes, such as `length >= 30 and task ~ bottle`: read, and tried on what is known of one.

The language is small on purpose: comparisons joined by "and" and "or" ("and" binds closer). Nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pioxide.errors import InputError

# A quoted text, an operator, or a word; what is left over can't be read.
_TOKEN = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|(>=|<=|!=|==|!~|=|<|>|~)|([^\s"'<>=!~]+))""")
_ORDER: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}
EXAMPLE = "write it as 'length >= 30 and task ~ bottle', texts of several words in quotes"


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Attributes:
        name: of what is known of an episode.
        operator: =, !=, <, <=, >, >=, ~ (contains, without regard to case) or !~.
        value: as written.
    """

    name: str
    operator: str
    value: str

    def holds(self, known: Any) -> bool:
        """Returns whether it is true of a value, or of one of several; what is not known makes it false.

        Of several values (instructions of an episode), != and !~ have to hold for all.

        Raises:
            InputError: a text is asked whether it is larger, or a number is compared with a text.
        """
        if known is None:
            return False
        if isinstance(known, list | tuple):
            every = all if self.operator in ("!=", "!~") else any
            return bool(known) and every(self.holds(one) for one in known)
        if self.operator in ("~", "!~"):
            return (self.value.casefold() in str(known).casefold()) == (self.operator == "~")
        if isinstance(known, bool):
            return self._equal(known, {"true": True, "false": False}.get(self.value.lower()), "true or false")
        if isinstance(known, int | float):
            try:
                number = float(self.value)
            except ValueError:
                number = None
            if self.operator in _ORDER and number is not None:
                return _ORDER[self.operator](known, number)
            return self._equal(known, number, "a number")
        if self.operator in _ORDER:
            raise InputError(f"where {self}: {self.name} is a text, which = != ~ and !~ are for")
        return self._equal(str(known), self.value, "a text")

    def _equal(self, known: Any, value: Any, expected: str) -> bool:
        if value is None or self.operator in _ORDER:
            raise InputError(f"where {self}: {self.name} is compared with {expected}")
        return (known == value) == (self.operator != "!=")

    def __str__(self) -> str:
        """Returns it as it is written."""
        return f"{self.name} {self.operator} {self.value}"


@dataclass(frozen=True)
class Condition:
    """Alternatives of comparisons that all have to hold.

    Attributes:
        alternatives: one of which has to be true.
    """

    alternatives: tuple[tuple[Comparison, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Returns what has to be known of an episode."""
        return tuple(dict.fromkeys(one.name for every in self.alternatives for one in every))

    def holds(self, known: Mapping[str, Any]) -> bool:
        """Returns whether it is true of an episode of which this is known.

        Raises:
            InputError: see `Comparison.holds`.
        """
        return any(all(one.holds(known[one.name]) for one in every) for every in self.alternatives)


def parse(text: str) -> Condition:
    """Reads a condition.

    >>> parse("length >= 30 and task ~ 'pick and place' or success = true").holds(
    ...     {"length": 12, "task": ["fold"], "success": True}
    ... )
    True

    Raises:
        InputError: it can't be read; says where, and how it is written.
    """
    alternatives: list[tuple[Comparison, ...]] = []
    every: list[Comparison] = []
    part: list[tuple[str, str]] = []
    for kind, token in [*_tokens(text), ("end", "")]:
        joins = kind == "word" and token in ("and", "or")
        if not joins and kind != "end":
            part.append((kind, token))
            continue
        every.append(_comparison(text, part))
        part = []
        if token != "and":
            alternatives.append(tuple(every))
            every = []
    return Condition(tuple(alternatives))


def _comparison(text: str, part: list[tuple[str, str]]) -> Comparison:
    kinds = [kind for kind, _ in part]
    tokens = [token for _, token in part]
    if len(part) < 3 or kinds[0] == "operator" or kinds[1] != "operator" or "operator" in kinds[2:]:
        said = " ".join(tokens) or "nothing"
        raise InputError(f"where {text!r}: {said!r} is no comparison; {EXAMPLE}")
    operator = "=" if tokens[1] == "==" else tokens[1]
    return Comparison(tokens[0], operator, " ".join(tokens[2:]))


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InputError(f"where {text!r}: can't be read from {text[at:].strip()[:20]!r} on; {EXAMPLE}")
        double, single, operator, word = match.groups()
        if operator is not None:
            found.append(("operator", operator))
        elif word is not None:
            found.append(("word", word))
        else:
            found.append(("text", double if double is not None else single))
        at = match.end()
    return found
