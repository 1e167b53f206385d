"""An examination in the terminal: the contract in tables, then what was found."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pioxide.report.digits import short
from pioxide.report.doctor.contract_table import JointRow, camera_rows, facts
from pioxide.report.doctor.diagnosis import Diagnosis, Severity
from pioxide.report.doctor.examine import Examination

_MARKS = {
    Severity.PROBLEM: ("✗", "bold red"),
    Severity.WARNING: ("!", "bold yellow"),
    Severity.NOTE: ("·", "dim"),
}


def print_examination(examination: Examination, console: Console) -> None:
    """Prints the contract as a person would want it, and the diagnoses, the gravest first."""
    contract, subject = examination.contract, examination.subject
    console.print()
    console.print(Text(f"{subject.path}  ", style="bold").append(str(subject.kind), style="dim"))
    grid = Table.grid(padding=(0, 2))
    for title, value in facts(contract):
        grid.add_row(Text(title, style="dim"), _plain(value))
    console.print(grid)
    console.print()
    if examination.joints:
        console.print(_joints(examination.joints, wide=console.width >= 110))
        console.print()
    if cameras := camera_rows(contract):
        table = _table("slot", "camera", "", title="Cameras, in the model's order")
        for row in cameras:
            table.add_row(*map(_plain, row))
        console.print(table)
        console.print()
    _print_prompt(examination, console)
    _print_found(examination, console)


def _joints(rows: tuple[JointRow, ...], wide: bool) -> Table:
    """Columns that say nothing about any joint are left out, and in a narrow terminal some more."""
    columns = {
        "": [str(row.index) for row in rows],
        "joint": [row.name for row in rows],
        "unit": [row.unit for row in rows],
        "state": [_range(row.state_range) for row in rows],
        "outside": [_share(row.state_outside) for row in rows],
        "actions": [_range(row.action_range) for row in rows],
        "outside ": [_share(row.action_outside) for row in rows],
        "sign": ["-" if row.sign < 0 else "+" for row in rows],
        "actions are": [
            "" if row.relative is None else "relative" if row.relative else "absolute" for row in rows
        ],
        "gripper": [row.gripper for row in rows],
    }
    columns = {
        title: values
        for title, values in columns.items()
        if any(values) and not set(values) <= {"+"} and (wide or title not in _WIDE)
    }
    table = _table(*columns, title="Numbers, as the statistics have them", numeric={"state", "actions"})
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(_plain, row))
    return table


_WIDE = ("unit", "outside", "outside ")


def _table(*columns: str, title: str, numeric: set[str] = frozenset()) -> Table:  # pyright: ignore[reportArgumentType]
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        right = column in numeric or column.startswith("outside")
        table.add_column(column, justify="right" if right else "left", header_style="dim", no_wrap=True)
    return table


def _print_prompt(examination: Examination, console: Console) -> None:
    example = examination.prompt
    if example is None:
        return
    console.print(Text("Prompt, for the mean state", style="bold"))
    console.print(Text(repr(example.text)))
    if example.tokens is not None:
        of = "" if example.limit is None else f" of {example.limit}"
        console.print(Text(f"{example.tokens}{of} tokens", style="dim"))
    console.print()


def _print_found(examination: Examination, console: Console) -> None:
    replayed = examination.replayed
    if replayed is not None:
        console.print(
            Text(f"{replayed.frames:,} frames of {replayed.episodes} episodes replayed", style="dim")
        )
    for one in examination.found:
        mark, style = _MARKS[one.severity]
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text(mark, style=style), _sentence(one))
        console.print(grid)
    if examination.worst in (None, Severity.NOTE):
        console.print(Text("✓ nothing disagrees", style="green"))


def _sentence(one: Diagnosis) -> Text:
    text = Text(_printable(f"{one.where}: "), style="bold").append(_printable(one.message), style="not bold")
    if one.way_out:
        text.append(_printable(f"\n-> {one.way_out}"), style="not bold dim")
    return text.append(f"  [{one.code}]", style="not bold dim")


def _plain(text: str) -> Text:
    return Text(_printable(text))


def _printable(text: str) -> str:
    """Names come out of files, and a terminal obeys their control characters."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _range(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{short(ends[0])}..{short(ends[1])}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
