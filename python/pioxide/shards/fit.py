"""`fit`: a dataset -> statistics, an action codec judged on episodes it has not seen, and their contract."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

import pioxide
from pioxide.codec import load_codec
from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.contract import (
    Contract,
    action_vocabulary,
    check_delta_mask,
    known,
    refuse_differences,
    save_contract,
)
from pioxide.data import (
    EpisodeInfo,
    FrameColumns,
    JointChoice,
    LeRobotDataset,
    compute_stats,
    select_episodes,
)
from pioxide.data.faults import nothing_left
from pioxide.data.keeping import keep_frames
from pioxide.data.portions import Alone, Crew
from pioxide.data.robot import dataset_robot, named_mask, recorded_robot
from pioxide.errors import DatasetError, FormatError, InputError, SettingsError
from pioxide.family import Normalization
from pioxide.files import new_directory, read_json, write_json
from pioxide.robots import RobotSpec
from pioxide.shards.beside import read_contract
from pioxide.shards.chosen import Chosen
from pioxide.shards.codecs import CodecName, CodecOptions, codec_options
from pioxide.shards.crew import Opened, Reads, crew_of
from pioxide.shards.evaluate import Evaluation
from pioxide.shards.frames import FrameCutter
from pioxide.shards.sample import SampleSource, draw_chunks, made_codec
from pioxide.shards.settings import as_json, changes, decisive, kept_of, refuse_changes
from pioxide.transforms import NormRule, make_mask, save_norm_stats

FILE_NAME = "fit.json"
FORMAT = 2
# Of a directory of several, see `shards.joint`.
JOINT_FILE = "joint.json"

# Told in a few words what is being done.
OnStage = Callable[[str], None]


@dataclass(frozen=True)
class FitSettings(Chosen):
    """How an action codec is fitted.

    Attributes:
        robot: The robot that was recorded: its signs and grippers are applied, its names are compared with
            the dataset's. By default the dataset's numbers are taken as they are.
        horizon: Actions in a chunk. A chunk past its episode's end repeats the last action.
        state_keys: Columns that make up the state; several are put side by side.
        action_keys: Columns that make up an action, likewise.
        joints: Which dimensions of both, in this order: names, globs such as left_*, numbers, slices such as
            0:7, !NAME to leave one out; all by default.
        drop: Dimensions to leave out of both, likewise.
        state_joints: Dimensions of the state, in place of joints.
        action_joints: Dimensions of an action, in place of joints.
        delta_mask: Which actions are relative to the state at the chunk's start, as run lengths: 6,-1,6,-1
            leaves dimensions 6 and 13, and all beyond, absolute; empty leaves all absolute. By default as the
            robot says, and absolute where it doesn't.
        relative: The same by name: joints whose actions are relative, as in joints.
        normalization: Of the chunks that the tokenizer sees; quantile is what π0-FAST uses.
        codec: What turns chunks into tokens: FAST, a bin for every number, or B-splines (BEAST); see
            docs/choosing-a-codec.md.
        vocab_size: FAST: ids.
        scale: FAST: DCT coefficients are multiplied by this before rounding: larger is finer and longer.
        regex_split: FAST: whether merges stop where character classes meet, as in published tokenizers; by
            default as docs/fast.md argues.
        bins: Binning and BEAST: ids; 256 by default.
        limit: Binning: the largest normalised number that has a bin; openpi's 1 by default.
        control_points: BEAST: tokens a dimension; 10 by default.
        degree: BEAST: of the splines; 3 by default.
        held_out: Share of the episodes that the tokenizer does not see and is judged on.
        held_out_episodes: These instead of a random share.
        max_chunks: Chunks to fit on, drawn from the others.
        seed: Of both draws.
    """

    robot: RobotSpec | None = None
    horizon: int = 50
    state_keys: tuple[str, ...] = ("observation.state",)
    action_keys: tuple[str, ...] = ("action",)
    joints: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    state_joints: tuple[str, ...] = ()
    action_joints: tuple[str, ...] = ()
    delta_mask: tuple[int, ...] | None = None
    relative: tuple[str, ...] = ()
    normalization: Normalization = "quantile"
    codec: CodecName = "fast"
    vocab_size: int = 1024
    scale: float = 10.0
    regex_split: bool | None = None
    bins: int | None = None
    limit: float | None = None
    control_points: int | None = None
    degree: int | None = None
    held_out: float = 0.1
    held_out_episodes: str = ""
    max_chunks: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: A number outside its range, an unknown normalization, columns that can't be.
        """
        if self.normalization not in get_args(Normalization):
            raise InputError(f"normalization {self.normalization!r}: expected quantile or zscore")
        if self.horizon < 1:
            raise InputError(f"a chunk needs at least one action, got horizon {self.horizon}")
        if not 0 <= self.held_out < 1:
            raise InputError(f"held_out is a share from 0 to below 1, got {self.held_out}")
        if self.max_chunks < 1:
            raise InputError(f"max_chunks is {self.max_chunks}, expected at least 1")
        if not 0 < self.scale < float("inf"):
            raise InputError(f"scale is {self.scale}, expected a positive number")
        if self.relative and self.delta_mask is not None:
            raise InputError("relative and delta_mask say the same thing in two ways; leave one out")
        FrameColumns(self.state_keys, self.action_keys)
        _ = self.codec_options
        super().__post_init__()

    @property
    def codec_options(self) -> CodecOptions:
        """Returns how the codec is made.

        Raises:
            InputError: There is no such codec, or an option was said that is another codec's.
        """
        names = ("vocab_size", "scale", "regex_split", "bins", "limit", "control_points", "degree")
        return codec_options(self.codec, {name: getattr(self, name) for name in names})

    def columns(self, dataset: LeRobotDataset) -> FrameColumns:
        """Returns which columns and dimensions of a dataset are the state and the actions.

        Raises:
            InputError: It has no such column or joint; shows those that it has.
        """
        choice = JointChoice(self.joints, self.drop, self.state_joints, self.action_joints)
        return choice.of(dataset, FrameColumns(self.state_keys, self.action_keys))


