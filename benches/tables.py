"""Tables of figures, for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Table(NamedTuple):
    """A title, columns' names, rows of cells by name (as many as there are columns, or fewer), and notes."""

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        longest = max(map(len, self.rows))
        widths = [
            max(len(name), *(len(cells[i]) for cells in self.rows.values() if i < len(cells)))
            for i, name in enumerate(self.columns)
        ]

        def line(name: str, cells: tuple[str, ...]) -> str:
            return "  ".join([name.ljust(longest), *map(str.rjust, cells, widths)])

        lines = [self.title, line("", self.columns), *(line(name, row) for name, row in self.rows.items())]
        return "\n".join([*lines, *self.notes])

    def markdown(self) -> str:
        def line(name: str, cells: tuple[str, ...]) -> str:
            empty = [""] * (len(self.columns) - len(cells))
            return f"| {' | '.join([name.replace('|', chr(92) + '|'), *cells, *empty])} |"

        rule = "|---" * (len(self.columns) + 1) + "|"
        lines = [line("", self.columns), rule, *(line(name, row) for name, row in self.rows.items())]
        notes = [part for note in self.notes for part in ("", note)]
        return "\n".join([f"**{self.title}**", "", *lines, *notes])
