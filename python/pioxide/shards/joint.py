"""`fit_jointly`: several datasets -> statistics a robot, one codec for all of them, each judged by itself.

The directory holds one of `fit`'s a dataset, and `joint.json`; `tokenize` picks its own dataset's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np

import pioxide
from pioxide.codec import ActionCodec
from pioxide.contract import known
from pioxide.data import FrameColumns, LeRobotDataset
from pioxide.data.faults import nothing_left
from pioxide.data.keeping import keep_frames
from pioxide.data.portions import Alone, Crew
from pioxide.data.stats import joint_stats
from pioxide.errors import (
    FormatError,
    InputError,
    SettingsError,
)
from pioxide.files import make_directory, new_directory, read_json, write_json
from pioxide.shards.crew import Opened, Reads, crew_of
from pioxide.shards.fit import (
    JOINT_FILE,
    FitResult,
    FitSettings,
    OnStage,
)
from pioxide.shards.joint_part import JointPart, StatisticsOf, described, member_names, refused, sharing
from pioxide.shards.sample import Sample, SampleSource, draw_chunks, made_codec
from pioxide.shards.settings import as_json, changes, decisive, refuse_changes

FORMAT = 1
# Weights are counted in whole frames: this fine.
FINEST_WEIGHT = 1000


@dataclass(frozen=True)
class JointSettings:
    """How several datasets are fitted together.

    Attributes:
        weight: How often each frame of each dataset counts, in the vocabulary and in statistics that it
            shares, one number a dataset; 1 for all by default.
        statistics: Whose statistics: one for all datasets of a robot (the same numbers, names, signs and
            rate), one a dataset, or one for all, which then have to have the same numbers.
    """

    weight: tuple[float, ...] = ()
    statistics: StatisticsOf = "robot"

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: An unknown choice, or a weight that is no positive number.
        """
        if self.statistics not in get_args(StatisticsOf):
            raise InputError(
                f"statistics {self.statistics!r}: expected one of {', '.join(get_args(StatisticsOf))}"
            )
        if bad := [weight for weight in self.weight if not 1 / FINEST_WEIGHT <= weight < math.inf]:
            raise InputError(f"weight {bad[0]:g}: expected a number from {1 / FINEST_WEIGHT:g}")

    def whole(self, datasets: int) -> list[int]:
        """Returns the weights as the smallest whole numbers in the same ratio.

        >>> JointSettings(weight=(1, 0.5, 2)).whole(3)
        [2, 1, 4]

        Raises:
            InputError: There is another number of weights than of datasets.
        """
        if not self.weight:
            return [1] * datasets
        if len(self.weight) != datasets:
            raise InputError(f"{len(self.weight)} weights for {datasets} datasets: say one for each")
        parts = [Fraction(str(weight)).limit_denominator(FINEST_WEIGHT) for weight in self.weight]
        scale = math.lcm(*(part.denominator for part in parts))
        whole = [int(part * scale) for part in parts]
        return [weight // math.gcd(*whole) for weight in whole]


@dataclass(frozen=True)
class JointMember:
    """One dataset of a joint fit.

    Attributes:
        dataset: A LeRobot dataset.
        settings: How it is read, where not as the others: columns, joints, robot, episodes, instructions.
            What concerns all (horizon, normalisation, codec, chunks, seed) has to be as theirs.
    """

    dataset: str | os.PathLike[str]
    settings: FitSettings | None = None


@dataclass(frozen=True)
class JointResult:
    """What a directory of several fits holds.

    Attributes:
        directory: Of them.
        settings: `FitSettings` of all as JSON.
        joint: `JointSettings` as JSON.
        members: The fit of each dataset, by the name of its directory, in their order.
        versions: Of the format and pioxide.
        result: Of all together: `chunks`, `tokens` and `error` (normalised).
        found: Whether it was already there, made with the same settings.
    """

    directory: Path
    settings: dict[str, Any]
    joint: dict[str, Any]
    members: dict[str, FitResult]
    versions: dict[str, Any]
    result: dict[str, Any]
    found: bool = field(default=False, compare=False)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> JointResult:
        """Reads `joint.json` and the fits below it.

        Raises:
            FormatError: One is missing, or of another format.
        """
        directory = Path(directory)
        path = directory / JOINT_FILE
        value = read_json(path)
        try:
            if value["versions"]["format"] != FORMAT:
                raise FormatError(
                    f"{path}: format {value['versions']['format']}, this pioxide reads {FORMAT}"
                )
            members = {entry["name"]: FitResult.load(directory / entry["name"]) for entry in value["members"]}
            rest = {name: value[name] for name in ("settings", "joint", "versions", "result")}
        except (KeyError, TypeError) as error:
            raise FormatError(f"{path} was not written by pioxide fit ({error!r})") from error
        return cls(directory=directory, members=members, **rest, found=True)

    @property
    def shared(self) -> list[list[str]]:
        """Returns which members share statistics."""
        groups: list[list[str]] = []
        for name, member in self.members.items():
            stats = known(member.contract.norm_stats, "norm_stats")
            for group in groups:
                if known(self.members[group[0]].contract.norm_stats, "norm_stats") == stats:
                    group.append(name)
                    break
            else:
                groups.append([name])
        return groups

    def of(self, dataset: LeRobotDataset, columns_of: Callable[[FitResult], FrameColumns]) -> FitResult:
        """Returns the fit whose statistics are a dataset's: its own, or that of the same robot.

        Args:
            dataset: Which.
            columns_of: Its columns where a fit's are looked for; raises InputError where it has none.

        Raises:
            ContractError: None of them is of this robot, or several that differ are.
        """
        fingerprint = dataset.fingerprint()
        alike: dict[str, FitResult] = {}
        for name, member in self.members.items():
            try:
                columns = columns_of(member)
                names = (columns.state_names(dataset), columns.action_names(dataset))
            except InputError:
                continue
            if names == (member.dataset["state_names"], member.dataset["action_names"]):
                if member.dataset["fingerprint"] == fingerprint:
                    return member
                alike[name] = member
        contracts = [replace(member.contract, source="") for member in alike.values()]
        if alike and all(contract == contracts[0] for contract in contracts):
            return next(iter(alike.values()))
        listed = "\n".join(f"  {name}: {described(member)}" for name, member in self.members.items())
        if alike:
            several = f"{', '.join(alike)} have its joints and differ in rate, robot or statistics"
            way_out = f"name the one that is meant, as --fit {self.directory / next(iter(alike))}"
            raise refused(f"{self.directory} does not know {dataset.path}: {several}; {way_out}")
        raise refused(
            f"{self.directory} does not know the robot of {dataset.path}, since it was fitted on\n{listed}\n"
            "Fit it with that dataset too, or choose the same joints (--joints, --drop)"
        )


def is_joint(directory: Path) -> bool:
    """Returns whether a directory was made by `fit_jointly`."""
    return (directory / JOINT_FILE).is_file()


def fit_jointly(
    datasets: Sequence[str | os.PathLike[str] | JointMember],
    output: str | os.PathLike[str],
    settings: FitSettings | None = None,
    joint: JointSettings | None = None,
    *,
    skip_bad: bool = False,
    engine: Reads | None = None,
    on_stage: OnStage | None = None,
) -> JointResult:
    """Makes one codec for several datasets, and statistics a robot; see `fit`.

    Statistics and vocabulary are those of one dataset that held all of them, each repeated as often as its
    weight says. Memory does not grow with the datasets.

    Args:
        datasets: LeRobot datasets, or `JointMember`s that are read in their own way.
        output: A directory that doesn't exist, or one made earlier of the same.
        settings: How, for all that don't say otherwise.
        joint: Weights, and whose statistics.
        skip_bad: Leave out episodes that can't be read, or have a chunk that the codec can't represent.
        engine: Reads the datasets, in place of this process: `Ray` for a cluster. What is made is the same.
        on_stage: Told what is being done.

    Raises:
        SettingsError: `output` exists and is something else.
        DatasetError: A dataset, or an episode of it without `skip_bad`, can't be read.
        ContractError: Numbers that are to share statistics are not the same.
        InputError: Settings that don't fit a dataset, or that differ where they have to be the same.
        OutputError: `output` can't be written.
    """
    settings, joint = settings or FitSettings(), joint or JointSettings()
    say = on_stage or (lambda _: None)
    members = [one if isinstance(one, JointMember) else JointMember(one) for one in datasets]
    if not members:
        raise InputError("name at least one dataset")
    weights = joint.whole(len(members))
    parts = [
        _prepared(number, one, settings, weight)
        for number, (one, weight) in enumerate(zip(members, weights, strict=True))
    ]
    for part, name in zip(parts, member_names(parts), strict=True):
        part.name = name
    groups = sharing(parts, joint.statistics)
    head = {
        "settings": as_json(settings),
        "joint": as_json(joint),
        "members": [{"name": part.name, **part.head} for part in parts],
        "versions": {"format": FORMAT, "pioxide": pioxide.__version__},
    }
    target = Path(output)
    found = _existing(target, head)
    if found is not None:
        return found
    given = [
        Opened(one.dataset, part.settings.tasks, part.dataset, part.head["dataset"]["fingerprint"])
        for one, part in zip(members, parts, strict=True)
    ]
    with crew_of(engine, given) as crew:
        made = None
        while made is None:
            for group in groups:
                _count(group, settings, skip_bad, say, crew)
            made = _codec(parts, settings, skip_bad, say, crew)
        codec, drawn = made
        with new_directory(target) as directory:
            for part, sample in zip(parts, drawn, strict=True):
                say(f"judging it on {part.name}")
                make_directory(directory / part.name)
                part.write(directory / part.name, codec, len(sample.chunks), crew)
            widths = {part.width for part in parts}
            codec.save(directory, horizon=settings.horizon, dim=widths.pop() if len(widths) == 1 else None)
            result = _together([part.result for part in parts])
            write_json(directory / JOINT_FILE, {**head, "result": result})
    return replace(JointResult.load(target), found=False)


def _prepared(number: int, member: JointMember, settings: FitSettings, weight: int) -> JointPart:
    own = member.settings or settings
    for name in ("horizon", "normalization", "codec_options", "max_chunks", "seed"):
        if getattr(own, name) != getattr(settings, name):
            raise InputError(
                f"{member.dataset}: {name} is {getattr(own, name)}, of the others {getattr(settings, name)}; "
                "datasets that are fitted together share it"
            )
    if own.frames.endswith(".json") and member.settings is None and number:
        raise InputError("frames: a file of spans is of one dataset; fit each alone, or name a column")
    opened = keep_frames(LeRobotDataset.open(member.dataset).with_tasks(own.tasks), own.frames)
    return JointPart(number, opened, own, weight)


def _count(
    group: Sequence[JointPart], settings: FitSettings, skip_bad: bool, say: OnStage, crew: Crew
) -> None:
    """Statistics of datasets that share them."""
    episodes = sum(len(part.chosen) for part in group)
    say(f"statistics of {episodes} episodes of {', '.join(part.name for part in group)}")
    mask = known(group[0].contract.delta_mask, "delta_mask")
    sources = [part.source(skip_bad) for part in group]
    try:
        read_by = None if isinstance(crew, Alone) else crew
        stats = joint_stats(sources, horizon=settings.horizon, delta_mask=mask, crew=read_by)
    except InputError as error:
        reasons = [entry["reason"] for part in group for entry in part.skipped]
        if not any(part.chosen for part in group):
            raise nothing_left(reasons) from error
        raise
    for part in group:
        part.contract = replace(part.contract, norm_stats=stats)
        part.split()


def _codec(
    parts: Sequence[JointPart], settings: FitSettings, skip_bad: bool, say: OnStage, crew: Crew
) -> tuple[ActionCodec, list[Sample]] | None:
    """One codec from chunks of all; None where episodes had to be left out, so that statistics change."""
    options = settings.codec_options
    widths = {part.width for part in parts}
    if len(widths) > 1 and settings.codec == "beast":
        raise InputError(
            f"BEAST's ranges are of one width, and these robots have {', '.join(map(str, sorted(widths)))} "
            "numbers; fit them one by one, or take FAST"
        )
    sources = [SampleSource(part.dataset, part.cutter, tuple(part.fit_on), part.weight) for part in parts]
    drawn = draw_chunks(sources, settings.max_chunks, settings.seed, crew)
    number = sum(len(sample.chunks) for sample in drawn)
    say(f"a codec ({options}) from {number:,} chunks of {len(parts)} datasets")
    joints = [part.head["dataset"]["action_names"] for part in parts]
    codec, wild = made_codec(options, drawn, joints, names=[part.name for part in parts], skip_bad=skip_bad)
    for one in wild:
        parts[one.source].leave_out(one.episode, one.reason)
    return None if wild else (codec, drawn)


def _together(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all datasets' judgements as one."""
    chunks = np.array([result["chunks"] for result in results])
    numbers = chunks * [result["naive_tokens"] for result in results]
    tokens = sum(result["chunks"] * result["tokens"]["mean"] for result in results)
    squares = sum(
        int(count) * result["error"]["rms"] ** 2 for count, result in zip(numbers, results, strict=True)
    )
    return {
        "chunks": int(chunks.sum()),
        "tokens": {
            "mean": tokens / int(chunks.sum()),
            "max": max(result["tokens"]["max"] for result in results),
        },
        "error": {
            "rms": math.sqrt(squares / int(numbers.sum())),
            "max": max(result["error"]["max"] for result in results),
        },
        "clipped_chunks": sum(result["clipped_chunks"] for result in results),
    }


def _existing(target: Path, head: dict[str, Any]) -> JointResult | None:
    """The result of an earlier run on the same; None where the target does not exist yet."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    if not is_joint(target):
        raise SettingsError(
            f"{target} exists and was not made by pioxide fit of several datasets; choose another directory"
        )
    before = read_json(target / JOINT_FILE)
    refuse_changes(changes(_identity(before), _identity(head)), target)
    return JointResult.load(target)


def _identity(head: dict[str, Any]) -> dict[str, Any]:
    """What has to be the same for two runs to make the same."""
    try:
        members = {
            entry["name"]: {
                **decisive(entry["settings"], entry["dataset"]),
                "fingerprint": entry["dataset"]["fingerprint"],
            }
            for entry in head["members"]
        }
        shared = {name: value for name, value in head["settings"].items() if name != "frames"}
        return {"joint": head["joint"], "datasets": members, "versions": head["versions"], **shared}
    except (KeyError, TypeError) as error:
        raise FormatError(f"{JOINT_FILE} was not written by pioxide fit ({error!r})") from error
