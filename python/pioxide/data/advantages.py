"""Advantages of a dataset's frames: which actions were good, from a column, or a file of spans or values.

A file is JSON: spans, `to` being the first frame after one (a span without both is its whole episode), or a
number for each frame of an episode.

    [{"episode": 0, "from": 0, "to": 120, "advantage": "positive"}, {"episode": 1, "advantage": "negative"}]
    [{"episode": 0, "values": [-0.12, -0.08, 0.31]}]
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import Advantage
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.spans import frames_of
from pioxide.errors import InputError
from pioxide.files import read_json


@dataclass(frozen=True)
class AdvantageRule:
    """How numbers become good or bad. True and false, or 1 and 0, need neither threshold nor share.

    Attributes:
        threshold: What is above it is good.
        positive_share: The share of each task's frames that is good: the best ones (0.3 in the paper).
        interventions: A column of which frames a person acted in; these are good whatever their number, and
            don't count in the share. Empty for none.
    """

    threshold: float | None = None
    positive_share: float | None = None
    interventions: str = ""

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: A share or a threshold out of its range, or both.
        """
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise InputError(f"advantage: the threshold is {self.threshold}, expected a number")
        if self.positive_share is not None and not 0 < self.positive_share < 1:
            raise InputError(
                f"advantage: the share of good frames is {self.positive_share}, expected above 0 and below 1"
            )
        if self.threshold is not None and self.positive_share is not None:
            raise InputError("advantage: give a threshold or a share of good frames, not both")

    @property
    def by_number(self) -> bool:
        """Returns whether numbers are compared with something; else they are labels."""
        return self.threshold is not None or self.positive_share is not None


@dataclass(frozen=True)
class Advantages:
    """Which frames of a dataset have good actions.

    Attributes:
        frames: By episode, [T] 1 for a good frame, 0 for another, -1 where nobody says.
    """

    frames: Mapping[int, NDArray[np.int8]]

    @classmethod
    def read(
        cls,
        said: str,
        dataset: LeRobotDataset,
        rule: AdvantageRule | None = None,
        episodes: Collection[int] | None = None,
    ) -> Advantages:
        """Reads a file where `said` ends in .json, and a column of the dataset elsewhere.

        Args:
            said: The file or the column.
            dataset: Whose frames.
            rule: How numbers become good or bad.
            episodes: Which episodes to read, and to take shares of; None for all.

        Raises:
            InputError: A span or a number is of no episode or frame that there is, a span overlaps another, a
                number is not finite, or the rule does not fit what is there; or there is no such column.
            FormatError: The file is no JSON.
            DatasetError: The column can't be read, or holds NaN or infinity.
        """
        if said.endswith(".json"):
            return cls.of_file(read_json(Path(said)), dataset, rule, episodes, where=said)
        return cls.of_column(said, dataset, rule, episodes)

    @classmethod
    def of_file(
        cls,
        entries: Any,
        dataset: LeRobotDataset,
        rule: AdvantageRule | None = None,
        episodes: Collection[int] | None = None,
        *,
        where: str = "advantage",
    ) -> Advantages:
        """Reads what a file holds; for errors see `read`."""
        if not isinstance(entries, list) or not entries:
            raise InputError(f"{where}: expected a list of spans or values, got {type(entries).__name__}")
        lengths = {info.index: info.length for info in dataset.episodes}
        values: dict[int, NDArray[np.float64]] = {}
        several = cast("list[Any]", entries)
        numbers = isinstance(several[0], dict) and "values" in several[0]
        for number, entry in enumerate(several):
            _take(entry, lengths, values, f"{where}: entry {number}", numbers=numbers)
        if episodes is not None:
            values = {episode: each for episode, each in values.items() if episode in episodes}
        return _Read(values, dataset, rule or AdvantageRule(), where, labels=not numbers).decided()

    @classmethod
    def of_column(
        cls,
        column: str,
        dataset: LeRobotDataset,
        rule: AdvantageRule | None = None,
        episodes: Collection[int] | None = None,
    ) -> Advantages:
        """Reads a column of a truth value or a number a frame; for errors see `read`."""
        labels = _dtype(column, dataset) == "bool"
        values = _column(column, dataset, episodes)
        return _Read(values, dataset, rule or AdvantageRule(), repr(column), labels=labels).decided()

    @property
    def count(self) -> tuple[int, int]:
        """Returns how many frames are good, and how many are good or not."""
        each = list(self.frames.values())
        return sum(int((one == 1).sum()) for one in each), sum(int((one >= 0).sum()) for one in each)

    def of_episode(self, index: int, length: int, name: str = "dataset") -> NDArray[np.bool_]:
        """Returns [T] whether each frame of an episode is good.

        Raises:
            InputError: A frame has no advantage; names the dataset so.
        """
        found = self.frames.get(index, np.full(length, -1, np.int8))
        if (missing := np.flatnonzero(found < 0)).size:
            raise InputError(
                f"{name}: {missing.size} of {length} frames of episode {index} have no advantage, frame "
                f"{missing[0]} first: say positive or negative of every frame, or leave the episode out"
            )
        return found == 1