@dataclass(frozen=True)
class FitResult:
    """What a fitted directory holds: `fit.json` and `contract.json`.

    Attributes:
        directory: Of the tokenizer and the statistics.
        contract: What the numbers mean. What fitting can't know (family, cameras, prompts) is UNKNOWN.
        settings: `FitSettings` as JSON.
        dataset: Name, path (where it was), fingerprint, and names and numbers of the chosen dimensions.
        versions: Of the format and pioxide.
        held_out: Episodes it was judged on; empty if there were too few and it was judged on what it was
            fitted on.
        skipped: Episodes left out, with the reason.
        fitted_chunks: How many chunks the vocabulary was made from.
        result: See `Evaluation.result`.
        found: Whether it was already there, made with the same settings.
    """

    directory: Path
    contract: Contract
    settings: dict[str, Any]
    dataset: dict[str, Any]
    versions: dict[str, Any]
    held_out: list[int]
    skipped: list[dict[str, Any]]
    fitted_chunks: int
    result: dict[str, Any]
    found: bool = False

    def __repr__(self) -> str:
        """Returns what it is in a line; `contract`, `result` and the others have the rest."""
        chunks = f"chunks of {self.settings['horizon']} x {len(self.dataset['action_names'])}"
        codec, dataset = self.settings["codec"], self.dataset["name"]
        return f"FitResult({str(self.directory)!r}: {codec} for {dataset}, {chunks})"

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> FitResult:
        """Reads `fit.json` and the contract beside it.

        Raises:
            FormatError: One is missing, or of another format.
            ContractError: `norm_stats.json` holds other statistics than the contract.
        """
        directory = Path(directory)
        path = directory / FILE_NAME
        if (directory / JOINT_FILE).exists():
            names = ", ".join(str(p.parent) for p in sorted(directory.glob(f"*/{FILE_NAME}")))
            raise FormatError(f"{directory} holds fits of several datasets; name one: {names}")
        if not path.exists():
            raise FormatError(f"{directory} has no {FILE_NAME}; make it with `pioxide fit`")
        value = read_json(path)
        try:
            if value["versions"]["format"] != FORMAT:
                raise FormatError(
                    f"{path}: format {value['versions']['format']}, this pioxide reads {FORMAT}; fit again"
                )
            value.pop("contract")
            # What an earlier pioxide had no words for was as it is by default.
            value["settings"] = as_json(FitSettings()) | value["settings"]
            return cls(directory=directory, contract=read_contract(directory), **value, found=True)
        except (KeyError, TypeError) as error:
            raise FormatError(f"{path} was not written by pioxide fit ({error!r})") from error

    @property
    def columns(self) -> FrameColumns:
        """Returns which columns and dimensions of the dataset are the state and the actions."""
        keys = (self.settings["state_keys"], self.settings["action_keys"])
        return FrameColumns(*keys, self.dataset.get("state_dims"), self.dataset.get("action_dims"))

    @property
    def choice(self) -> JointChoice:
        """Returns how these dimensions were chosen, for another dataset of the same robot."""
        return JointChoice(**{f.name: tuple(self.settings[f.name]) for f in fields(JointChoice)})


