"""Opens a source: reads its numbers or its token rows once, and says which rows there are to draw from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec, Pi0Prompts, TextTokenizer
from pioxide.contract import Pipeline, known, refuse_differences
from pioxide.data.episode import Episode, EpisodeInfo
from pioxide.data.images import Fit
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.loader.answers import Answers
from pioxide.data.loader.cache import CacheSettings, FrameCache
from pioxide.data.loader.cameras import Pictures, make_pictures, slot_features
from pioxide.data.loader.index import FrameIndex, frame_times, frames_apart
from pioxide.data.loader.rows import RecordedRows, Rows, Saying, TokenizedRows, Widths
from pioxide.data.loader.source import Source, TokenRows
from pioxide.data.robot import check_robot
from pioxide.data.subtasks import Subtasks
from pioxide.errors import DatasetError, InputError


@dataclass(frozen=True)
class Opened:
    """A source that rows can be drawn from. Picklable: a worker gets it whole.

    Attributes:
        source: What a person said.
        index: Its frames.
        drawn: [M] the rows of the index to draw from.
        rows: Text and numbers.
        pictures: Images, by slot.
        step: Frames from one that the network remembers to the next; 0 for none.
    """

    source: Source
    index: FrameIndex
    drawn: NDArray[np.int64]
    rows: Rows
    pictures: dict[str, Pictures]
    step: int = 0


def open_source(
    source: Source,
    tokenizer: TextTokenizer,
    codec: ActionCodec | None,
    *,
    exact: bool,
    answer_len: int = 0,
    saying: Saying | None = None,
    cache: CacheSettings | None = None,
) -> Opened:
    """Reads a source's numbers, or token rows, into memory, and finds its images; fills the cache with them.

    Args:
        source: What to open.
        tokenizer: Of texts.
        codec: Of actions, for π0-FAST and answers.
        exact: Whether images are resized to the bit as a policy does; see `Fit`.
        answer_len: Ids of the actions as tokens that π0 and π0.5 learn too; 0 for none.
        saying: How the language model is asked for subtasks; None where it is not.
        cache: Where pictures are kept at the model's size; None reads the recording each time.

    Raises:
        ContractError: The contract lacks what is needed, or is another robot's.
        DatasetError: An episode or a video can't be read.
        InputError: An episode or a column is not there, or nothing is left; or the frames that the network
            remembers do not lie at this dataset's rate.
    """
    dataset, contract = source.dataset, source.contract
    Widths.of(contract)  # a robot that is too wide is the better word for it than what the pipeline says
    pipeline = Pipeline(contract, tokenizer, codec)
    if source.tokens is not None:
        refuse_differences(contract, source.tokens.contract, names=(source.name, "its token rows"))
    step = frames_apart(contract.memory.stride, dataset.fps, source.name) if contract.memory else 0
    features = slot_features(contract, dataset, source.cameras)
    timed = step > 0 or any(dataset.features[feature].dtype == "video" for feature in features.values())
    answers = Answers.of(pipeline.prompts, tokenizer, codec, answer_len) if answer_len else None
    index, drawn, rows = read_rows(source, pipeline, timed=timed, answers=answers, saying=saying)
    fit = Fit.of(contract, exact=exact)
    made = {slot: make_pictures(dataset, feature, index, fit) for slot, feature in features.items()}
    pictures: dict[str, Pictures] = {**made}
    if cache is not None:
        named = [(features[slot], recorded) for slot, recorded in made.items()]
        cached = FrameCache.open(cache.directory, dataset.path.resolve().name, fit).fill(named, cache)
        pictures = dict(zip(made, cached, strict=True))
    # Workers read images only; what a person passed may be large.
    return Opened(replace(source, tokens=None), index, drawn, rows, pictures, step)


def read_rows(
    source: Source,
    pipeline: Pipeline,
    *,
    timed: bool,
    answers: Answers | None = None,
    saying: Saying | None = None,
) -> tuple[FrameIndex, NDArray[np.int64], Rows]:
    """Reads a source's numbers, or its token rows, into memory.

    Args:
        source: What to read.
        pipeline: Of its contract.
        timed: Whether the times of frames are needed, and have to be right.
        answers: Writes the actions as tokens too; None for none.
        saying: See `open_source`.

    Returns:
        The frames, the rows of them to draw from, and what gives text and numbers of rows.

    Raises:
        As `open_source`.
    """
    widths, chosen = Widths.of(source.contract), _chosen(source)
    if source.tokens is None:
        return _recorded(source, pipeline, widths, chosen, timed, answers, saying)
    if answers is not None:
        raise InputError(
            f"{source.name}: answer_len asks for the actions as tokens, which token rows of "
            f"{pipeline.family.symbol} don't hold; read the recording"
        )
    return _tokenized(source, source.tokens, pipeline, widths, chosen, timed)


def _chosen(source: Source) -> list[EpisodeInfo]:
    dataset = source.dataset
    if source.episodes is None:
        return list(dataset.episodes)
    return [dataset.episode(index) for index in sorted(source.episodes)]


def _recorded(
    source: Source,
    pipeline: Pipeline,
    widths: Widths,
    chosen: Sequence[EpisodeInfo],
    timed: bool,
    answers: Answers | None,
    saying: Saying | None,
) -> tuple[FrameIndex, NDArray[np.int64], Rows]:
    dataset, columns = source.dataset, source.columns
    check_robot(pipeline.numbers.robot, dataset, columns, source.contract.source or "the contract")
    states: list[NDArray[Any]] = []
    actions: list[NDArray[Any]] = []
    tasks: list[NDArray[np.int64]] = []
    seconds: list[NDArray[np.float64]] = []
    infos: list[EpisodeInfo] = []
    for episode in _read(source, columns.all, [info.index for info in chosen]):
        infos.append(episode.info)
        seconds.append(_times(episode, dataset.fps, timed))
        states.append(columns.state(episode))
        actions.append(columns.actions(episode))
        tasks.append(episode.task_index)
    index = FrameIndex.of(infos, seconds)
    prompts, task = _prompts(source, np.concatenate(tasks))
    rows = RecordedRows(
        index,
        np.concatenate(states),
        np.concatenate(actions),
        task,
        prompts,
        pipeline,
        widths,
        source.on_overflow,
        source.name,
        answers,
    )
    drawn = _kept(dataset, index)
    if source.subtasks is not None:
        subtask = _subtask_of(source, source.subtasks, index)
        rows = replace(rows, subtask=subtask, subtasks=source.subtasks.texts, saying=saying)
        drawn = drawn[subtask[drawn] >= 0]
        if not len(drawn):
            raise InputError(f"{source.name}: no frame of the chosen episodes is kept and has a subtask")
    if source.advantages is not None:
        said = source.advantages
        each = [said.of_episode(info.index, index.length(i), source.name) for i, info in enumerate(infos)]
        rows = replace(rows, good=np.concatenate(each))
        _check_room(source.name, rows)
    return index, drawn, rows


def _kept(dataset: LeRobotDataset, index: FrameIndex) -> NDArray[np.int64]:
    """[M] the rows of the frames that are used."""
    if dataset.kept is None:
        return np.arange(len(index), dtype=np.int64)
    starts = index.starts[:-1].tolist()
    each = [start + dataset.kept.frames(info.index) for start, info in zip(starts, index.infos, strict=True)]
    if not any(map(len, each)):
        raise InputError(f"frames: {dataset.kept.said} keeps no frame of the chosen episodes")
    return np.concatenate(each)


def _check_room(name: str, rows: RecordedRows) -> None:
    """Refuses instructions whose advantage would be cut off."""
    state = np.zeros((1, rows.pipeline.numbers.robot.state_dim))
    length = known(rows.pipeline.contract.text_len, "text_len")
    for text in rows.said():
        # A state that is in the text has three digits a joint here, as many as it can.
        prompts = rows.pipeline.prompts
        assert prompts is not None
        written = prompts.encode(text) if isinstance(prompts, Pi0Prompts) else prompts.encode(text, state[0])
        if written.truncated:
            raise InputError(
                f"{name}: {text!r} takes {written.length} tokens, and text_len is {length}: what stands last "
                "would be cut; a larger text_len keeps it (--numbers.text-len)"
            )


def _subtask_of(source: Source, subtasks: Subtasks, index: FrameIndex) -> NDArray[np.int32]:
    """[N] which subtask each frame is in; says how many are in none."""
    each = [subtasks.of_episode(info.index, index.length(i)) for i, info in enumerate(index.infos)]
    found = np.concatenate(each)
    without = int(np.count_nonzero(found < 0))
    if without == len(found):
        raise InputError(f"{source.name}: no frame of the chosen episodes has a subtask")
    if without:
        empty = sum(bool((one < 0).all()) for one in each)
        whole = f", {empty} of {len(each)} episodes among them" if empty else ""
        warnings.warn(
            f"{source.name}: {without:,} of {len(found):,} frames have no subtask and are left out{whole}",
            stacklevel=2,
        )
    return found


def _tokenized(
    source: Source,
    tokens: TokenRows,
    pipeline: Pipeline,
    widths: Widths,
    chosen: Sequence[EpisodeInfo],
    timed: bool,
) -> tuple[FrameIndex, NDArray[np.int64], Rows]:
    dataset = source.dataset
    read = _read_tokens(tokens, [info.index for info in chosen], source.name)
    present = set(np.unique(read["episode"]).tolist())
    infos: list[EpisodeInfo] = []
    seconds: list[NDArray[np.float64]] = []
    for episode in _read(source, (), sorted(present)):
        infos.append(episode.info)
        seconds.append(_times(episode, dataset.fps, timed))
    index = FrameIndex.of(infos, seconds)
    order = {info.index: i for i, info in enumerate(infos)}
    place = np.array([order[i] for i in read["episode"].tolist()], np.int64)
    lengths = np.diff(index.starts)[place]
    if (over := np.flatnonzero(read["frame"] >= lengths)).size:
        first = int(over[0])
        raise DatasetError(
            f"{source.name}: the token rows have frame {read['frame'][first]} of episode "
            f"{read['episode'][first]}, which has {lengths[first]} here: they are of another dataset"
        )
    drawn = index.starts[place] + read["frame"]
    at = np.full(len(index), -1, np.int64)
    at[drawn] = np.arange(len(drawn))
    rows = TokenizedRows(
        index,
        at,
        read["ids"],
        read["offsets"],
        read["prefix"],
        read.get("state"),
        read.get("actions"),
        pipeline,
        widths,
        known(source.contract.text_len, "text_len"),
    )
    if dataset.kept is not None:
        drawn = drawn[np.isin(drawn, _kept(dataset, index))]
    return index, drawn, rows


def _read_tokens(tokens: TokenRows, chosen: Sequence[int], name: str) -> dict[str, Any]:
    """The token rows of some episodes: `episode`, `frame`, `ids` without padding, `offsets`, and the rest."""
    wanted = np.asarray(sorted(set(chosen)), np.int64)
    parts: dict[str, list[NDArray[Any]]] = {}
    for batch in tokens.batches(4096):
        kept = np.isin(batch["episode"], wanted)
        if not kept.any():
            continue
        mask = batch["mask"][kept]
        columns = {"ids": batch["tokens"][kept][mask], "length": mask.sum(axis=1)}
        for key in ("episode", "frame", "prefix_length", "state", "actions"):
            if key in batch:
                columns[key] = batch[key][kept]
        for key, values in columns.items():
            parts.setdefault(key, []).append(values)
    if not parts:
        raise InputError(f"{name}: the token rows hold none of the chosen episodes")
    found: dict[str, Any] = {key: np.concatenate(values) for key, values in parts.items()}
    found["offsets"] = np.concatenate([[0], np.cumsum(found.pop("length"))]).astype(np.int64)
    found["prefix"] = found.pop("prefix_length", None)
    return found


def _read(source: Source, columns: Sequence[str], episodes: Sequence[int]) -> list[Episode]:
    dataset = source.dataset
    timestamp = dataset.features.get("timestamp")
    optional = ["timestamp"] if timestamp is not None and timestamp.is_numeric else []
    read = list(dataset.scan(columns, episodes, optional=[k for k in optional if k not in columns]))
    if not read:
        raise InputError(f"{source.name}: there are no frames to draw from")
    return read


def _times(episode: Episode, fps: float, timed: bool) -> NDArray[np.float64]:
    """Times matter where images are found by them."""
    return frame_times(episode, fps) if timed else np.zeros(len(episode))


def _prompts(source: Source, tasks: NDArray[np.int64]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The instructions that occur, and for every row which; an empty task is the contract's default."""
    unique, task = np.unique(tasks, return_inverse=True)
    default = source.contract.default_prompt
    prompts: list[str] = []
    for number in unique.tolist():
        text = source.dataset.tasks[number]
        if not text.strip():
            if not isinstance(default, str) or not default.strip():
                raise InputError(
                    f"{source.name}: task {number} is {text!r}, which is no instruction; give such "
                    "frames one (--task TEXT), or the contract a default_prompt"
                )
            text = default
        prompts.append(text)
    return tuple(prompts), task.astype(np.int32)
