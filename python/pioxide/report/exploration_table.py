"""Codecs compared in the terminal: a table with a row a codec, the recommendation and its reasons."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pioxide.report.digits import short
from pioxide.shards.explore import Exploration
from pioxide.shards.trials import Trial

COLUMNS = ("codec", "tokens", "99%", "bits", "±", "RMS", "largest", "clipped", "noise")


def cells(trial: Trial) -> list[str]:
    """Returns a codec's row under `COLUMNS`."""
    return [
        trial.label,
        f"{trial.tokens['mean']:.1f}",
        f"{trial.tokens['p99']:.0f}",
        f"{trial.bits:,.0f}",
        "" if trial.bits_error is None else f"{trial.bits_error:,.0f}",
        f"{trial.rms:.4f}",
        short(trial.largest),
        f"{trial.clipped:.1%}",
        f"{trial.changed_by_actions:.1f}"
        + (f", {trial.changed_by_state:.1f}" if trial.changed_by_state else ""),
    ]


def print_exploration(exploration: Exploration, console: Console) -> None:
    """Prints what the page shows, as far as a terminal can."""
    found, how, drawn = exploration.recommendation, exploration.settings, exploration.drawn
    table = Table(box=None, padding=(0, 2, 0, 0))
    for i, column in enumerate(COLUMNS):
        justify = "left" if i == 0 else "right"
        table.add_column(column, justify=justify, header_style="dim", no_wrap=i > 0)
    for trial in exploration.trials:
        style = "bold" if trial.options == found.options else ""
        table.add_row(*cells(trial), style=style)
    console.print(table)
    noise = how["noise"]
    notes = (
        f"a chunk, on {drawn['chunks']['judge']:,} chunks of {len(drawn['episodes']['judge'])} episodes that "
        f"nothing was fitted on. bits: what a context model needs to predict the tokens. RMS and largest: "
        f"error in normalised actions. noise: tokens that change when all actions move by {noise:g}"
        + (", and when the state does" if exploration.dataset["relative"] else "")
    )
    console.print(Text(notes, style="dim"))
    console.print()
    for i, reason in enumerate(found.reasons):
        mark = ("✓" if found.suits else "!") if i == 0 else "·"
        line = Table.grid(padding=(0, 1))
        line.add_row(mark, Text(reason))
        console.print(line)
    best = next(trial for trial in exploration.trials if trial.options == found.options)
    worst = sorted(best.joints, key=lambda joint: -joint["rms"])[:3]
    named = ", ".join(f"{joint['name']} {joint['rms']:.4g}" for joint in worst)
    line = Table.grid(padding=(0, 1))
    line.add_row("·", Text(f"RMS error in the robot's units, where it is largest: {named}"))
    console.print(line)