def fit(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: FitSettings | None = None,
    *,
    skip_bad: bool = False,
    engine: Reads | None = None,
    on_stage: OnStage | None = None,
) -> FitResult:
    """Makes statistics, an action codec (FAST in Hugging Face's layout) and their contract, and judges them.

    The statistics cover every episode in use, held-out ones too, as the released models' do; the codec is
    made from the others only. The directory appears complete or not at all.

    Args:
        dataset: A LeRobot dataset, v2.0, v2.1 or v3.0.
        output: A directory that doesn't exist, or one made earlier with the same settings, which is then
            left as it is.
        settings: How.
        skip_bad: Leave out episodes that can't be read, or have a chunk that the codec can't represent;
            `skipped` lists them.
        engine: Reads the dataset, in place of this process: `Ray` for a cluster. What is made is the same.
        on_stage: Told what is being done.

    Raises:
        SettingsError: `output` exists and is something else.
        DatasetError: The dataset, or an episode of it without `skip_bad`, can't be read.
        ContractError: The robot's numbers are not the dataset's, or one joint would be relative to another.
        InputError: Settings that don't fit the dataset.
        OutputError: `output` can't be written.
    """
    settings = settings or FitSettings()
    say = on_stage or (lambda _: None)
    target = Path(output)
    opened = keep_frames(LeRobotDataset.open(dataset).with_tasks(settings.tasks), settings.frames)
    columns = settings.columns(opened)
    contract = begun_contract(opened, settings, columns)
    head = fit_head(opened, settings, columns)
    found = _existing(target, head)
    if found is not None:
        return found
    given = Opened(dataset, settings.tasks, opened, head["dataset"]["fingerprint"])
    with new_directory(target) as directory, crew_of(engine, [given]) as crew:
        contract, made = _fit(opened, crew, directory, contract, columns, settings, skip_bad, say)
        write_json(directory / FILE_NAME, {**head, **made, "contract": CONTRACT_FILE})
    return FitResult(directory=target, contract=replace(contract, source=str(target)), **head, **made)


def fit_head(dataset: LeRobotDataset, settings: FitSettings, columns: FrameColumns) -> dict[str, Any]:
    """Returns what `fit.json` says before anything is computed: settings, dataset, versions."""
    return {
        "settings": as_json(settings),
        "dataset": {
            "name": dataset.path.resolve().name,
            "path": str(dataset.path.resolve()),
            "fingerprint": dataset.fingerprint(),
            "state_names": columns.state_names(dataset),
            "action_names": columns.action_names(dataset),
            "state_dims": columns.state_dims and list(columns.state_dims),
            "action_dims": columns.action_dims and list(columns.action_dims),
            **kept_of(dataset),
        },
        "versions": {"format": FORMAT, "pioxide": pioxide.__version__},
    }


def begun_contract(dataset: LeRobotDataset, settings: FitSettings, columns: FrameColumns) -> Contract:
    """Returns the contract as far as it is known before anything is computed.

    Raises:
        ContractError: The robot's numbers are not the dataset's, or one joint would be relative to another.
        InputError: The dataset has no such column or joint.
    """
    if settings.robot is None:
        robot = dataset_robot(dataset, columns)
    else:
        robot = recorded_robot(settings.robot, dataset, columns)
    mask = () if robot.delta_mask is None else robot.delta_mask
    if settings.delta_mask is not None or settings.relative:
        mask = make_mask(*(settings.delta_mask or ()))
        if settings.relative:
            mask = named_mask(settings.relative, columns.action_names(dataset))
        if robot.delta_mask is not None:
            said = Contract(delta_mask=mask), Contract(delta_mask=robot.delta_mask)
            refuse_differences(
                *said, names=("the settings (--delta-mask or --relative)", f"the robot {robot.name}")
            )
    check_delta_mask(robot, mask if any(mask) else ())
    rule = NormRule.openpi(settings.normalization)
    return Contract(
        robot=replace(robot, delta_mask=None),
        delta_mask=mask,
        state_norm=rule,
        action_norm=rule,
        action_horizon=settings.horizon,
        source="pioxide fit",
    )


