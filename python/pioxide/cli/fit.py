"""`pioxide fit`: statistics, an action codec (FAST by default) and their contract from a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from pioxide.cli import doubts, output, show
from pioxide.cli.check import warn
from pioxide.cli.options import METAVARS, derived, left_open, taken
from pioxide.cli.progress import working
from pioxide.codec import FastCodec, load_codec
from pioxide.contract import known
from pioxide.data import Finding, FrameColumns, LeRobotDataset, check_dataset, cores
from pioxide.data.keeping import keep_frames
from pioxide.errors import InputError, SettingsError
from pioxide.family import RELEASED_ACTION_DIM
from pioxide.files import new_directory, write_json
from pioxide.shards import (
    Exploration,
    ExploreSettings,
    FitResult,
    FitSettings,
    JointResult,
    JointSettings,
    Ray,
    explore,
    fit,
    fit_jointly,
    other_names,
    sentence,
)
from pioxide.shards.checked import Looked, save_findings
from pioxide.shards.crew import Opened, crew_of


@derived(JointSettings)
@derived(FitSettings)
@derived(ExploreSettings)
@dataclass(frozen=True, kw_only=True)
class Fit:
    """Make norm statistics and an action codec from robot datasets, and judge them on held-out episodes.

    Several datasets get one codec, and statistics a robot; tokenize then takes the same DIR for each of them.
    """

    datasets: Annotated[tuple[Path, ...], tyro.conf.Positional, left_open("DATASET [DATASET ...]")]
    """LeRobot datasets, v2.0, v2.1 or v3.0."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar=METAVARS["output"])]
    """Directory to make: contract.json, norm_stats.json, fit.json, and the codec's files."""

    engine: Literal["process", "ray"] = "process"
    """Who reads the datasets: this process, or tasks of Ray, on a cluster of this machine's own."""

    ray_address: Annotated[str | None, left_open("ADDRESS")] = None
    """Of a Ray cluster, whose nodes see the same files at the same paths; with --engine ray."""

    workers: Annotated[int | None, left_open("INT")] = None
    """Tasks of Ray at a time; one a core by default."""

    skip_bad: FlagCreatePairsOff[bool] = False
    """Leave out episodes that can't be used, and end with status 3."""

    strict: FlagCreatePairsOff[bool] = False
    """End with status 4, and make nothing, where the dataset has warnings."""

    explore: FlagCreatePairsOff[bool] = False
    """Try codecs instead of making one, and recommend one; writes explore.json and explore.html."""

    def __call__(self) -> int:
        """Fits, and prints what it achieves."""
        engine = self._engine()
        # One cluster for all that is to be read.
        with nullcontext() if engine is None else engine.running():
            return self._run(engine)

    def _engine(self) -> Ray | None:
        if self.engine == "ray":
            if self.explore:
                raise InputError("--explore reads few episodes, in this process: leave --engine ray out")
            return Ray(self.ray_address, self.workers)
        for option in ("ray_address", "workers"):
            if getattr(self, option) is not None:
                raise InputError(f"--{option.replace('_', '-')} is for --engine ray")
        return None

    def _run(self, engine: Ray | None) -> int:
        from pioxide.cli import main

        settings = taken(self, FitSettings)
        joint = taken(self, JointSettings)
        if not self.datasets:
            raise InputError("name a dataset, or several that are to be fitted together")
        first = self.datasets[0]
        warned = False
        looks: list[tuple[FrameColumns, tuple[int, ...], list[Finding]]] = []
        for path in self.datasets:
            dataset = LeRobotDataset.open(path).with_tasks(settings.tasks)
            if len(self.datasets) == 1:
                dataset = keep_frames(dataset, settings.frames)
            chosen = settings.selection.of(dataset)
            if len(self.datasets) > 1:
                say(path)
            columns = settings.columns(dataset)
            found = _checked(path, dataset, columns, chosen, settings, engine)
            looks.append((columns, tuple(chosen), found))
            warned |= warn(dataset, columns, episodes=chosen, found=found, strict=self.strict)
        if warned:
            return main.FOUND
        if self.explore:
            return self._explore(first, settings, joint)
        self._refuse_unused()
        if len(self.datasets) == 1 and joint == JointSettings():
            with working("fit"):
                made = fit(first, self.output, settings, skip_bad=self.skip_bad, engine=engine, on_stage=say)
            fits, found = {"": made}, made.found
        else:
            with working("fit"):
                several = fit_jointly(
                    self.datasets,
                    self.output,
                    settings,
                    joint,
                    skip_bad=self.skip_bad,
                    engine=engine,
                    on_stage=say,
                )
            fits, found = several.members, several.found
            print_joint(several)
        output.current.result = {"output": str(self.output), "found": found}
        if found:
            print(f"{self.output} was made with these settings already; nothing to do")
        for made, (columns, chosen, findings) in zip(fits.values(), looks, strict=True):
            fingerprint = made.dataset["fingerprint"]
            looked = Looked(fingerprint, columns, chosen, settings.tasks, RELEASED_ACTION_DIM)
            save_findings(made.directory, looked, findings)
        if len(fits) == 1:
            print_result(next(iter(fits.values())))
        print(f"\nnext: pioxide tokenize {first} --fit {self.output} --model pi0_fast -o TOKENS")
        skipped = [(s["episode"], s["reason"]) for made in fits.values() for s in made.skipped]
        if skipped:
            doubts.left_out(skipped)
            return main.LEFT_OUT
        return main.OK

    def _explore(self, dataset: Path, settings: FitSettings, joint: JointSettings) -> int:
        from pioxide.cli import main
        from pioxide.report import print_exploration

        if len(self.datasets) > 1 or joint != JointSettings():
            raise InputError(
                "--explore looks at one dataset at a time: leave the others, and options of a joint fit, out"
            )
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise SettingsError(f"{self.output} exists; choose another directory for what is found")
        with new_directory(self.output) as directory:
            found = explore(
                dataset,
                settings,
                taken(self, ExploreSettings),
                skip_bad=self.skip_bad,
                on_trial=lambda what, before, of: say(f"{before + 1} of {of}: {what}"),
            )
            write_json(directory / "explore.json", found.to_json())
            page = _write_page(found, directory / "explore.html")
        output.current.result = {"output": str(self.output), **found.to_json()}
        print_exploration(found, show.console())
        print(f"\n{self.output}: explore.json{', explore.html' if page else ''}")
        print(f"next: pioxide fit {dataset} {found.recommendation.options} -o FITTED")
        if found.drawn["skipped"]:
            doubts.left_out([(s["episode"], s["reason"]) for s in found.drawn["skipped"]])
            return main.LEFT_OUT
        return main.OK

    def _refuse_unused(self) -> None:
        """Refuses options of --explore where it is not given."""
        usual, said = ExploreSettings(), taken(self, ExploreSettings)
        unused = [f.name for f in fields(usual) if getattr(said, f.name) != getattr(usual, f.name)]
        if unused:
            raise InputError(f"--{unused[0].replace('_', '-')} belongs to --explore, which is not given")


