"""Where the instructions of a dataset's frames come from: `task_index`, another column, or a person.

One that exists is never replaced unless a person says so for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pioxide.data.decode import Batches, bad, indices_of
from pioxide.data.episode import EpisodeInfo
from pioxide.errors import InputError

TaskFor = Literal["missing", "all"]
TASK_INDEX = "task_index"


@dataclass(frozen=True)
class Instructions:
    """The instructions of a dataset, and which of them a frame has.

    Attributes:
        tasks: instruction by task index.
        column: of the data files, with a task index or a text a frame.
        texts: task index by text, where the column holds texts.
        by_episode: task index by episode, where the list of episodes says it and no column does.
        fill: task index of frames that have no instruction; None makes them a fault of their episode.
        everywhere: task index of all frames, whatever they say.
        lost: why the dataset's own tasks can't be read; "" where they can.
    """

    tasks: dict[int, str]
    column: str = TASK_INDEX
    texts: dict[str, int] | None = None
    by_episode: dict[int, int] | None = None
    fill: int | None = None
    everywhere: int | None = None
    lost: str = ""

    @property
    def plain(self) -> bool:
        """Returns whether `task_index` says it, as LeRobot has it."""
        return self.column == TASK_INDEX and self.by_episode is None and self.everywhere is None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data files that have to be read for it, besides the index columns."""
        return () if self.by_episode is not None or self.everywhere is not None else (self.column,)

    def of_frames(self, info: EpisodeInfo, batches: Batches) -> tuple[NDArray[np.int64], int]:
        """Returns the task index of an episode's frames [T], and how many of them had none of their own.

        Raises:
            DatasetError: a frame has none, or one that is not listed.
        """
        if self.everywhere is not None:
            return np.full(info.length, self.everywhere, np.int64), 0
        found = self._found(info, batches)
        missing = [index for index in np.unique(found).tolist() if not self._counts(self.tasks.get(index))]
        if not missing:
            return found, 0
        without = np.isin(found, missing)
        if self.fill is None:
            frame = int(np.argmax(without))
            raise bad(info, self._reason(frame, int(found[frame])))
        return np.where(without, self.fill, found), int(np.count_nonzero(without))

    def _counts(self, task: str | None) -> bool:
        """An empty text is an instruction, if a poor one, until a person gives one for frames without."""
        return task is not None and (self.fill is None or bool(task.strip()))

    def _found(self, info: EpisodeInfo, batches: Batches) -> NDArray[np.int64]:
        """Task indices as they are said; -1 where nothing is."""
        if self.by_episode is not None:
            return np.full(info.length, self.by_episode.get(info.index, -1), np.int64)
        if self.column not in batches[0].schema.names:
            return np.full(info.length, self._only(info) if self.plain else -1, np.int64)
        if self.texts is not None:
            said = (text for batch in batches for text in texts_of(batch.column(self.column)))
            return np.array([-1 if text is None else self.texts.get(text, -1) for text in said], np.int64)
        if self.fill is not None:
            batches = [_without_nulls(batch, self.column) for batch in batches]
        return indices_of(info, batches, self.column)

    def _only(self, info: EpisodeInfo) -> int:
        """The task of an episode whose rows don't say: the only one that it, or the dataset, can have."""
        listed = set(info.tasks)
        if self.fill is not None and not any(task.strip() for task in listed):
            return -1
        found = [index for index, task in self.tasks.items() if not listed or task in listed]
        if len(found) == 1 and len(listed) <= 1:
            return found[0]
        if not found and len(self.tasks) == 1:
            return next(iter(self.tasks))
        raise bad(info, f'has no column "task_index", and {len(found) or len(self.tasks)} tasks are possible')

    def _reason(self, frame: int, index: int) -> str:
        way_out = "--task TEXT gives one to such frames"
        if self.lost:
            return f"no instruction is known ({self.lost}; the list of episodes names not one); {way_out}"
        if self.plain:
            return f"frame {frame} has task_index {index}, and no such task is listed in meta/; {way_out}"
        where = "the list of episodes" if self.by_episode is not None else f'"{self.column}"'
        return f"frame {frame} has no instruction in {where}; {way_out}"


@dataclass(frozen=True)
class TaskChoice:
    """What a person says about instructions.

    Attributes:
        task: the instruction of frames that have none: no task listed, an empty one, one that is not listed.
        task_for: "all" puts it in the place of every other one.
        task_key: the column with the instructions, of the data files (a text, or an index into the tasks) or
            of the list of episodes.
    """

    task: str = ""
    task_for: TaskFor = "missing"
    task_key: str = ""

    def __post_init__(self) -> None:
        """Refuses what can't be meant.

        Raises:
            InputError: "all" without a task, or with a column.
        """
        if self.task_for not in get_args(TaskFor):
            raise InputError(f"task_for {self.task_for!r}: expected {' or '.join(get_args(TaskFor))}")
        if self.task_for == "all" and not self.task.strip():
            raise InputError("task_for all needs the instruction: --task TEXT")
        if self.task_for == "all" and self.task_key:
            raise InputError("one instruction for all, and instructions from a column: leave one of them out")

    @classmethod
    def noted(cls, settings: Mapping[str, Any]) -> TaskChoice:
        """Reads what a job or a fit noted down among its settings."""
        return cls(settings["task"], settings["task_for"], settings["task_key"])

    def instructions(
        self, own: Instructions, texts: Iterable[str] | None, by_episode: dict[int, Any] | None
    ) -> Instructions:
        """Returns what this comes to.

        Args:
            own: the dataset's.
            texts: of the column, where that holds texts.
            by_episode: texts by episode, where the list of episodes holds them.
        """
        if self.task_for == "all":
            return Instructions({0: self.task}, everywhere=0)
        tasks, index = own.tasks, None
        if texts is not None or by_episode is not None:
            found = texts if by_episode is None else by_episode.values()
            different = dict.fromkeys(text for text in found or () if isinstance(text, str))
            index = {text: i for i, text in enumerate(different)}
            tasks = {i: text for text, i in index.items()}
        fill = None
        if self.task.strip():
            fill = next((i for i, text in tasks.items() if text == self.task), max(tasks, default=-1) + 1)
            tasks = {**tasks, fill: self.task}
        if by_episode is not None and index is not None:
            said = {e: index[text] for e, text in by_episode.items() if isinstance(text, str)}
            return Instructions(tasks, self.task_key, by_episode=said, fill=fill)
        if self.task_key:
            return Instructions(tasks, self.task_key, index, fill=fill)
        return replace(own, tasks=tasks, fill=fill)


def texts_of(column: pa.Array) -> list[str | None]:
    """Returns the texts of a column, one a frame; lists of one text count as that text.

    >>> texts_of(pa.array([["fold"], None, ["fold"]]))
    ['fold', None, 'fold']
    """
    values = column.to_pylist()
    single = (value[0] if isinstance(value, list) and len(value) == 1 else value for value in values)
    return [value if isinstance(value, str) else None for value in single]


def _without_nulls(batch: pa.RecordBatch, key: str) -> pa.RecordBatch:
    """A batch whose missing task indices are -1."""
    column = batch.column(key)
    if not column.null_count or not pa.types.is_integer(column.type):
        return batch
    filled = column.cast(pa.int64()).fill_null(-1)
    return batch.set_column(batch.schema.get_field_index(key), key, filled)
