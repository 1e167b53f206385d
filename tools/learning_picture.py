"""Draws docs/images/learning.png: a run's loss and its success in closed loop, over its updates.

    python tools/learning_picture.py out/learn/reach-pi0

The run must have kept several checkpoints (--train.checkpoints.keep-every 250). Each is played by `pioxide
eval` over 100 fresh seeds, and its result is kept in RUN/played; what is there is not played again. Needs the
package with its train, eval and report extras.
"""

import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import tyro
from matplotlib.axes import Axes
from readme_picture import FIRST, INK, SECOND, SOFT, STYLE, fade_spines, panels, title
from tensorboardX.proto.event_pb2 import Event

from pioxide.evaluate import FIRST_FRESH_SEED, find_task
from pioxide.files import atomic_file

TARGET = Path(__file__).resolve().parent.parent / "docs/images/learning.png"


@dataclass(frozen=True)
class Options:
    """What is drawn.

    Attributes:
        run: The run's directory.
        task: The task that it learnt.
        seeds: Fresh seeds that each checkpoint plays.
    """

    run: tyro.conf.Positional[Path]
    task: str = "reach"
    seeds: int = 100


def main(options: Options) -> None:
    """Plays what has not been played, draws, and saves."""
    steps, losses = loss(options.run)
    kept = sorted(int(one.name) for one in (options.run / "checkpoints").iterdir() if one.name.isdigit())
    played = {step: scores(options, step) for step in kept}
    with matplotlib.rc_context(STYLE):
        figure, (seen, left, right) = panels([0.72, 1, 1.1], left=0.02, wspace=0.22)
        seen.imshow(view(options.task), interpolation="nearest")
        seen.axis("off")
        seen.set_anchor("N")
        title(seen, "what it sees", "64 pixels; the disc is in no number")
        left.plot(steps, losses, color=FIRST, linewidth=1.7)
        left.set_yscale("log")
        left.set_yticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
        left.minorticks_off()
        title(left, "flow-matching loss", "batches of 64, 0.8 million parameters")
        success(right, played)
        title(right, "success on layouts never seen", f"{options.seeds} each, in closed loop; 95% intervals")
        for axes in (left, right):
            axes.set_xlim(0, max(*steps, *kept) * 1.02)
            axes.tick_params(length=0, labelsize=9, labelcolor=SOFT)
            axes.set_xlabel("updates", color=SOFT, fontsize=9, loc="right", labelpad=1)
            fade_spines(axes)
        figure.savefig(TARGET, dpi=150, metadata={"Software": None}, pil_kwargs={"optimize": True})
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB, checkpoints after {kept} updates")


def loss(run: Path) -> tuple[list[int], list[float]]:
    """Updates and the loss there, from the run's TensorBoard logs."""
    found: dict[int, float] = {}
    for file in sorted((run / "logs").glob("events.*")):
        content, at = file.read_bytes(), 0
        while at + 12 <= len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += length + 16
            for value in event.summary.value:
                if value.tag == "train/loss":
                    found[event.step] = value.simple_value
    # An interrupted run's last report is of fewer updates than the others, and so noisier.
    whole = [step for step in sorted(found) if step % min(found) == 0]
    return whole, [found[step] for step in whole]


def scores(options: Options, step: int) -> dict[str, dict[str, Any]]:
    """Scores of a checkpoint over all kinds of instruction, by what was taken from it."""
    result = options.run / "played" / f"{step}.json"
    if not result.exists():
        made = subprocess.run(
            [
                *(sys.executable, "-m", "pioxide", "eval", options.run / "checkpoints" / str(step)),
                *("--task", options.task, "--seeds", str(options.seeds), "--without", "blank"),
                *("--num-steps", "5", "--json"),
            ],
            check=True,
            stdout=subprocess.PIPE,
        )
        result.parent.mkdir(exist_ok=True)
        with atomic_file(result) as out:
            out.write(made.stdout)
    return {one["variant"]: one for one in json.loads(result.read_text())["scores"] if one["kind"] == "all"}


def view(task: str) -> np.ndarray:
    """What the policy sees at the beginning of the first fresh seed."""
    environment = find_task(task).make()
    seen, _ = environment.reset(seed=FIRST_FRESH_SEED)
    environment.close()
    return seen["image"]


def success(axes: Axes, played: dict[int, dict[str, dict[str, Any]]]) -> None:
    """Success rates over updates, as it is and with the picture blanked."""
    for variant, colour, name in (("plain", FIRST, "as it is"), ("blank", SECOND, "picture blanked")):
        steps = [step for step, by in played.items() if variant in by]
        found = [played[step][variant] for step in steps]
        rates = np.array([one["rate"] for one in found])
        bars = [rates - [one["low"] for one in found], [one["high"] for one in found] - rates]
        axes.errorbar(steps, rates, bars, color=colour, linewidth=1.7, marker="o", markersize=4, elinewidth=1)
        axes.annotate(
            name,
            (steps[-1], rates[-1]),
            xytext=(0, 14 if rates[-1] < 0.5 else -20),
            textcoords="offset points",
            color=colour,
            fontsize=10,
            ha="right",
        )
    axes.set_ylim(0, 1.04)
    axes.set_yticks([0, 0.5, 1], ["0", "50%", "100%"], color=INK)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
