"""`pioxide fit`: statistics, an action codec (FAST by default) and their contract from a dataset."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli import show
from pioxide.cli.check import warn
from pioxide.cli.options import METAVARS, derived, taken
from pioxide.codec import FastCodec, load_codec
from pioxide.contract import known
from pioxide.data import LeRobotDataset
from pioxide.shards import FitResult, FitSettings, fit, other_names, sentence


@derived(FitSettings)
@dataclass(frozen=True, kw_only=True)
class Fit:
    """Make norm statistics and an action codec from a robot dataset, and judge them on held-out episodes."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar=METAVARS["dataset"])]
    """A LeRobot dataset, v2.0, v2.1 or v3.0."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar=METAVARS["output"])]
    """Directory to make: contract.json, norm_stats.json, fit.json, and the codec's files."""

    skip_bad: FlagCreatePairsOff[bool] = False
    """Leave out episodes that can't be read, and end with status 3."""

    strict: FlagCreatePairsOff[bool] = False
    """End with status 4, and make nothing, where the dataset has warnings."""

    def __call__(self) -> int:
        """Fits, and prints what it achieves."""
        from pioxide.cli import main

        settings = taken(self, FitSettings)
        dataset = LeRobotDataset.open(self.dataset).with_tasks(settings.tasks)
        chosen = settings.selection.of(dataset)
        if warn(dataset, settings.columns(dataset), episodes=chosen, strict=self.strict):
            return main.FOUND
        made = fit(
            self.dataset,
            self.output,
            settings,
            skip_bad=self.skip_bad,
            on_stage=lambda stage: print(f"{stage} ...", file=sys.stderr, flush=True),
        )
        if made.found:
            print(f"{self.output} was made with these settings already; nothing to do")
        print_result(made)
        print(f"\nnext: pioxide tokenize {self.dataset} --fit {self.output} --model pi0_fast -o TOKENS")
        if made.skipped:
            show.left_out([(s["episode"], s["reason"]) for s in made.skipped])
            return main.LEFT_OUT
        return main.OK


def print_result(made: FitResult) -> None:
    """Prints what was fitted, and the figures that decide whether it is good enough."""
    result = made.result
    tokens, error = result["tokens"], result["error"]
    horizon = made.settings["horizon"]
    codec = load_codec(made.directory)
    step = f" (a coefficient's step is {1 / codec.scale:g})" if isinstance(codec, FastCodec) else ""
    if not made.held_out:
        episodes = "the episodes it was fitted on (none are held out)"
    elif len(made.held_out) > 10:
        episodes = show.counted(len(made.held_out), "held-out episode")
    else:
        numbers = ", ".join(map(str, made.held_out))
        episodes = f"held-out episode{'s' if len(made.held_out) > 1 else ''} {numbers}"
    judged = f"{show.counted(result['chunks'], 'chunk')} of {episodes}"
    print(f"{made.directory}: fitted on {show.counted(made.fitted_chunks, 'chunk')}, judged on {judged}")
    robot = known(made.contract.robot, "robot")
    show.contract(sentence(made.contract), other_names(robot.joint_names, made.dataset["action_names"]))
    show.facts(
        [
            ("codec", codec.description),
            (
                "tokens a chunk",
                f"mean {tokens['mean']:.1f}, median {tokens['p50']}, "
                f"99% {tokens['p99']}, longest {tokens['max']}",
            ),
            (
                "compression",
                f"{result['compression']:.1f}x against one token a number "
                f"({horizon} x {len(result['joints'])} = {result['naive_tokens']:,})",
            ),
            (
                "error, normalised",
                f"RMS {error['rms']:.4f}, largest {error['max']:.3f}{step}",
            ),
            ("clipped chunks", show.share(result["clipped_chunks"], result["chunks"])),
        ]
    )
    print()
    show.table(
        "error a dimension, in the robot's units",
        ["", "RMS", "largest"],
        [[j["name"], f"{j['rms']:.4g}", f"{j['max']:.4g}"] for j in result["joints"]],
    )
