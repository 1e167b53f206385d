"""How far each joint goes beyond the quantiles that normalise it."""

import numpy as np

from pioxide.report.facts import JointRanges
from pioxide.report.style import FIRST, INK, PAPER, SECOND, SOFT, Picture, canvas, finish, grid

_REACH_DRAWN = 4.0


def ranges(quantity: str, joints: JointRanges) -> Picture:
    """Draws a row a joint: a bar from q01 (-1) to q99 (1), a thin line to the extremes, a dot at the mean."""
    rows = np.arange(len(joints.names))
    moves = ~(joints.constant | joints.degenerate)
    width = np.where(moves, joints.q99 - joints.q01, 1.0)

    def normalised(values: np.ndarray) -> np.ndarray:
        scaled = (values - joints.q01) / width * 2 - 1
        return np.where(moves, np.clip(scaled, -_REACH_DRAWN, _REACH_DRAWN), 0.0)

    low, high, mean = normalised(joints.low), normalised(joints.high), normalised(joints.mean)
    with canvas(0.6 + 0.185 * len(rows)) as figure:
        axes = figure.add_subplot()
        axes.axvspan(-1, 1, color=FIRST, alpha=0.06, linewidth=0)
        axes.hlines(rows[moves], low[moves], high[moves], color=SECOND, linewidth=1.1)
        axes.hlines(rows[moves], -1, 1, color=FIRST, linewidth=4.5)
        axes.scatter(mean[moves], rows[moves], s=9, color=PAPER, linewidth=0, zorder=3)
        for side, marker in ((low, "<"), (high, ">")):
            beyond = moves & (np.abs(side) >= _REACH_DRAWN)
            axes.scatter(side[beyond], rows[beyond], s=16, marker=marker, color=SECOND, linewidth=0, zorder=3)
        for row in rows[~moves]:
            text = "never moves" if joints.constant[row] else "q01 equals q99"
            axes.annotate(text, (0, row), ha="center", va="center", color=SOFT, fontsize=7.5)
        axes.set_yticks(rows, joints.names)
        axes.tick_params(axis="y", labelcolor=INK, labelsize=7.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        reach = max(1.3, float(np.abs(np.stack([low, high])).max(initial=0)) * 1.06)
        axes.set_xlim(-reach, reach)
        axes.spines["left"].set_visible(False)
        grid(axes, "x")
        axes.set_xlabel("normalised by q01 (-1) and q99 (1)")
        worst = int(np.argmax(np.where(moves, joints.reach, 0)))
        alt = (
            f"Range of each joint's {quantity} against its quantiles; {joints.names[worst]} reaches "
            f"furthest, {joints.reach[worst]:.1f}."
        )
        return finish(figure, f"ranges-{quantity}", alt)
