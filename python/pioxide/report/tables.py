"""The same report in the terminal: findings, key figures, joints and worst chunks as rich tables."""

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pioxide.report.digits import short
from pioxide.report.document import count
from pioxide.report.facts import Floats, Report
from pioxide.report.findings import Level, findings

_MARKS = {Level.WARNING: ("!", "bold yellow"), Level.NOTE: ("·", "dim"), Level.GOOD: ("✓", "green")}


def print_report(report: Report, console: Console) -> None:
    """Prints what the page shows in pictures, as far as a terminal can."""
    source = report.source
    console.print()
    console.print(Text(f"{source.name}  ", style="bold").append(report.subject, style="dim"))
    console.print(
        f"{count(source.episodes, 'episode')}, {count(source.frames, 'frame')} at {source.fps:g} Hz, "
        f"chunks of {source.horizon} x {source.dim}",
        style="dim",
        highlight=False,
    )
    console.print()
    for finding in findings(report):
        mark, style = _MARKS[finding.level]
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(mark, style=style), Text(finding.text))
        console.print(line)
    console.print()
    for table in (_lengths(report), _joints(report, wide=console.width >= 100), _worst(report)):
        if table is not None:
            for column in table.columns[
                1:
            ]:  # where there is little room, names take more lines, and no number is cut
                column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
            console.print(table)
            console.print()


def _table(*columns: str, title: str = "") -> Table:
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    for i, column in enumerate(columns):
        table.add_column(
            column, justify="left" if i == 0 else "right", header_style="dim", no_wrap=i > 0, overflow="fold"
        )
    return table


def _lengths(report: Report) -> Table | None:
    rows = []
    if report.tokens is not None:
        rows.append(("tokens a chunk", report.tokens.per_chunk))
    if report.prompts is not None:
        rows.append(("tokens a prompt", report.prompts.lengths))
    rows = [(name, values) for name, values in rows if len(values)]
    if not rows:
        return None
    table = _table("", "mean", "median", "99%", "max")
    for name, values in rows:
        median, p99 = np.percentile(values, [50, 99])
        table.add_row(name, f"{values.mean():.1f}", f"{median:.0f}", f"{p99:.0f}", f"{values.max()}")
    return table


def _joints(report: Report, wide: bool) -> Table | None:
    actions, errors = report.actions, report.reconstruction
    if actions is None and errors is None:
        return None
    columns: dict[str, list[str]] = {"joint": list(report.source.joints)}
    if actions is not None:
        if wide:
            columns |= {"q01": _shorts(actions.q01), "q99": _shorts(actions.q99)}
        columns["outside"] = [f"{x:.1%}" for x in actions.outside]
        still = actions.constant
        columns["reach"] = ["still" if s else f"{x:.1f}" for s, x in zip(still, actions.reach, strict=True)]
    if errors is not None:
        columns["RMS error"] = _shorts(errors.rms)
        if wide:
            columns["99%"] = _shorts(errors.p99)
        columns |= {"largest": _shorts(errors.worst), "in robot's units": _shorts(errors.worst * errors.unit)}
    table = _table(*columns, title="Joints")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _shorts(values: Floats) -> list[str]:
    return [short(float(value)) for value in values]


def _worst(report: Report) -> Table | None:
    errors = report.reconstruction
    if errors is None or not errors.worst_chunks:
        return None
    table = _table("episode", "frame", "largest error", "joint", title="Worst chunks")
    for chunk in errors.worst_chunks:
        joint = report.source.joints[chunk.worst_joints(1)[0]]
        table.add_row(str(chunk.episode), str(chunk.frame), short(chunk.error), joint)
    return table