@dataclass
class _Read:
    """What a source says, before a rule makes it good or bad.

    Attributes:
        values: By episode, [T] a number a frame; NaN where nobody says.
        dataset: Whose frames.
        rule: How numbers become good or bad.
        where: What messages call the source.
        labels: Whether it says good or bad by itself.
    """

    values: dict[int, NDArray[np.float64]]
    dataset: LeRobotDataset
    rule: AdvantageRule
    where: str
    labels: bool

    def decided(self) -> Advantages:
        rule, where = self.rule, self.where
        if not self.values:
            raise InputError(f"advantage: {where} says nothing of the chosen episodes")
        if self.labels and rule.by_number:
            raise InputError(
                f"advantage: {where} says good or bad by itself; a threshold and a share are for numbers"
            )
        if not rule.by_number:
            self._check_labels()
        tasks = {one.index: one.task_index for one in self.dataset.scan((), list(self.values))}
        persons = self._interventions()
        every = np.unique(np.concatenate(list(tasks.values())))
        limits = np.full(int(every.max()) + 1, 0.5 if rule.threshold is None else rule.threshold)
        if rule.positive_share is not None:
            for task in every.tolist():
                limits[task] = self._limit(task, tasks, persons, rule.positive_share)
        frames: dict[int, NDArray[np.int8]] = {}
        for episode, each in self.values.items():
            good = (each > limits[tasks[episode]]) | persons[episode]
            frames[episode] = np.where(np.isnan(each) & ~good, -1, good).astype(np.int8)
        seen = {int(t) for e, task in tasks.items() for t in np.unique(task[frames[e] == 1])}
        lacking = [repr(self.dataset.tasks[task]) for task in every.tolist() if task not in seen]
        if not seen:
            raise InputError(
                f"advantage: {where} calls no frame good, and good is what policies are asked for"
            )
        if lacking:
            warnings.warn(
                f"advantage: {where}: no frame of {len(lacking)} tasks is good ({', '.join(lacking[:3])}), "
                "and good is what a policy is asked for",
                stacklevel=4,
            )
        return Advantages(frames)

    def _check_labels(self) -> None:
        for episode, each in self.values.items():
            if (odd := np.flatnonzero(~np.isnan(each) & ~np.isin(each, (0, 1)))).size:
                raise InputError(
                    f"advantage: {self.where} is {each[odd[0]]:g} in frame {odd[0]} of episode {episode}, "
                    "neither 0 nor 1: say above which number actions are good (a threshold), or which share "
                    "of each task's frames is (0.3 in the paper)"
                )

    def _interventions(self) -> dict[int, NDArray[np.bool_]]:
        column = self.rule.interventions
        if not column:
            return {episode: np.zeros(len(each), np.bool_) for episode, each in self.values.items()}
        _dtype(column, self.dataset)
        found = _column(column, self.dataset, list(self.values))
        for episode, each in found.items():
            if (odd := np.flatnonzero(~np.isin(each, (0, 1)))).size:
                raise InputError(
                    f"advantage: {column!r} says whether a person acted, and is {each[odd[0]]:g} in frame "
                    f"{odd[0]} of episode {episode}; expected true or false, or 1 or 0"
                )
        return {episode: each == 1 for episode, each in found.items()}

    def _limit(
        self,
        task: int,
        tasks: Mapping[int, NDArray[np.int64]],
        persons: Mapping[int, NDArray[np.bool_]],
        share: float,
    ) -> float:
        """The number above which a frame of a task is among its best."""
        counted = [v[(tasks[e] == task) & ~persons[e] & ~np.isnan(v)] for e, v in self.values.items()]
        each = np.concatenate(counted)
        if not each.size:
            return 0.0
        limit = float(np.quantile(each, 1 - share))
        if np.mean(each > limit) < share / 2:
            name = self.dataset.tasks[task]
            raise InputError(
                f"advantage: {self.where}: the best {share:.0%} of task {name!r} can't be told apart, "
                f"{np.mean(each == limit):.0%} of its frames have {limit:g}, and {np.mean(each > limit):.0%} "
                "more; give a threshold"
            )
        return limit


