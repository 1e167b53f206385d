"""The chunks that came back worst, drawn: original against decoded, for the joints that suffered most."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from pioxide.report.digits import short
from pioxide.report.facts import WorstChunk
from pioxide.report.style import FIRST, INK, SECOND, SOFT, Picture, canvas, finish, grid

JOINTS_DRAWN = 3
_SMALLEST_SPAN = 0.25  # of the vertical axis, so that an error of a hundredth doesn't look like a cliff


def worst_chunk(rank: int, names: tuple[str, ...], chunk: WorstChunk) -> Picture:
    """Draws a panel for each of the worst joints of one chunk, normalised values by step."""
    joints = chunk.worst_joints(min(JOINTS_DRAWN, len(names)))
    steps = np.arange(len(chunk.original))
    with canvas(0.95 * len(joints) + 0.5, width=3.5) as figure:
        panels = figure.subplots(len(joints), 1, sharex=True, squeeze=False)[:, 0]
        for axes, joint in zip(panels, joints, strict=True):
            before, after = chunk.original[:, joint], chunk.decoded[:, joint]
            worst = int(np.argmax(np.abs(after - before)))
            marker = {"marker": "o", "markersize": 3} if len(steps) == 1 else {}
            axes.fill_between(steps, before, after, color=SECOND, alpha=0.16, linewidth=0)
            axes.plot(steps, before, color=FIRST, label="original", **marker)
            axes.plot(
                steps, after, color=SECOND, linewidth=1.1, linestyle=(0, (4, 1.6)), label="decoded", **marker
            )
            axes.plot([worst, worst], [before[worst], after[worst]], color=INK, linewidth=1.0)
            axes.set_title(names[joint], color=INK, fontsize=8, pad=3)
            axes.set_title(
                f"{short(abs(after[worst] - before[worst]))} at step {worst}",
                loc="right",
                color=SOFT,
                fontsize=8,
                pad=3,
            )
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.margins(y=0.12)
            low, high = axes.get_ylim()
            missing = max(0.0, _SMALLEST_SPAN - (high - low)) / 2
            axes.set_ylim(low - missing, high + missing)
            grid(axes)
        panels[-1].set_xlabel("step of the chunk")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=2,
            frameon=False,
            fontsize=8,
            labelcolor=SOFT,
            borderpad=0,
        )
        alt = (
            f"Episode {chunk.episode}, frame {chunk.frame}: original and decoded "
            f"{', '.join(names[j] for j in joints)}; largest error {short(chunk.error)}."
        )
        return finish(figure, f"worst{rank}", alt)
