"""Train small policies on the tasks of `pioxide.evaluate` and count how often they succeed: `make learn`.

For each task and model: demonstrations, training, 100 fresh seeds in closed loop, by the commands that are
printed. Everything lies below `out/learn`; what is there is not made again, and an interrupted training goes
on.

    python tools/learn.py                      # all of it, one after the other
    python tools/learn.py --only reach:pi0     # one of them
"""

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from pioxide import demo
from pioxide.cli.show import table
from pioxide.files import write_json

ROBOTS = {"reach": "tabletop", "words": "tabletop-targets", "push": "tabletop"}
# Ids of a prompt: the instruction, for π0.5 the digits of the state, for π0-FAST the answer as well.
TEXT = {
    "reach": {"pi0": 16, "pi05": 48, "pi0_fast": 64},
    "words": {"pi0": 16, "pi05": 96, "pi0_fast": 112},
    "push": {"pi0": 16, "pi05": 48, "pi0_fast": 64},
}


@dataclass(frozen=True)
class Plan:
    """One policy: what it learns, from how much, for how long."""

    task: str
    family: str
    episodes: int
    steps: int
    peak: float = 1e-3

    @property
    def name(self) -> str:
        return f"{self.task}:{self.family}"


PLANS = (
    Plan("reach", "pi0", 1000, 1000),
    Plan("reach", "pi05", 1500, 1500),
    Plan("reach", "pi0_fast", 1500, 1500),
    Plan("words", "pi0", 2000, 3000, peak=2e-3),
    Plan("words", "pi05", 2000, 3000, peak=2e-3),
    Plan("words", "pi0_fast", 2000, 3000, peak=2e-3),
    Plan("push", "pi0", 1500, 3500),
)


@dataclass(frozen=True)
class Options:
    """What is run.

    Attributes:
        only: These instead of all, TASK:MODEL with commas between.
        out: Where everything goes.
        seeds: Episodes of each evaluation, and of each thing that is taken from the policy.
    """

    only: str = ""
    out: Path = Path("out/learn")
    seeds: int = 100


def command(*words: object) -> list[str]:
    """Prints a command and returns it."""
    line = ["pioxide", *map(str, words)]
    print(f"\n$ {shlex.join(line)}", flush=True)
    return [sys.executable, "-m", *line]


def learn(plan: Plan, options: Options) -> dict[str, Any]:
    """Makes everything of one plan that is not there yet; returns its result."""
    data = options.out / f"{plan.task}-{plan.episodes}"
    run = options.out / f"{plan.task}-{plan.family}"
    result = run / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    if not data.exists():
        subprocess.run(command("record", plan.task, "--episodes", plan.episodes, "-o", data), check=True)
    began = time.monotonic()
    training = [
        *("train", "mini", data, "-o", run, "--resume"),
        *("--data.robot", ROBOTS[plan.task], "--data.text-model", demo.text_model_path()),
        *("--numbers.family", plan.family.upper(), "--numbers.text-len", TEXT[plan.task][plan.family]),
        *("--train.steps", plan.steps, "--train.checkpoints.every", 250),
        "--train.learn-padding",  # of a model from noise, whose padded numbers are anything otherwise
        *("--train.schedule.peak", plan.peak, "--train.schedule.end", plan.peak / 20),
    ]
    subprocess.run(command(*training), check=True)
    seconds = time.monotonic() - began
    # One instruction can't be exchanged.
    without = "blank,exchanged" if plan.task == "words" else "blank"
    judging = [
        *("eval", run / "checkpoints" / str(plan.steps), "--task", plan.task, "--seeds", options.seeds),
        *("--without", without, "--video", run / "film.mp4", "--json"),
    ]
    if plan.family != "pi0_fast":
        judging += ["--num-steps", 5]
    judged = subprocess.run(command(*judging), check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(judged.stdout) | {"training_seconds": seconds}
    write_json(result, found)
    return found


def main(options: Options) -> None:
    """Runs the chosen plans, and prints a table of them."""
    names = [one.strip() for one in options.only.split(",") if one.strip()]
    if unknown := set(names) - {plan.name for plan in PLANS}:
        sys.exit(f"there is no plan {min(unknown)!r}; there is {', '.join(plan.name for plan in PLANS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    shown = (("plain", "all"), ("plain", "named"), ("plain", "lit"), ("blank", "all"), ("exchanged", "all"))
    rows = []
    for plan in PLANS:
        if names and plan.name not in names:
            continue
        found = learn(plan, options)
        by = {
            (s["variant"], s["kind"]): f"{s['rate']:.0%} ({s['low']:.0%}-{s['high']:.0%})"
            for s in found["scores"]
        }
        made = (f"{plan.episodes:,}", f"{plan.steps:,}", f"{found['training_seconds'] / 60:.0f}")
        rows.append([plan.name, *made, *(by.get(key, "") for key in shown)])
    columns = ["task:model", "demos", "updates", "minutes", "success", "named", "lit", "blanked", "exchanged"]
    print()
    table(f"{options.seeds} fresh seeds each, with 95% intervals", columns, rows)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
