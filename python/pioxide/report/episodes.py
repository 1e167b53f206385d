"""Tokens by episode: the ones that stand apart are the ones to look at."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from pioxide.report.facts import Ints
from pioxide.report.style import FIRST, SOFT, Picture, canvas, finish, grid


def tokens_by_episode(episode: Ints, per_chunk: Ints) -> Picture:
    """Draws a line an episode from the 5th to the 95th percentile of tokens a chunk, a dot at the mean."""
    episodes, index = np.unique(episode, return_inverse=True)
    groups = np.split(per_chunk[np.argsort(index, kind="stable")], np.cumsum(np.bincount(index))[:-1])
    mean = np.array([group.mean() for group in groups])
    low, high = np.array([np.percentile(group, [5, 95]) for group in groups]).T
    with canvas(2.5) as figure:
        axes = figure.add_subplot()
        many = len(episodes) > 150
        axes.vlines(episodes, low, high, color=FIRST, linewidth=0.6 if many else 1.6, alpha=0.4)
        axes.scatter(episodes, mean, s=4 if many else 12, color=FIRST, linewidth=0, zorder=3)
        overall = float(per_chunk.mean())
        axes.axhline(overall, color=SOFT, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.set_ylim(bottom=0)
        axes.margins(y=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        grid(axes)
        axes.set_xlabel("episode (dot: mean; line: 5% to 95% of its chunks)")
        axes.set_ylabel("tokens a chunk")
        far = int(np.argmax(np.abs(mean - overall)))
        alt = f"Tokens a chunk in {len(episodes)} episodes; furthest apart: {episodes[far]}, {mean[far]:.0f}."
        return finish(figure, "episodes", alt)
