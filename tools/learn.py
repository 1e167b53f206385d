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
# Ids of a prompt: the instruction, for π0.5 the numbers of the state, for π0-FAST the answer as well.
TEXT = {
    "reach": {"pi0": 8, "pi05": 28, "pi0_fast": 48},
    "words": {"pi0": 12, "pi05": 36, "pi0_fast": 60},
    "push": {"pi0": 12, "pi05": 32, "pi0_fast": 52},
}
# Actions that an answer comes late, where that is judged.
DELAY = 4


@dataclass(frozen=True)
class Plan:
    """One policy: what it learns, from how much, for how long.

    Attributes:
        task: What it learns.
        family: Which model.
        episodes: Demonstrations.
        steps: Updates.
        peak: Of the learning rate.
        max_delay: For trained real-time chunking: the largest delay, in actions.
        base: Name of the plan whose policy it starts from; "" for noise.
        late: Ways to continue chunks (--realtime) that it is also judged by, with answers that come late.
        kind: Kinds of instruction that are recorded, by commas; "" for all.
        only: What its name ends in, where it is one of several of a task and a model.
        lora: Rank of low-rank updates, of language model and action expert; 0 for training everything.
        kinds: Kinds that it is also judged by, one by one, and its base beside it.
        targets: What π0.5 learns from (--train.loss.targets); "" for the flow alone.
        repeats: Draws of noise and flow time for each row (--train.loss.flow-num-repeats).
    """

    task: str
    family: str
    episodes: int
    steps: int
    peak: float = 1e-3
    max_delay: int = 0
    base: str = ""
    late: tuple[str, ...] = ()
    kind: str = ""
    only: str = ""
    lora: int = 0
    kinds: tuple[str, ...] = ()
    targets: str = ""
    repeats: int = 1

    @property
    def name(self) -> str:
        """What tables and directories call it."""
        return f"{self.task}:{self.family}" + (f":{self.only}" if self.only else "")

    @property
    def data(self) -> str:
        """What its demonstrations' directory is called."""
        return f"{self.task}-{self.episodes}" + (f"-{self.kind.replace(',', '-')}" if self.kind else "")


def third_lamp(only: str, kind: str) -> Plan:
    """Returns a policy of two lamps' colours that goes on by low-rank updates, to a third."""
    return Plan(
        *("words", "pi0", 300, 300),
        base="words:pi0:two-lamps",
        kind=kind,
        only=only,
        lora=8,
        kinds=("lit-three", "lit-one,lit-two", "named"),
    )


