"""Draws docs/images/chunk-to-tokens.png for the README: a chunk, its tokens, and what they decode to.

    python tools/readme_picture.py

Needs the package with its data and report extras. The same input gives the same picture.
"""

import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from pioxide import demo
from pioxide.codec import FastCodec
from pioxide.data import LeRobotDataset
from pioxide.shards import FitSettings, FrameCutter, fit

TARGET = Path(__file__).resolve().parent.parent / "docs/images/chunk-to-tokens.png"
PAPER, INK, SOFT, RULE, FIRST, SECOND, FAINT = (
    "#ffffff", "#1d2129", "#5d6470", "#dcdcd8", "#1767a6", "#c2410c", "#cfe0ee",
)  # fmt: skip
STYLE = {"font.family": "DejaVu Sans", "font.size": 11, "axes.spines.top": False}
SHADES = matplotlib.colormaps["viridis"](np.linspace(0.08, 0.82, 14))


def main() -> None:
    """Draw and save."""
    names, chunk, ids, decoded = example()
    with matplotlib.rc_context(STYLE):
        figure, (left, middle, right) = panels([1, 0.92, 1], left=0.045, wspace=0.3)
        curves(left, chunk)
        title(
            left,
            "one second of two arms",
            f"{chunk.shape[0]} steps × {chunk.shape[1]} joints = {chunk.size} numbers",
        )
        tokens(middle, ids)
        title(middle, f"{len(ids)} tokens", f"{chunk.size / len(ids):.0f} times fewer")
        overlay(right, chunk, decoded)
        error = np.abs(decoded - chunk)
        title(right, "decoded again", f"off by {np.sqrt(np.mean(error**2)) / 2:.1%} of a joint's range (RMS)")
        for axes in (left, right):
            axes.set_xticks([0, 25, 49], ["0", "25", "step 49"], color=SOFT)
            axes.set_yticks([-1, 0, 1], ["-1", "0", "1"], color=SOFT)
            axes.tick_params(length=0, labelsize=9)
            fade_spines(axes)
            axes.set_ylim(-1.25, 1.25)
        for before, after, word in ((left, middle, "encode"), (middle, right, "decode")):
            x = (before.get_position().x1 + after.get_position().x0) / 2
            figure.text(x, 0.5, word, color=SOFT, fontsize=9, ha="center", va="bottom")
            figure.text(x, 0.485, "→", color=SOFT, fontsize=17, ha="center", va="top")
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(TARGET, dpi=150, metadata={"Software": None}, pil_kwargs={"optimize": True})
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB, {len(names)} joints, {len(ids)} tokens")


def example() -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """A busy chunk of a held-out episode: names [D], chunk [H, D], ids, decoded [H, D]."""
    with tempfile.TemporaryDirectory() as name:
        fitted = fit(demo.dataset_path(), Path(name) / "fit", FitSettings(horizon=50))
        codec = FastCodec.load(Path(name) / "fit")
    dataset = LeRobotDataset.open(demo.dataset_path())
    cutter = FrameCutter.of(fitted.contract, fitted.columns)
    episode = dataset.read(fitted.held_out[0], fitted.columns.all)
    chunks = np.concatenate([block.chunks for block in cutter.blocks(episode)])
    lengths = np.diff(codec.encode_batch(chunks).offsets)
    chosen = int(np.argsort(lengths, kind="stable")[int(0.75 * len(lengths))])
    ids = codec.encode(chunks[chosen]).ids
    decoded = codec.decode(ids, horizon=50, dim=chunks.shape[2]).actions
    return dataset.names(["action"]), chunks[chosen], ids, decoded


def panels(widths: list[float], *, left: float, wspace: float) -> tuple[Figure, list[Axes]]:
    """A picture of the README's size, and the panels side by side in it."""
    figure = Figure(figsize=(10.4, 3.5), facecolor=PAPER)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, len(widths), width_ratios=widths, left=left, right=0.985, top=0.8, bottom=0.14, wspace=wspace
    )
    return figure, [figure.add_subplot(cell) for cell in grid]


def fade_spines(axes: Axes) -> None:
    """Leaves two thin lines of the frame."""
    axes.spines["right"].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)


def title(axes: Axes, text: str, note: str) -> None:
    """A heading over a panel."""
    axes.annotate(
        text,
        (0, 1),
        xytext=(0, 27),
        xycoords="axes fraction",
        textcoords="offset points",
        color=INK,
        fontsize=13,
        fontweight="bold",
    )
    axes.annotate(
        note,
        (0, 1),
        xytext=(0, 11),
        xycoords="axes fraction",
        textcoords="offset points",
        color=SOFT,
        fontsize=10,
    )


def curves(axes: Axes, chunk: np.ndarray) -> None:
    """Every joint of a chunk [H, D]."""
    for joint, colour in enumerate(SHADES[: chunk.shape[1]]):
        axes.plot(chunk[:, joint], color=colour, linewidth=1.7)


def overlay(axes: Axes, chunk: np.ndarray, decoded: np.ndarray) -> None:
    """Decoded over original."""
    for joint, colour in enumerate(SHADES[: chunk.shape[1]]):
        axes.plot(chunk[:, joint], color=colour, linewidth=3.4, alpha=0.28, solid_capstyle="round")
        axes.plot(decoded[:, joint], color=colour, linewidth=1.2)


def tokens(axes: Axes, ids: np.ndarray) -> None:
    """The ids as boxes, in reading order."""
    columns = 7
    rows = -(-len(ids) // columns)
    for i, token in enumerate(ids):
        x, y = i % columns, i // columns
        axes.add_patch(
            FancyBboxPatch(
                (x + 0.08, y + 0.12),
                0.84,
                0.76,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor=FAINT,
                edgecolor="none",
            )
        )
        axes.text(x + 0.5, y + 0.5, str(token), color=FIRST, ha="center", va="center_baseline", fontsize=9)
    axes.set_xlim(0, columns)
    axes.set_ylim(max(rows, 5), 0)
    axes.axis("off")


if __name__ == "__main__":
    main()
