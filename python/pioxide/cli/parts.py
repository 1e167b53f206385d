"""The datasets of `pioxide train`: one or several, of one robot or of several, with held-out episodes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pioxide.cli.options import read_robot
from pioxide.contract import Contract, known
from pioxide.data import EpisodeChoice, LeRobotDataset
from pioxide.data.keeping import keep_frames
from pioxide.data.robot import dataset_robot
from pioxide.errors import InputError
from pioxide.shards import FitResult, FitSettings, JointMember, JointResult, fit, fit_jointly
from pioxide.shards.joint import is_joint
from pioxide.train.recipes import RobotData


@dataclass(frozen=True)
class Part:
    """One dataset of a run.

    Attributes:
        robot: Whose it is.
        dataset: With its pictures at hand.
        fitted: What `pioxide fit` made of it.
        fit: The directory of that: of all that were fitted together where there are several.
        training: Episodes to train on.
        held_out: Episodes to judge by.
        weight: The share of rows from here, in relation to the others'; None for as many as it has frames.
    """

    robot: RobotData
    dataset: LeRobotDataset
    fitted: FitResult
    fit: Path
    training: tuple[int, ...]
    held_out: tuple[int, ...]
    weight: float | None

    @property
    def name(self) -> str:
        """Returns what messages call it."""
        return str(self.dataset.path)

    @property
    def contract(self) -> Contract:
        """Returns what was fitted of it, with the robot called as the run calls it."""
        contract = self.fitted.contract
        if not self.robot.name:
            return contract
        return replace(contract, robot=replace(known(contract.robot, "robot"), name=self.robot.name))


def fit_parts(robots: Sequence[RobotData], directory: Path, settings: FitSettings) -> None:
    """Fits a run's datasets, together where there are several: statistics a robot, one action tokenizer.

    Args:
        robots: Those that are to be fitted.
        directory: To make.
        settings: What is the same for all.

    Raises:
        PioxideError: As `fit` and `fit_jointly`.
    """

    def say(stage: str) -> None:
        print(f"{stage} ...", file=sys.stderr)

    members = [
        JointMember(path, _settings(robot, path, settings)) for robot in robots for path in robot.datasets
    ]
    if len(members) == 1:
        fit(members[0].dataset, directory, members[0].settings, on_stage=say)
    else:
        # What all say is what those that say nothing have: of one robot that is its own.
        common = members[0].settings if len(robots) == 1 else settings
        fit_jointly(members, directory, common, on_stage=say)


def _settings(robot: RobotData, path: str, settings: FitSettings) -> FitSettings:
    """Returns how one of a robot's datasets is fitted."""
    spec = read_robot(robot.robot) if robot.robot else None
    made = replace(settings, robot=spec, episodes=robot.episodes, where=robot.where, frames=robot.frames)
    if robot.name:
        # By its name alone its statistics are apart from those of another robot of the same make.
        dataset = LeRobotDataset.open(path)
        spec = spec or dataset_robot(dataset, made.columns(dataset))
        made = replace(made, robot=replace(spec, name=robot.name))
    return made


def open_parts(robots: Sequence[RobotData], directory: Path) -> list[Part]:
    """Opens a run's datasets, each with what was fitted of it.

    Args:
        robots: Of the run.
        directory: What `pioxide fit` made of the datasets of robots that name no other.

    Raises:
        InputError: A dataset twice, one that was not fitted there, or frames that are none of its own.
        FormatError: The directory is none of `pioxide fit`'s.
        DatasetError: A dataset can't be read.
    """
    paths = [path for robot in robots for path in robot.datasets]
    if len(set(paths)) < len(paths):
        raise InputError("data.also: a dataset stands twice; data.weight makes one count more")
    parts: list[Part] = []
    for robot in robots:
        here = Path(robot.fit) if robot.fit else directory
        fits = list(JointResult.load(here).members.values()) if is_joint(here) else [FitResult.load(here)]
        for number, path in enumerate(robot.datasets):
            dataset = keep_frames(LeRobotDataset.open(path, pictures=True), robot.frames)
            fitted = _fit_of(dataset, fits, here)
            _say_frames(dataset, fitted)
            skipped = {one["episode"] for one in fitted.skipped}
            chosen = EpisodeChoice(robot.episodes, robot.where).of(dataset)
            parts.append(
                Part(
                    robot,
                    dataset,
                    fitted,
                    here,
                    tuple(i for i in chosen if i not in skipped and i not in fitted.held_out),
                    tuple(sorted(i for i in fitted.held_out if dataset.rows(i))),
                    robot.weight[number] if robot.weight else None,
                )
            )
    return parts


def _fit_of(dataset: LeRobotDataset, fits: Sequence[FitResult], directory: Path) -> FitResult:
    fingerprint = dataset.fingerprint()
    fitted = next((one for one in fits if one.dataset["fingerprint"] == fingerprint), None)
    if fitted is None:
        of = ", ".join(f"{one.dataset['name']} ({one.dataset['path']})" for one in fits)
        raise InputError(
            f"data.fit: {directory} was made of {of}, and {dataset.path} is another dataset or has changed "
            "since: held-out and damaged episodes would not be its own. Fit it (with the others); "
            "--data.statistics takes another's statistics alone"
        )
    return fitted


def _say_frames(dataset: LeRobotDataset, fitted: FitResult) -> None:
    """Says which frames are used, and where the statistics are of others."""
    kept, noted = dataset.kept, fitted.dataset.get("frames", {})
    if kept is not None:
        print(f"frames: {kept}", file=sys.stderr)
    if noted.get("digest") != (None if kept is None else kept.digest):
        of = f"{noted['kept']:,} frames ({fitted.settings['frames']})" if noted else "all frames"
        print(
            f"NOTE: the statistics of {fitted.directory} are of {of}, and other frames are used",
            file=sys.stderr,
        )
