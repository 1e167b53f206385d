"""Figures and tables as the commands print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def printable(text: str) -> str:
    """Spells out control characters in a text that may hold names out of a file: a terminal obeys them."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def size(number: float) -> str:
    """Bytes as people say them: "1.4 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: 1 shard, 1,234 shards."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def share(part: int, whole: int) -> str:
    """Returns a part and its percentage: 86 (0.6%); never 0.0% for something."""
    if part == 0 or whole == 0:
        return f"{part:,}"
    percent = 100 * part / whole
    return f"{part:,} ({percent:.1f}%)" if percent >= 0.05 else f"{part:,} (under 0.1%)"


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Prints name and value pairs, aligned."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def console() -> Console:
    """Returns a terminal to print tables on."""
    from rich.console import Console

    return Console(highlight=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; the first column is text, the others are numbers."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0, overflow="fold")
    for row in rows:
        made.add_row(*row)
    for column in made.columns[1:]:  # where there is little room, names take more lines, and no number is cut
        column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
    console().print(made)


def contract(sentence: str, other_names: Sequence[tuple[str, str]] = ()) -> None:
    """Prints what the numbers mean, and which joints the robot and the dataset call by other names."""
    print(f"  {printable(sentence)}")
    if other_names:
        pairs = ", ".join(f"{ours} / {theirs}" for ours, theirs in other_names)
        print(f"  NOTE: taken for the same, though named otherwise (robot / dataset): {printable(pairs)}")
