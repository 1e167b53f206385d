"""Reconstruction error a joint: what went in against what the tokens decode to."""

import numpy as np
from matplotlib.ticker import FuncFormatter

from pioxide.report.digits import short
from pioxide.report.facts import Reconstruction
from pioxide.report.style import FIRST, INK, PAPER, SECOND, SOFT, Picture, canvas, finish, grid


def error_by_joint(names: tuple[str, ...], errors: Reconstruction) -> Picture:
    """Draws a row a joint: RMS, 99th percentile and largest error in normalised units, logarithmic."""
    rows = np.arange(len(names))
    floor = max(float(errors.rms[errors.rms > 0].min(initial=1.0)) / 2, 1e-7)
    rms, p99, worst = (np.maximum(x, floor) for x in (errors.rms, errors.p99, errors.worst))
    with canvas(0.75 + 0.185 * len(names)) as figure:
        axes = figure.add_subplot()
        axes.hlines(rows, rms, worst, color=SOFT, linewidth=0.9, alpha=0.55)
        axes.scatter(
            worst, rows, s=15, facecolor=PAPER, edgecolor=SECOND, linewidth=1.2, label="largest", zorder=3
        )
        axes.scatter(p99, rows, s=34, marker="|", color=INK, linewidth=1.2, label="99th percentile", zorder=3)
        axes.scatter(rms, rows, s=19, color=FIRST, linewidth=0, label="RMS", zorder=3)
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.set_yticks(rows, names)
        axes.tick_params(axis="y", labelcolor=INK, labelsize=7.5)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        grid(axes, "x")
        axes.set_xlabel("error, normalised (1 is half the range from q01 to q99)")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles[::-1],
            labels[::-1],
            loc="outside upper right",
            ncols=3,
            frameon=False,
            fontsize=8,
            labelcolor=SOFT,
            handletextpad=0.2,
            columnspacing=1.2,
            borderpad=0,
        )
        top = int(np.argmax(errors.worst))
        alt = (
            f"Reconstruction error of {len(names)} joints. RMS over all {short(errors.overall_rms)}, "
            f"largest {short(errors.worst[top])} at {names[top]}."
        )
        return finish(figure, "joints", alt)
