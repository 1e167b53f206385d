"""What a person hands to `doctor`: a checkpoint, tokens, a robot, a dataset, each opened and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec, holds_codec, load_codec
from pioxide.contract import FILE_NAME, UNKNOWN, Contract, load_contract
from pioxide.data import EpisodeInfo, FrameColumns, JointChoice, LeRobotDataset
from pioxide.data.robot import dataset_robot
from pioxide.errors import DatasetError, FormatError
from pioxide.robots import RobotSpec
from pioxide.shards import Manifest

# A sample of long chunks of wide robots has fewer frames, so that it fits in memory (400 MB).
NUMBERS = 50_000_000
STATE_KEYS, ACTION_KEYS = ("observation.state",), ("action",)


class Kind(StrEnum):
    """What lies at a path that has a contract."""

    CHECKPOINT = "checkpoint"
    FITTED = "fitted tokenizer"
    TOKENS = "tokens"
    CONTRACT = "contract"


@dataclass(frozen=True)
class Subject:
    """Something that has a contract.

    Attributes:
        path: Where it is, as it was given.
        kind: What it is.
        contract: Its own.
        codec: The action tokenizer that lies there, or None.
        manifest: Of tokens, else None.
        notes: How the contract was read, in whole sentences.
    """

    path: str
    kind: Kind
    contract: Contract
    codec: ActionCodec | None = None
    manifest: Manifest | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """A dataset, and which of its columns are the state and the actions.

    Attributes:
        dataset: Opened.
        columns: Of the state and the actions.
        robot: What the dataset itself says: widths, names, rate and cameras; no signs and no grippers.
    """

    dataset: LeRobotDataset
    columns: FrameColumns
    robot: RobotSpec

    @property
    def name(self) -> str:
        """Returns what messages call it."""
        return self.dataset.path.name


@dataclass(frozen=True)
class Sample:
    """Frames spread over a dataset's episodes, N of them, in the units they were recorded in.

    Attributes:
        states: [N, S].
        actions: [N, H, D], the chunk that begins at each frame.
        prompts: Distinct instructions.
        prompt_index: [N], which of them each frame has.
        tick: Seconds between frames times the declared rate: 1 where both agree; None without timestamps.
        episodes: How many were looked at.
        left_out: Why episodes could not be read; NaN and infinite numbers are such reasons.
    """

    states: NDArray[np.float64]
    actions: NDArray[np.float64]
    prompts: tuple[str, ...]
    prompt_index: NDArray[np.int64]
    tick: float | None
    episodes: int
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        """Returns N."""
        return len(self.states)


def open_subject(path: str, asset_id: str | None = None, robot: str | None = None) -> Subject:
    """Opens a checkpoint, a directory of `fit` or `tokenize`, or a `contract.json`.

    Args:
        path: Which; a checkpoint may be an address.
        asset_id: Whose statistics, where a checkpoint has those of several robots.
        robot: Whose contract, where there are several robots'.

    Raises:
        PioxideError: Nothing is there, or it is damaged, or has no contract, or those of several robots and
            none of that name; says which.
    """
    place = Path(path).expanduser()
    if place.is_file() and place.suffix == ".json":
        contract = load_contract(place, robot)
        assert contract is not None  # the file is there
        return Subject(path, Kind.CONTRACT, contract)
    kind = _kind(place)
    if kind is Kind.CHECKPOINT and (not place.is_dir() or _has_tensors(place)):
        return _checkpoint(path, asset_id, robot)
    contract = load_contract(place, robot)
    if contract is None:
        why = "an earlier pioxide made it; run `pioxide fit` or `tokenize` again"
        if kind is Kind.CHECKPOINT:
            why = "it holds neither tensors nor what they mean"
        raise FormatError(f"{path} has no {FILE_NAME}: {why}")
    if kind is Kind.CHECKPOINT:
        return Subject(path, Kind.CONTRACT, contract, _codec(place))
    manifest = Manifest.load(place) if kind is Kind.TOKENS else None
    return Subject(path, kind, contract, _codec(place), manifest)


def _checkpoint(path: str, asset_id: str | None, robot: str | None) -> Subject:
    """A checkpoint of any format: its headers are read, and what lies beside them."""
    from pioxide.weights import contract_of, load  # brings JAX's formats, which the other kinds don't need

    with load(path) as found:
        checkpoint = found.of(robot)
        directory = checkpoint.companions.fast_tokenizer
        codec = None if directory is None else load_codec(directory)
        notes = checkpoint.said.notes
        return Subject(path, Kind.CHECKPOINT, contract_of(checkpoint, asset_id), codec, notes=notes)


def open_recording(
    path: str,
    robot: RobotSpec | None,
    state_keys: Sequence[str] | None = None,
    action_keys: Sequence[str] | None = None,
    choice: JointChoice | None = None,
    columns: FrameColumns | None = None,
) -> Recording:
    """Opens a dataset, and settles which columns a robot's numbers are.

    Args:
        path: A LeRobot dataset.
        robot: Whose keys are columns, where the dataset has all of them.
        state_keys: Columns of the state; by default the robot's keys, else observation.state.
        action_keys: Columns of the actions; by default the robot's key, else action.
        choice: Which of their dimensions; all by default.
        columns: All of this at once, as tokens have noted it; ignored where the dataset lacks them.

    Raises:
        DatasetError: It can't be read.
        InputError: It has no such column.
    """
    dataset = LeRobotDataset.open(path)
    own = () if robot is None else tuple(part.key for part in robot.state)
    actions = () if robot is None else (robot.actions_key,)
    state = tuple(state_keys or (own if own and set(own) <= dataset.features.keys() else STATE_KEYS))
    action = tuple(
        action_keys or (actions if actions and set(actions) <= dataset.features.keys() else ACTION_KEYS)
    )
    if columns is None or not set(columns.all) <= dataset.features.keys():
        columns = (choice or JointChoice()).of(dataset, FrameColumns(state, action))
    return Recording(dataset, columns, dataset_robot(dataset, columns))


def sample(recording: Recording, horizon: int, frames: int, episodes: int = 256) -> Sample:
    """Reads frames spread evenly over a dataset.

    Args:
        recording: Which columns.
        horizon: H, actions in a chunk; past an episode's end the last action is repeated.
        frames: About how many to take.
        episodes: How many episodes to open at most, evenly spaced.

    Raises:
        DatasetError: Not one episode can be read.
    """
    dataset = recording.dataset
    frames = max(1, min(frames, NUMBERS // (horizon * recording.robot.action_dim)))
    chosen = np.unique(np.linspace(0, len(dataset.episodes) - 1, episodes).round().astype(int)).tolist()
    step = max(1, sum(dataset.episodes[i].length for i in chosen) // frames)
    has_time = (
        dataset.fps > 0 and "timestamp" in dataset.features and dataset.features["timestamp"].is_numeric
    )
    columns = [*recording.columns.all, *(["timestamp"] if has_time else [])]
    states, actions, index, ticks, left_out = [], [], [], [], []
    prompts: dict[str, int] = {}
    opened = 0

    def skip(info: EpisodeInfo, error: DatasetError) -> None:
        left_out.append(str(error))

    for episode in dataset.scan(columns, chosen, on_bad=skip):
        opened += 1
        at = np.arange(len(episode) % step // 2, len(episode), step)
        state = recording.columns.state(episode).astype(np.float64)[at]
        action = recording.columns.actions(episode).astype(np.float64)
        chunk = action[np.minimum(at[:, None] + np.arange(horizon), len(action) - 1)]
        states.append(state)
        actions.append(chunk)
        texts, which = episode.prompts
        numbers = np.array([prompts.setdefault(text, len(prompts)) for text in texts])
        index.append(numbers[which[at]])
        if has_time and len(episode) > 1:
            ticks.append(np.median(np.diff(episode.columns["timestamp"].astype(np.float64).ravel())))
    if not opened:
        raise DatasetError(f"{recording.name}: no episode can be read: {left_out[0]}")
    return Sample(
        np.concatenate(states),
        np.concatenate(actions),
        tuple(prompts),
        np.concatenate(index),
        float(np.median(ticks) * dataset.fps) if ticks else None,
        opened,
        tuple(left_out),
    )


def effective(checkpoint: Contract, tokens: Contract | None, robot: RobotSpec | None) -> Contract:
    """Returns what would run: the checkpoint's contract with the robot's mapping; tokens fill the rest."""
    said = {}
    if tokens is not None:
        said = {name: getattr(tokens, name) for name in checkpoint.unknown}
    if robot is not None:
        said["robot"] = robot
        if checkpoint.delta_mask is UNKNOWN and robot.delta_mask is not None:
            said["delta_mask"] = robot.delta_mask
    return replace(checkpoint, **said)


def _has_tensors(place: Path) -> bool:
    patterns = (
        "params",
        "*/params",
        "*.npz",
        "*.safetensors",
        "*.safetensors.index.json",
        "**/*.safetensors",
    )
    return any(next(place.glob(pattern), None) is not None for pattern in patterns)


def _kind(place: Path) -> Kind:
    if (place / "fit.json").is_file():
        return Kind.FITTED
    return Kind.TOKENS if (place / "manifest.json").is_file() else Kind.CHECKPOINT


def _codec(place: Path) -> ActionCodec | None:
    directories = (directory for directory in (place, place / "fast") if holds_codec(directory))
    return next(map(load_codec, directories), None)