def _fit(
    dataset: LeRobotDataset,
    crew: Crew,
    directory: Path,
    contract: Contract,
    columns: FrameColumns,
    settings: FitSettings,
    skip_bad: bool,
    say: OnStage,
    wild: Mapping[int, str] = MappingProxyType({}),
) -> tuple[Contract, dict[str, Any]]:
    """Fits without the episodes that are known to be wild, and again where others turn out to be."""
    chosen = [index for index in settings.selection.of(dataset) if index not in wild]
    skipped = [{"episode": index, "reason": reason} for index, reason in wild.items()]

    def left_out(info: EpisodeInfo, error: DatasetError) -> None:
        skipped.append({"episode": info.index, "reason": str(error)})

    robot = known(contract.robot, "robot")
    say(f"statistics of {len(chosen)} episodes")
    try:
        stats = compute_stats(
            dataset,
            horizon=settings.horizon,
            columns=columns,
            delta_mask=known(contract.delta_mask, "delta_mask"),
            robot=robot,
            episodes=chosen,
            on_bad=left_out if skip_bad else None,
            crew=None if isinstance(crew, Alone) else crew,
        )
    except InputError as error:
        if len(skipped) == len(chosen) + len(wild):
            raise nothing_left([s["reason"] for s in skipped]) from error
        raise
    contract = replace(contract, norm_stats=stats)
    cutter = FrameCutter.of(contract, columns)
    bad = {s["episode"] for s in skipped}
    fit_on, held_out = split_episodes([e for e in chosen if e not in bad], settings)

    source = SampleSource(dataset, cutter, tuple(fit_on))
    (sample,) = draw_chunks([source], settings.max_chunks, settings.seed, crew)
    options = settings.codec_options
    say(f"a codec ({options}) from {len(sample.chunks)} chunks of {len(fit_on)} episodes")
    names = columns.action_names(dataset)
    codec, found = made_codec(options, [sample], [names], skip_bad=skip_bad)
    if found:
        wild = {**wild, **{one.episode: one.reason for one in found}}
        return _fit(dataset, crew, directory, contract, columns, settings, skip_bad, say, wild)
    say(f"judging it on {len(held_out)} held-out episodes" if held_out else "judging it on the same episodes")
    evaluation = Evaluation(codec, cutter.numbers, names)
    evaluation.read(crew, 0, cutter, held_out or fit_on)

    codec.save(directory, horizon=settings.horizon, dim=robot.action_dim)
    save_norm_stats(directory, stats)
    # Loaded again, because the files carry the horizon and the width that the codec in memory does not.
    contract = replace(contract, fast=action_vocabulary(load_codec(directory)))
    save_contract(contract, directory)
    return contract, {
        "held_out": held_out,
        "skipped": sorted(skipped, key=lambda entry: entry["episode"]),
        "fitted_chunks": len(sample.chunks),
        "result": evaluation.result(),
    }


def split_episodes(episodes: Sequence[int], settings: FitSettings) -> tuple[list[int], list[int]]:
    """Returns episodes to fit on and episodes to judge on, the latter empty when one is all there is.

    Raises:
        InputError: Nothing is left to fit on.
    """
    if not episodes:
        raise InputError("nothing to fit on: every episode was left out")
    if settings.held_out_episodes:
        held_out = set(select_episodes(settings.held_out_episodes, episodes))
    else:
        number = round(settings.held_out * len(episodes))
        if settings.held_out > 0 and len(episodes) > 1:
            number = min(max(number, 1), len(episodes) - 1)
        held_out = set(np.random.default_rng(settings.seed).permutation(episodes)[:number].tolist())
    fit_on = [e for e in episodes if e not in held_out]
    if not fit_on:
        raise InputError("nothing to fit on: every episode is held out")
    return fit_on, sorted(held_out)


def _existing(target: Path, head: dict[str, Any]) -> FitResult | None:
    """The result of an earlier run with the same settings; None where the target does not exist yet."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    if not (target / FILE_NAME).is_file():
        raise SettingsError(f"{target} exists and was not made by pioxide fit; choose another directory")
    found = FitResult.load(target)
    before = {
        **decisive(found.settings, found.dataset),
        "dataset": {"fingerprint": found.dataset.get("fingerprint")},
        "versions": found.versions,
    }
    now = {
        **decisive(head["settings"], head["dataset"]),
        "dataset": {"fingerprint": head["dataset"]["fingerprint"]},
        "versions": head["versions"],
    }
    refuse_changes(changes(before, now), target)
    return found