PLANS = (
    Plan("reach", "pi0", 1500, 1500, late=("off", "guided")),
    Plan("reach", "pi0", 1500, 400, 5e-4, DELAY, "reach:pi0", ("trained",), only="delay4"),
    Plan("reach", "pi05", 1500, 2000),
    Plan("reach", "pi05", 1500, 1000, only="insulated", targets="INSULATED"),
    Plan("reach", "pi05", 1500, 1000, only="joint", targets="JOINT"),
    Plan("reach", "pi0_fast", 1500, 1000),
    Plan("words", "pi0", 2000, 3000, peak=2e-3),
    Plan("words", "pi05", 12000, 3000, peak=2e-3, targets="JOINT", repeats=4),
    Plan("words", "pi0_fast", 12000, 4000, peak=2e-3),
    Plan("words", "pi0", 2000, 1500, peak=2e-3, kind="named,lit-one,lit-two", only="two-lamps"),
    third_lamp("third-lamp", "lit-three"),
    third_lamp("third-lamp-mixed", "named,lit-one,lit-two,lit-three"),
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


def directory(plan: Plan, options: Options) -> Path:
    """Returns the directory of a plan's run."""
    return options.out / plan.name.replace(":", "-")


def learn(plan: Plan, options: Options) -> dict[str, Any]:
    """Makes everything of one plan that is not there yet; returns its result."""
    data, run = options.out / plan.data, directory(plan, options)
    result = run / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    if not data.exists():
        kind = ("--kind", plan.kind) if plan.kind else ()
        subprocess.run(
            command("record", plan.task, "--episodes", plan.episodes, *kind, "-o", data), check=True
        )
    began = time.monotonic()
    training = [
        *("train", "mini", data, "-o", run, "--resume"),
        *("--data.robot", ROBOTS[plan.task], "--data.text-model", demo.text_model_path()),
        *("--numbers.family", plan.family.upper(), "--numbers.text-len", TEXT[plan.task][plan.family]),
        *("--train.steps", plan.steps, "--train.checkpoints.every", 250),
        *("--train.checkpoints.keep-every", 250),
        "--train.learn-padding",  # of a model from noise, whose padded numbers are anything otherwise
        *("--train.schedule.peak", plan.peak, "--train.schedule.end", plan.peak / 20),
    ]
    if plan.max_delay:
        training += ["--numbers.max-delay", plan.max_delay]
    if plan.targets:
        training += ["--train.loss.targets", plan.targets, "--train.loss.answer-len", 24]
    if plan.repeats > 1:
        training += ["--train.loss.flow-num-repeats", plan.repeats]
    if plan.lora:
        training += ["--train.lora.language", plan.lora, "--train.lora.action", plan.lora]
    base = None
    if plan.base:
        (before,) = (one for one in PLANS if one.name == plan.base)
        learn(before, options)
        base = directory(before, options) / "checkpoints" / str(before.steps)
        width = json.loads((base / "assets/contract.json").read_text())["model_dim"]
        training += ["--train.base", base, "--numbers.model-dim", width]
        training += ["--data.no-cut-vocabulary", "--data.text-model", base / "assets/tokenizer.model"]
        training += ["--data.statistics", base]  # the numbers mean what they meant to it
    subprocess.run(command(*training), check=True)
    seconds = time.monotonic() - began
    # One instruction can't be exchanged.
    without = "blank,exchanged" if plan.task == "words" else "blank"
    checkpoint = run / "checkpoints" / str(plan.steps)
    judging = ["eval", checkpoint, "--task", plan.task, "--seeds", options.seeds]
    if plan.family != "pi0_fast":
        judging += ["--num-steps", 5]
    found = judged(*judging, "--without", without, "--video", run / "film.mp4")
    late = {how: judged(*judging, "--delay", DELAY, "--realtime", how) for how in plan.late}
    kinds = {}
    for kind in plan.kinds:
        asked = ("--task", plan.task, "--seeds", options.seeds, "--num-steps", 5, "--kind", kind)
        kinds[kind] = [judged("eval", one, *asked)["scores"][0] for one in (base, checkpoint)]
    found |= {"training_seconds": seconds, "late": late, "kinds": kinds}
    write_json(result, found)
    return found


def judged(*words: object) -> dict[str, Any]:
    """Runs `pioxide eval`; returns its document."""
    made = subprocess.run(command(*words, "--json"), check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(made.stdout)


def rate(score: dict[str, Any]) -> str:
    """Returns a success rate with its interval."""
    return f"{score['rate']:.0%} ({score['low']:.0%}-{score['high']:.0%})"


def main(options: Options) -> None:
    """Runs the chosen plans, and prints a table of them."""
    names = [one.strip() for one in options.only.split(",") if one.strip()]
    if unknown := set(names) - {plan.name for plan in PLANS}:
        sys.exit(f"there is no plan {min(unknown)!r}; there is {', '.join(plan.name for plan in PLANS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    shown = (("plain", "all"), ("plain", "named"), ("plain", "lit"), ("blank", "all"), ("exchanged", "all"))
    rows: list[list[str]] = []
    late: list[list[str]] = []
    kinds: list[list[str]] = []
    for plan in PLANS:
        if names and plan.name not in names:
            continue
        found = learn(plan, options)
        by = {(one["variant"], one["kind"]): one for one in found["scores"]}
        made = (f"{plan.episodes:,}", f"{plan.steps:,}", f"{found['training_seconds'] / 60:.0f}")
        rows.append([plan.name, *made, *(rate(by[key]) if key in by else "" for key in shown)])
        judgements = {"": found, **found["late"]}
        for how, one in judgements.items() if found["late"] else ():
            score = one["scores"][0]
            steps = "-" if score["steps"] is None else f"{score['steps']:.1f}"
            late.append([plan.name, how or "not late", rate(score), steps, f"{score['jerk']:.0f}"])
        kinds += [[plan.name, kind, *map(rate, scores)] for kind, scores in found["kinds"].items()]
    columns = ["task:model", "demos", "updates", "minutes", "success", "named", "lit", "blanked", "exchanged"]
    print()
    table(f"{options.seeds} fresh seeds each, with 95% intervals", columns, rows)
    if late:
        table(
            f"answers that come {DELAY} actions late, by how chunks are continued",
            ["task:model", "", "success", "steps", "jerk"],
            late,
        )
    if kinds:
        table("a policy that another began with", ["task:model", "asked", "before", "after"], kinds)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
