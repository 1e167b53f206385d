"""Codecs compared in one picture and on one page: what they lose against what it costs to predict them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pioxide.report.digits import short
from pioxide.report.document import Column, Figure, Page, Remark, Section, Table, render, write
from pioxide.report.exploration_table import COLUMNS, cells
from pioxide.report.style import FIRST, INK, PAPER, RULE, SECOND, SOFT, Picture, canvas, finish
from pioxide.shards.explore import Exploration
from pioxide.shards.trials import Trial

_LOOKS = {"fast": ("o", FIRST, "FAST"), "binning": ("s", SECOND, "binning"), "beast": ("^", INK, "BEAST")}


def codecs_compared(exploration: Exploration) -> Picture:
    """Draws two panels over the RMS error: bits a chunk, and tokens a chunk; all axes logarithmic."""
    limit = exploration.settings["max_error"]
    with canvas(3.4, 9.0) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _panel(left, exploration, lambda trial: trial.bits, "bits a chunk, to be predicted")
        _panel(right, exploration, lambda trial: trial.tokens["mean"], "tokens a chunk, one pass each")
        left.set_ylabel("RMS error, normalised")
        left.annotate(
            "accurate enough below",
            (0.01, limit),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3),
            textcoords="offset points",
            va="top",
            color=SOFT,
            fontsize=7.5,
        )
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper right",
            ncols=4,
            frameon=False,
            fontsize=8,
            labelcolor=SOFT,
            handletextpad=0.2,
            borderpad=0,
        )
        best = _recommended(exploration)
        alt = (
            f"RMS error against bits and against tokens a chunk for {len(exploration.trials)} codecs. "
            f"Recommended is {best.label}: {best.bits:.0f} bits, {best.tokens['mean']:.0f} tokens, "
            f"error {best.rms:.4f}."
        )
        return finish(figure, "codecs", alt)


def _panel(axes: Axes, exploration: Exploration, x: Callable[[Trial], float], label: str) -> None:
    axes.axhline(exploration.settings["max_error"], color=RULE, linewidth=1.1)
    for kind, (marker, color, name) in _LOOKS.items():
        own = [trial for trial in exploration.trials if trial.codec == kind]
        if own:
            places = [x(trial) for trial in own], [trial.rms for trial in own]
            axes.scatter(*places, s=26, marker=marker, facecolor=PAPER, edgecolor=color, label=name, zorder=3)
    best = _recommended(exploration)
    axes.scatter(x(best), best.rms, s=120, facecolor="none", edgecolor=INK, label="recommended", zorder=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
    axes.margins(0.08)
    axes.grid(visible=True)
    axes.set_xlabel(label)


def exploration_page(exploration: Exploration) -> str:
    """Returns one self-contained HTML page: the recommendation, the picture, the table."""
    found = exploration.recommendation
    mark = "fine" if found.suits else "warning"
    chunks = exploration.drawn["chunks"]
    lead = (
        f"{len(exploration.trials)} codecs, fitted on {chunks['train']:,} chunks and judged on "
        f"{chunks['judge']:,} of {len(exploration.drawn['episodes']['judge'])} other episodes."
    )
    note = "Below the line a codec is accurate enough; further to the left it is easier to predict."
    table = Table([Column(title) for title in COLUMNS], [cells(trial) for trial in exploration.trials])
    command = f"pioxide fit DATASET {found.options} -o FITTED"
    return render(
        Page(
            eyebrow="Action codecs compared",
            title=exploration.dataset["name"],
            lead=lead,
            remarks=[Remark(mark if i == 0 else "note", reason) for i, reason in enumerate(found.reasons)],
            sections=[
                Section(
                    "Compared",
                    made=[("recommended", command)],
                    figures=[Figure("Error against what it costs", note, codecs_compared(exploration))],
                    wide=True,
                ),
                Section("Every codec", table=table),
            ],
        )
    )


def write_exploration_page(exploration: Exploration, path: Path) -> None:
    """Writes the page, complete or not at all.

    Raises:
        OutputError: The file can't be written.
    """
    write(exploration_page(exploration), path)


def _recommended(exploration: Exploration) -> Trial:
    options = exploration.recommendation.options
    return next(trial for trial in exploration.trials if trial.options == options)
