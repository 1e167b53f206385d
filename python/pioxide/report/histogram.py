"""Histograms of counts: tokens a chunk, and prompt lengths against the length they are cut at."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pioxide.report.facts import Ints
from pioxide.report.style import FAINT, FIRST, INK, SECOND, SOFT, Picture, canvas, finish, grid, thousands


def tokens_per_chunk(per_chunk: Ints) -> Picture:
    """Draws the tokens that FAST needs for a chunk, median and 99th percentile marked."""
    median, p99 = np.percentile(per_chunk, [50, 99])
    with canvas(2.5) as figure:
        axes = figure.add_subplot()
        _bars(axes, per_chunk, "tokens a chunk", "chunks")
        leftmost = _near_left(axes, median)
        _mark(axes, median, f"median {median:.0f}", INK, left=not leftmost)
        if p99 > median:
            low, high = axes.get_xlim()
            crowded = p99 > low + 0.86 * (high - low)
            _mark(
                axes, p99, f"99%: {p99:.0f}", SOFT, left=crowded, level=0.91 if crowded or leftmost else 1.0
            )
        alt = f"Histogram of tokens a chunk: median {median:.0f}, 99% {p99:.0f}, most {per_chunk.max()}."
        return finish(figure, "tokens", alt)


def prompt_lengths(lengths: Ints, max_len: int) -> Picture:
    """Draws prompt lengths before cutting; what lies right of `max_len` lost its end."""
    with canvas(2.5) as figure:
        axes = figure.add_subplot()
        bars = _bars(axes, lengths, "tokens a prompt, before cutting", "frames")
        for bar in bars:
            if bar.get_x() >= max_len:
                bar.set_facecolor(SECOND)
        axes.set_xlim(right=max(max_len, int(lengths.max())) * 1.03)
        _mark(axes, max_len, f"cut at {max_len}", SECOND, left=not _near_left(axes, max_len))
        cut = int((lengths > max_len).sum())
        alt = (
            f"Histogram of prompt lengths, longest {lengths.max()}; {cut} of {len(lengths)} exceed {max_len}."
        )
        return finish(figure, "prompts", alt)


def _bars(axes: Axes, values: Ints, x_label: str, y_label: str):
    low, high = int(values.min()), int(values.max())
    step = max(1, -(-(high - low + 1) // 48))
    edges = np.arange(low, high + step + 1, step) - 0.5
    heights, _ = np.histogram(values, edges)
    bars = axes.bar((edges[:-1] + edges[1:]) / 2, heights, color=FIRST, width=step * 0.86)
    grid(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.yaxis.set_major_formatter(FuncFormatter(thousands))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.margins(y=0.22)
    return bars


def _near_left(axes: Axes, x: float) -> bool:
    """Returns whether a label left of `x` would be written over the axis."""
    low, high = axes.get_xlim()
    return x < low + 0.2 * (high - low)


def _mark(axes: Axes, x: float, text: str, color: str, left: bool = False, level: float = 1.0) -> None:
    axes.axvline(x, color=color, linewidth=1.1, linestyle=(0, (3, 2)))
    axes.annotate(
        text,
        (x, level),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, -2),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        color=color,
        fontsize=8,
    ).set_in_layout(False)


def token_use(use: Ints) -> Picture:
    """Draws how often each id of the vocabulary is used, most frequent first, both axes logarithmic."""
    counts = np.sort(use)[::-1]
    seen = int((counts > 0).sum())
    with canvas(2.5) as figure:
        axes = figure.add_subplot()
        ranks = np.arange(1, seen + 1)
        axes.fill_between(ranks, counts[:seen], 0.8, color=FAINT, linewidth=0)
        axes.plot(ranks, counts[:seen], color=FIRST)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.8)
        axes.set_xlim(1, len(use))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
        axes.yaxis.set_major_formatter(FuncFormatter(thousands))
        grid(axes)
        axes.set_xlabel("token, most frequent first")
        axes.set_ylabel("times used")
        if seen < len(use):
            axes.axvline(seen, color=SECOND, linewidth=1.1, linestyle=(0, (3, 2)))
            axes.annotate(
                f"{len(use) - seen:,} of {len(use):,} never used",
                (seen, 0.97),
                xycoords=("data", "axes fraction"),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="top",
                color=SECOND,
                fontsize=8,
            )
        return finish(figure, "use", f"Use of the vocabulary by rank: {seen} of {len(use)} tokens occur.")