def _take(
    entry: Any,
    lengths: Mapping[int, int],
    values: dict[int, NDArray[np.float64]],
    place: str,
    *,
    numbers: bool,
) -> None:
    """Puts a span's label, or an episode's numbers, where they belong."""
    expected = {"episode", "values"} if numbers else {"episode", "advantage"}
    got = {*cast("dict[str, Any]", entry)} if isinstance(entry, dict) else set[str]()
    if not (got == expected or (not numbers and got == {*expected, "from", "to"})):
        words = "episode and values" if numbers else "episode, from, to and advantage"
        raise InputError(f"{place}: expected {words}, got {entry!r:.200}")
    said = cast("dict[str, Any]", entry)
    for name in ("episode", "from", "to"):
        if name in said and (isinstance(said[name], bool) or not isinstance(said[name], int)):
            raise InputError(f"{place}: {name}: expected a whole number, got {said[name]!r}")
    episode = said["episode"]
    start, stop = frames_of(place, lengths, episode, said.get("from", 0), said.get("to"))
    length = lengths[episode]
    of = values.setdefault(episode, np.full(length, np.nan))
    if (taken := np.flatnonzero(~np.isnan(of[start:stop]))).size:
        raise InputError(f"{place}: frame {start + taken[0]} of episode {episode} has an advantage already")
    if not numbers:
        if said["advantage"] not in tuple(Advantage):
            raise InputError(f"{place}: advantage: expected positive or negative, got {said['advantage']!r}")
        of[start:stop] = said["advantage"] == Advantage.POSITIVE
        return
    given: list[Any] = said["values"] if isinstance(said["values"], list) else []
    counted = f"{length} values, one a frame of episode {episode}"
    if len(given) != length:
        raise InputError(f"{place}: expected {counted}, got {len(given)}")
    for frame, value in enumerate(given):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"{place}: values[{frame}]: expected a number, got {value!r}")
        of[frame] = value


def _dtype(column: str, dataset: LeRobotDataset) -> str:
    """Returns a column's dtype; refuses one that holds no number, or several, a frame."""
    if column not in dataset.features:
        there = ", ".join(k for k, f in dataset.features.items() if f.is_numeric and f.dim == 1)
        raise InputError(f"advantage: there is no column {column!r}; columns of one number are {there}")
    feature = dataset.features[column]
    if not feature.is_numeric or feature.dim != 1:
        holds = f"{feature.dim} numbers a frame" if feature.is_numeric else feature.dtype
        raise InputError(f"advantage: {column!r} holds {holds}, expected one truth value or number a frame")
    return feature.dtype


def _column(
    column: str, dataset: LeRobotDataset, episodes: Collection[int] | None
) -> dict[int, NDArray[np.float64]]:
    return {
        one.index: np.asarray(one.columns[column], np.float64).reshape(-1)
        for one in dataset.scan((column,), episodes)
    }
