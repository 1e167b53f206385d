"""The distribution of normalised actions, joint by joint: what the network is asked to produce."""

import numpy as np

from pioxide.report.facts import ActionDensity
from pioxide.report.style import FAINT, FIRST, INK, SOFT, Picture, canvas, finish, grid


def action_density(names: tuple[str, ...], density: ActionDensity) -> Picture:
    """Draws a ridge a joint: the density of normalised values, scaled to its own peak (by square root)."""
    centres = (density.edges[:-1] + density.edges[1:]) / 2
    with canvas(0.6 + 0.185 * len(names)) as figure:
        axes = figure.add_subplot()
        for edge in (-1, 1):
            axes.axvline(edge, color=SOFT, linewidth=0.8, linestyle=(0, (3, 2)))
        for row, counts in enumerate(density.counts):
            height = np.sqrt(counts / max(1, counts.max())) * 0.86
            axes.fill_between(centres, row + 0.4 - height, row + 0.4, color=FAINT, linewidth=0, step="mid")
            axes.step(centres, row + 0.4 - height, where="mid", color=FIRST, linewidth=0.8)
        axes.set_yticks(np.arange(len(names)), names)
        axes.tick_params(axis="y", labelcolor=INK, labelsize=7.5)
        axes.set_ylim(len(names) - 0.4, -0.75)
        axes.set_xlim(density.edges[0], density.edges[-1])
        axes.spines["left"].set_visible(False)
        grid(axes, "x")
        axes.set_xlabel("normalised action (outermost bins hold what lies beyond)")
        alt = f"Distribution of the normalised actions of {len(names)} joints."
        return finish(figure, "density", alt)
