"""How smoothly one action chunk follows another: what is recorded in the loop, its measure, its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.control import ActionQueue, LimitViolation, LoopReport, OnEmpty

ARM_JOINTS, GRIPPERS = np.r_[0:6, 7:13], np.array([6, 13])
SHOWN = {0: "left waist", 1: "left shoulder", 2: "left elbow"}
COLORS = ("#d1495b", "#1f7a8c")
GREY = "#9aa5b1"


class Takeover(NamedTuple):
    """A chunk [H, D] that took over at `tick`, `delay` actions after its observation."""

    tick: int
    delay: float
    actions: NDArray[np.float64]


class RecordedQueue(ActionQueue):
    """An action queue that remembers what went in and out.

    Attributes:
        takeovers: The chunks that were played, at least in part.
        played: What came out, tick by tick, before any limit: NaN where there was nothing.
        dry: Ticks that found no fresh action.
    """

    def __init__(self, dim: int) -> None:
        """An empty queue that holds the last action when it runs dry."""
        super().__init__(OnEmpty.HOLD)
        self.takeovers: list[Takeover] = []
        self.played: list[NDArray[np.float64]] = []
        self._nothing = np.full(dim, np.nan)

    def put(self, actions, *rest):
        """See `ActionQueue.put`."""
        delay = super().put(actions, *rest)
        if delay is not None:
            self.takeovers.append(Takeover(len(self.played), delay, np.array(actions, np.float64)))
        return delay

    def take(self):
        """See `ActionQueue.take`."""
        taken = super().take()
        self.played.append(self._nothing if taken.action is None else taken.action)
        return taken


@dataclass(frozen=True)
class Run:
    """One run of the loop.

    Attributes:
        name: What to call it.
        actions: [T, D] what the policy's chunks said, tick by tick; NaN before the first chunk.
        sent: [T, D] what the safety filter let through.
        takeovers: The chunks.
        report: Ticks and late ticks.
        bites: Each time that a limit changed an action.
        dry: Ticks without a fresh action.
    """

    name: str
    actions: NDArray[np.float64]
    sent: NDArray[np.float64]
    takeovers: Sequence[Takeover]
    report: LoopReport
    bites: Sequence[LimitViolation]
    dry: int


class Seams(NamedTuple):
    """Steps from one tick's action to the next, the largest of any arm joint [rad].

    Attributes:
        ticks: [N] the ticks at which one chunk took over from another.
        jumps: [N] the step into each of them.
        ordinary: [M] all other steps, inside chunks.
        ordinary_ticks: [M] where they lead.
    """

    ticks: NDArray[np.int64]
    jumps: NDArray[np.float64]
    ordinary: NDArray[np.float64]
    ordinary_ticks: NDArray[np.int64]


def measure(run: Run, joints: NDArray[np.int64] = ARM_JOINTS) -> Seams:
    """The jumps at the seams and the steps between them.

    The first chunk has no seam: nothing was played before it.
    """
    steps = np.abs(np.diff(run.actions[:, joints], axis=0)).max(axis=1)
    into = np.arange(1, len(run.actions))
    at_seam = np.isin(into, [takeover.tick for takeover in run.takeovers[1:]])
    inside = ~at_seam & np.isfinite(steps)
    return Seams(into[at_seam], steps[at_seam], steps[inside], into[inside])


def plot(path: Path, runs: Sequence[Run], *, hz: float, speed: float, subtitle: str) -> None:
    """Draws joints across seams, run beside run, and the size of every step under them.

    Args:
        path: The PNG.
        runs: One or two.
        hz: Ticks a second.
        speed: The safety filter's limit, radians a second.
        subtitle: What was run.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    rows = len(SHOWN) + 1
    figure, axes = plt.subplots(
        rows,
        len(runs),
        figsize=(13, 9.6),
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=[1] * len(SHOWN) + [1.25],
    )
    ticks = max(len(run.actions) for run in runs)
    for column, (run, color) in enumerate(zip(runs, COLORS, strict=False)):
        seams, time = measure(run), np.arange(len(run.actions)) / hz
        for row, (joint, name) in enumerate(SHOWN.items()):
            ax = axes[row][column]
            for takeover in run.takeovers:
                plan = takeover.actions[int(takeover.delay) :, joint]
                at = (takeover.tick + np.arange(len(plan))) / hz
                ax.plot(at, plan, color=GREY, lw=0.9, ls=(0, (3, 2)), zorder=1)
            for tick in seams.ticks:
                ax.axvline(tick / hz, color="#e3e7eb", lw=0.8, zorder=0)
            for begin, end in _pieces(run):
                ax.plot(time[begin:end], run.actions[begin:end, joint], color=color, lw=1.9, zorder=3)
            for tick in seams.ticks:
                pair = slice(tick - 1, tick + 1)
                ax.plot(time[pair], run.actions[pair, joint], color=color, lw=0.9, zorder=2)
                ax.plot(time[tick], run.actions[tick, joint], "o", color=color, ms=3.2, zorder=4)
            ax.plot(time, run.sent[:, joint], color="black", lw=0.9, zorder=2)
            if column == 0:
                ax.set_ylabel(f"{name}\n[rad]")
        axes[0][column].set_title(run.name, color=color, fontweight="bold", fontsize=12, pad=8)
        ax = axes[-1][column]
        ax.axhline(speed / hz, color="black", lw=0.8, ls=":")
        ax.plot(seams.ordinary_ticks / hz, seams.ordinary, ".", color=GREY, ms=3)
        ax.vlines(seams.ticks / hz, np.median(seams.ordinary), seams.jumps, color=color, lw=1)
        ax.plot(seams.ticks / hz, seams.jumps, "o", color=color, ms=5)
        ax.set_yscale("log")
        ax.set_xlabel("time [s]")
        ax.set_xlim(0, ticks / hz)
        if len(seams.jumps):
            jump, ordinary = seams.jumps.mean(), seams.ordinary.mean()
            times = f" = {jump / ordinary:.1f} ordinary steps" if ordinary else ""
            ax.set_title(f"mean jump {jump:.3f} rad{times}", fontsize=10, loc="left")
    axes[-1][0].set_ylabel("largest step of\nan arm joint [rad]")
    key = [
        *(
            Line2D([], [], color=c, lw=2, marker="o", ms=4, label=f"the chunks' actions, {r.name}")
            for r, c in zip(runs, COLORS, strict=False)
        ),
        Line2D([], [], color="black", lw=0.8, label="sent, after the safety filter"),
        Line2D([], [], color=GREY, lw=0.9, ls=(0, (3, 2)), label="the rest of a chunk, not played"),
        Line2D([], [], color=GREY, marker=".", ls="", label="ordinary step"),
        Line2D([], [], color="black", lw=0.8, ls=":", label=f"speed limit, {speed:g} rad/s"),
    ]
    figure.suptitle("Where one action chunk takes over from another", fontsize=14, fontweight="bold", y=0.985)
    figure.text(0.5, 0.942, subtitle, ha="center", fontsize=9.5, color="#52606d")
    figure.legend(handles=key, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.align_ylabels()
    figure.tight_layout(rect=(0, 0.06, 1, 0.955))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _pieces(run: Run) -> list[tuple[int, int]]:
    """From each takeover to the next."""
    edges = [takeover.tick for takeover in run.takeovers] + [len(run.actions)]
    return list(pairwise(edges))