def _checked(
    path: Path,
    dataset: LeRobotDataset,
    columns: FrameColumns,
    chosen: Sequence[int],
    settings: FitSettings,
    engine: Ray | None,
) -> list[Finding]:
    """What there is to find, by whoever reads."""
    if engine is None:
        return check_dataset(dataset, columns, episodes=chosen, width=RELEASED_ACTION_DIM, workers=cores())
    with crew_of(engine, [Opened(path, settings.tasks, dataset, dataset.fingerprint())]) as crew:
        return check_dataset(dataset, columns, episodes=chosen, width=RELEASED_ACTION_DIM, crew=crew)


def _write_page(found: Exploration, path: Path) -> bool:
    """Whether the page could be drawn: pictures need matplotlib, which not every machine has."""
    try:
        from pioxide.report import write_exploration_page
    except ImportError:
        say('no explore.html: pictures need matplotlib (pip install "pioxide[report]")')
        return False
    write_exploration_page(found, path)
    return True


def say(stage: object) -> None:
    """Says on standard error what is being done."""
    output.current.stage(stage)


def print_joint(made: JointResult) -> None:
    """Prints what datasets that were fitted together have of it, each judged by itself."""
    print(f"{made.directory}: one codec, {load_codec(made.directory).description}")
    rows = []
    for name, one in made.members.items():
        robot, result = known(one.contract.robot, "robot"), one.result
        rows.append(
            [
                name,
                f"{robot.action_dim}",
                f"{one.fitted_chunks:,}",
                f"{result['chunks']:,}",
                f"{result['tokens']['mean']:.1f}",
                f"{result['error']['rms']:.4f}",
                f"{result['clipped_chunks']:,}",
            ]
        )
    columns = ["", "joints", "fitted on", "judged on", "tokens", "RMS", "clipped"]
    show.table("chunks of each dataset, tokens a chunk, normalised error", columns, rows)
    print(f"\nstatistics: {'; '.join(' and '.join(names) for names in made.shared)}")


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
    if "frames" in made.dataset:
        used, of = made.dataset["frames"]["kept"], made.dataset["frames"]["of"]
        print(f"  of {used:,} frames; {of - used:,} of {of:,} are left out ({made.settings['frames']})")
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
