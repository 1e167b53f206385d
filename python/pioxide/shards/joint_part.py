"""One dataset of a joint fit on its way: opened, counted with others, judged, written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pioxide.codec import ActionCodec, load_codec
from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.contract import Contract, action_vocabulary, known, save_contract
from pioxide.data import EpisodeInfo, LeRobotDataset
from pioxide.data.faults import nothing_left
from pioxide.data.portions import Crew
from pioxide.data.stats import Reading, StatsSource
from pioxide.errors import ContractError, DatasetError
from pioxide.files import write_json
from pioxide.shards.evaluate import Evaluation
from pioxide.shards.fit import (
    FILE_NAME,
    JOINT_FILE,
    FitResult,
    FitSettings,
    begun_contract,
    fit_head,
    split_episodes,
)
from pioxide.shards.frames import FrameCutter
from pioxide.transforms import save_norm_stats

StatisticsOf = Literal["robot", "dataset", "all"]


class JointPart:
    """A dataset on its way."""

    def __init__(self, number: int, dataset: LeRobotDataset, settings: FitSettings, weight: int) -> None:
        self.number, self.dataset, self.settings, self.weight = number, dataset, settings, weight
        self.columns = settings.columns(dataset)
        self.contract = begun_contract(dataset, settings, self.columns)
        self.head = fit_head(dataset, settings, self.columns)
        self.chosen = settings.selection.of(dataset)
        self.name = ""
        self.skipped: list[dict[str, Any]] = []
        self.fit_on: list[int] = []
        self.held_out: list[int] = []
        self.result: dict[str, Any] = {}

    @property
    def width(self) -> int:
        """Returns the numbers of an action."""
        return known(self.contract.robot, "robot").action_dim

    @property
    def cutter(self) -> FrameCutter:
        """Returns what makes chunks of its episodes; statistics have to be there."""
        return FrameCutter.of(self.contract, self.columns)

    def source(self, skip_bad: bool) -> StatsSource:
        """Returns what statistics are counted of."""
        robot = known(self.contract.robot, "robot")
        on_bad = self._left_out if skip_bad else None
        reading = Reading(self.columns, robot, self.weight)
        return StatsSource(self.dataset, reading, tuple(self.chosen), on_bad, self.number)

    def split(self) -> None:
        """Decides which episodes the codec is made from, and which it is judged on.

        Raises:
            InputError: There are none to make it from.
            DatasetError: Every episode was left out.
        """
        if not self.chosen:
            raise nothing_left([entry["reason"] for entry in self.skipped])
        self.fit_on, self.held_out = split_episodes(self.chosen, self.settings)

    def write(self, directory: Path, codec: ActionCodec, fitted_chunks: int, crew: Crew) -> None:
        """Judges the codec on the dataset, and writes what `fit` writes of one."""
        cutter = self.cutter
        evaluation = Evaluation(codec, cutter.numbers, self.head["dataset"]["action_names"])
        evaluation.read(crew, self.number, cutter, self.held_out or self.fit_on)
        self.result = evaluation.result()
        codec.save(directory, horizon=self.settings.horizon, dim=self.width)
        save_norm_stats(directory, dict(known(self.contract.norm_stats, "norm_stats")))
        save_contract(replace(self.contract, fast=action_vocabulary(load_codec(directory))), directory)
        made = {
            "held_out": self.held_out,
            "skipped": sorted(self.skipped, key=lambda entry: entry["episode"]),
            "fitted_chunks": fitted_chunks,
            "result": self.result,
        }
        write_json(directory / FILE_NAME, {**self.head, **made, "contract": CONTRACT_FILE})

    def leave_out(self, episode: int, reason: str) -> None:
        """Leaves out an episode from here on."""
        self.skipped.append({"episode": episode, "reason": reason})
        self.chosen.remove(episode)

    def _left_out(self, info: EpisodeInfo, error: DatasetError) -> None:
        self.leave_out(info.index, str(error))


def member_names(parts: Sequence[JointPart]) -> list[str]:
    """Returns a directory's name for each, different even where two datasets bear the same."""
    names: list[str] = []
    for part in parts:
        name = part.head["dataset"]["name"]
        number = 2
        while name in names or name in (JOINT_FILE, FILE_NAME):
            name = f"{part.head['dataset']['name']}-{number}"
            number += 1
        names.append(name)
    return names


def sharing(parts: Sequence[JointPart], statistics: StatisticsOf) -> list[list[JointPart]]:
    """Returns those that share statistics, together.

    Raises:
        ContractError: All are to, and their numbers are not the same.
    """
    if statistics == "dataset":
        return [[part] for part in parts]
    if statistics == "all":
        first = parts[0]
        for part in parts[1:]:
            if _numbers(part)[0] != _numbers(first)[0]:
                raise refused(
                    f"statistics for all: {first.name} has {described(first)}, {part.name} has "
                    f"{described(part)}; those are other numbers. Choose the same "
                    "joints, or --statistics robot"
                )
        return [list(parts)]
    groups: dict[Any, list[JointPart]] = {}
    for part in parts:
        groups.setdefault(_numbers(part), []).append(part)
    return list(groups.values())


def _numbers(part: JointPart) -> tuple[Any, Any]:
    """What has to be the same for numbers to be counted together, and what makes them one robot's."""
    robot, names = known(part.contract.robot, "robot"), part.head["dataset"]
    same = (robot.state_dim, robot.action_dim, known(part.contract.delta_mask, "delta_mask"))
    signs = (robot.signs, tuple(sorted(robot.grippers.items())), robot.joint_units)
    own = (robot.name, robot.hz, tuple(names["state_names"]), tuple(names["action_names"]))
    return (*same, signs), own


def described(one: JointPart | FitResult) -> str:
    """Returns a robot in a few words."""
    contract: Contract = one.contract
    robot = known(contract.robot, "robot")
    names = one.head["dataset"]["action_names"] if isinstance(one, JointPart) else one.dataset["action_names"]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    rate = "" if robot.hz is None else f" at {robot.hz:g} Hz"
    return f"{robot.name}{rate}, {robot.state_dim} state and {robot.action_dim} action numbers ({shown})"


def refused(text: str) -> ContractError:
    """Returns an error about a robot, to raise."""
    error = ContractError(text)
    error.fields = ("robot",)
    return error
