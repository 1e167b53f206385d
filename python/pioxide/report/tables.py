"""The same report in the terminal: findings, key figures, joints and worst chunks as rich tables."""

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pioxide.report.facts import Report
from pioxide.report.findings import Level, findings
from pioxide.report.html import MODELS
from pioxide.report.style import short

_MARKS = {Level.WARNING: ("!", "bold yellow"), Level.NOTE: ("·", "dim"), Level.GOOD: ("✓", "green")}


def print_report(report: Report, console: Console) -> None:
    """Prints what the page shows in pictures, as far as a terminal can."""
    source = report.source
    console.print()
    console.print(
        Text(f"{source.name}  ", style="bold").append(MODELS.get(source.model, source.model), style="dim")
    )
    console.print(
        f"{source.episodes:,} episodes, {source.frames:,} frames at {source.fps:g} Hz, "
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
    for table in (_lengths(report), _joints(report), _worst(report)):
        if table is not None:
            console.print(table)
            console.print()


def _table(*columns: str, title: str = "") -> Table:
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", header_style="dim", no_wrap=True)
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
    table = _table("", "mean", "median", "99 %", "max")
    for name, values in rows:
        median, p99 = np.percentile(values, [50, 99])
        table.add_row(name, f"{values.mean():.1f}", f"{median:.0f}", f"{p99:.0f}", f"{values.max()}")
    return table


def _joints(report: Report) -> Table | None:
    actions, errors = report.actions, report.reconstruction
    if actions is None and errors is None:
        return None
    columns = ["joint"]
    if actions is not None:
        columns += ["q01", "q99", "outside", "reach"]
    if errors is not None:
        columns += ["RMS error", "99 %", "largest", "in robot's units"]
    table = _table(*columns, title="Joints")
    for i, name in enumerate(report.source.joints):
        cells = [name]
        if actions is not None:
            cells += [short(float(actions.q01[i])), short(float(actions.q99[i])), f"{actions.outside[i]:.1%}"]
            cells.append("still" if actions.constant[i] else f"{actions.reach[i]:.1f}")
        if errors is not None:
            cells += [short(float(x[i])) for x in (errors.rms, errors.p99, errors.worst)]
            cells.append(short(float(errors.worst[i] * errors.unit[i])))
        table.add_row(*cells)
    return table


def _worst(report: Report) -> Table | None:
    errors = report.reconstruction
    if errors is None or not errors.worst_chunks:
        return None
    table = _table("episode", "frame", "largest error", "joint", title="Worst chunks")
    for chunk in errors.worst_chunks:
        joint = report.source.joints[chunk.worst_joints(1)[0]]
        table.add_row(str(chunk.episode), str(chunk.frame), short(chunk.error), joint)
    return table
