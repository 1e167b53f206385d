"""Subtasks of a dataset's frames: what the robot does at each moment, from a column or from spans.

A column holds a text a frame, or is `subtask_index`, whose texts LeRobot keeps in `meta/subtasks.parquet`.

A file of spans is JSON, `to` being the first frame after a span:

    [{"episode": 0, "from": 0, "to": 120, "text": "pick up the cup"}, ...]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pioxide.data.faults import fault
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.listing import listed_subtasks
from pioxide.data.spans import frames_of
from pioxide.data.tasks import TaskChoice
from pioxide.errors import InputError
from pioxide.files import read_json

# Stands for "none" among the texts of a column, in which no text can have it.
_NONE = "\0"
SUBTASK_INDEX = "subtask_index"


@dataclass(frozen=True)
class Subtasks:
    """What the robot does in each frame of a dataset.

    Attributes:
        texts: The different subtasks.
        frames: By episode, [T] which of them a frame is in; -1 for none. Episodes without any may be missing.
    """

    texts: tuple[str, ...]
    frames: Mapping[int, NDArray[np.int32]]

    @classmethod
    def read(cls, said: str, dataset: LeRobotDataset) -> Subtasks:
        """Reads a file of spans where `said` ends in .json, and a column of the dataset elsewhere.

        Raises:
            InputError: A span is of no episode or frame that there is, overlaps another or has no text; or
                there is no such column of texts.
            DatasetError: `subtask_index` and its table of texts are not there or do not fit each other.
            FormatError: The file is no JSON.
        """
        if said == SUBTASK_INDEX and said in dataset.features and dataset.features[said].is_numeric:
            return cls.of_index(dataset)
        if said.endswith(".json"):
            return cls.of_spans(read_json(Path(said)), dataset, where=said)
        return cls.of_column(said, dataset)

    @classmethod
    def of_spans(cls, spans: Any, dataset: LeRobotDataset, where: str = "subtasks") -> Subtasks:
        """Reads what a file of spans holds; for errors see `read`."""
        if not isinstance(spans, list) or not spans:
            raise InputError(f"{where}: expected a list of spans, got {type(spans).__name__}")
        lengths = {info.index: info.length for info in dataset.episodes}
        texts: dict[str, int] = {}
        frames: dict[int, NDArray[np.int32]] = {}
        for number, span in enumerate(cast("list[Any]", spans)):
            place = f"{where}: span {number}"
            episode, start, stop, text = _fields(span, place)
            frames_of(place, lengths, episode, start, stop)
            of = frames.setdefault(episode, np.full(lengths[episode], -1, np.int32))
            if (taken := np.flatnonzero(of[start:stop] >= 0)).size:
                frame = start + int(taken[0])
                other = list(texts)[of[frame]]
                raise InputError(f"{place}: frame {frame} of episode {episode} is in {other!r} already")
            of[start:stop] = texts.setdefault(text, len(texts))
        return cls(tuple(texts), frames)

    @classmethod
    def of_column(cls, column: str, dataset: LeRobotDataset) -> Subtasks:
        """Reads a column that holds a text a frame; empty ones are none. For errors see `read`."""
        if column in dataset.features and dataset.features[column].is_numeric:
            raise InputError(
                f"subtasks: {column!r} holds numbers; pass a column of texts, {SUBTASK_INDEX}, or a .json of "
                "spans"
            )
        said = dataset.with_tasks(TaskChoice(task=_NONE, task_key=column))
        found = [(episode.index, episode.task_index) for episode in said.scan(())]
        used = np.unique(np.concatenate([index for _, index in found]))
        kept = [int(index) for index in used if said.tasks[int(index)] != _NONE]
        if not kept:
            raise InputError(f"subtasks: {column!r} holds no text")
        number = np.full(max(said.tasks) + 1, -1, np.int32)
        number[kept] = np.arange(len(kept))
        return cls(
            tuple(said.tasks[index] for index in kept), {episode: number[index] for episode, index in found}
        )

    @classmethod
    def of_index(cls, dataset: LeRobotDataset) -> Subtasks:
        """Reads `subtask_index` and the table of its texts; empty ones are none.

        Raises:
            InputError: No frame has a text.
            DatasetError: A frame has a number that the table does not list, or none; or there is no such
                table.
        """
        texts = listed_subtasks(dataset.path)
        number = np.array([i if text.strip() else -1 for i, text in enumerate(texts)], np.int32)
        frames: dict[int, NDArray[np.int32]] = {}
        for episode in dataset.scan((SUBTASK_INDEX,)):
            said = episode.columns[SUBTASK_INDEX].reshape(-1)
            if (strange := np.flatnonzero((said < 0) | (said >= len(texts)) | (said % 1 != 0))).size:
                frame = int(strange[0])
                raise fault(
                    f"frame {frame} has {SUBTASK_INDEX} {said[frame]}, and meta/subtasks.parquet lists 0 to "
                    f"{len(texts) - 1}",
                    file=dataset.episode(episode.index).file,
                    episode=episode.index,
                )
            frames[episode.index] = number[said.astype(np.int64)]
        if not any((of >= 0).any() for of in frames.values()):
            raise InputError(f"subtasks: {SUBTASK_INDEX!r} names no text")
        return cls(tuple(text.strip() for text in texts), frames)

    def of_episode(self, index: int, length: int) -> NDArray[np.int32]:
        """Returns [T] which subtask each frame of an episode is in; -1 for none."""
        return self.frames.get(index, np.full(length, -1, np.int32))


def _fields(span: Any, place: str) -> tuple[int, int, int, str]:
    if not isinstance(span, dict) or {*cast("dict[str, Any]", span)} != {"episode", "from", "to", "text"}:
        raise InputError(f"{place}: expected episode, from, to and text, got {span!r}")
    said = cast("dict[str, Any]", span)
    for name in ("episode", "from", "to"):
        if isinstance(said[name], bool) or not isinstance(said[name], int):
            raise InputError(f"{place}: {name}: expected a whole number, got {said[name]!r}")
    if not isinstance(said["text"], str) or not said["text"].strip():
        raise InputError(f"{place}: text: expected words, got {said['text']!r}")
    return said["episode"], said["from"], said["to"], said["text"].strip()
