"""Which episodes of a dataset are used: by number, by a condition, and some held out for validation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pioxide.data.episode import EpisodeInfo
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.where import parse
from pioxide.errors import InputError

# What is known of an episode besides the columns of the list of episodes.
KNOWN = ("episode", "length", "seconds", "task")


@dataclass(frozen=True)
class EpisodeChoice:
    """Which episodes a person wants.

    Attributes:
        episodes: numbers, as in "0:100,!17"; empty for all.
        where: a condition, as in "length >= 30 and task ~ bottle"; empty for none.
    """

    episodes: str = ""
    where: str = ""

    @classmethod
    def noted(cls, settings: Mapping[str, Any]) -> EpisodeChoice:
        """Reads what a job or a fit noted down among its settings."""
        return cls(settings["episodes"], settings["where"])

    def of(self, dataset: LeRobotDataset) -> list[int]:
        """Returns the episodes that both allow, in the dataset's order; none of which no frame is kept.

        An episode whose entry in the metadata is wrong, or whose task can't be read, stays: whoever reads it
        then says what is wrong.

        Raises:
            InputError: a part can't be read, names no episode or nothing that is known, or none is left.
        """
        numbered = select_episodes(self.episodes, [info.index for info in dataset.episodes])
        if dataset.kept is not None:
            numbered = [index for index in numbered if dataset.kept.number(index)]
            if not numbered:
                raise InputError(f"frames: {dataset.kept.said} keeps no frame of the chosen episodes")
        if not self.where.strip():
            return numbered
        condition = parse(self.where)
        tables = {name: _table(dataset, name, numbered) for name in condition.names}
        chosen = [
            index
            for index in numbered
            if dataset.episode(index).problem
            or ("task" in tables and index not in tables["task"])
            or condition.holds({name: table.get(index) for name, table in tables.items()})
        ]
        if not chosen:
            raise InputError(f"where {self.where!r}: true of none of the {len(numbered):,} episodes")
        return chosen


def select_episodes(selection: str, available: Sequence[int]) -> list[int]:
    """Returns episode numbers of text such as "0:10,15" or "0:100,!17".

    >>> select_episodes("0:4,!2", range(10))
    [0, 1, 3]
    >>> select_episodes("!2:", range(4))
    [0, 1]

    Args:
        selection: comma-separated; "a:b" (without b), "a:", ":b" or "a", each with "!" before it to leave out
            what it names. Empty selects all, and so do parts that all leave out.
        available: the dataset's episode numbers.

    Returns:
        The chosen numbers in the order of `available`, each once.

    Raises:
        InputError: a part can't be read, or names no episode of the dataset, or none is left.
    """
    if not selection.strip():
        return list(available)
    chosen: set[int] = set()
    left_out: set[int] = set()
    only_left_out = True
    for part in (p.strip() for p in selection.split(",")):
        found = _of_part(part.removeprefix("!").strip(), selection, available)
        if part.startswith("!"):
            left_out |= found
        else:
            chosen |= found
            only_left_out = False
    if only_left_out:
        chosen = set(available)
    if not chosen - left_out:
        raise InputError(f"episodes {selection!r}: none is left")
    return [i for i in available if i in chosen and i not in left_out]


class Split(NamedTuple):
    """Episodes to learn from, and those to be judged by.

    Attributes:
        train: Numbers, rising.
        held_out: Numbers, rising.
    """

    train: list[int]
    held_out: list[int]


def split_episodes(episodes: Sequence[int], share: float, *, seed: int = 0) -> Split:
    """Holds a share of the episodes out. Whole episodes: neighbouring frames are nearly the same.

    An episode's side depends on its number and the seed alone, in so far as episodes that are recorded later
    move few of the others.

    Args:
        episodes: Their numbers.
        share: Of them to hold out, from 0 up to, not including, 1; above 0 it is at least one episode.
        seed: Another seed holds out others.

    Raises:
        InputError: The share is none, or nothing is left to learn from.
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"a share of {share:g} to hold out: expected from 0 up to, not including, 1")
    chosen = sorted(set(episodes))
    count = 0 if share == 0.0 else max(1, round(share * len(chosen)))
    if count >= len(chosen):
        raise InputError(f"{len(chosen)} episodes, {count} of them held out: none is left to learn from")
    ranked = sorted(chosen, key=lambda index: hashlib.sha256(f"{seed} {index}".encode()).digest())
    held_out = set(ranked[:count])
    return Split([index for index in chosen if index not in held_out], sorted(held_out))


def _of_part(part: str, selection: str, available: Sequence[int]) -> set[int]:
    match = re.fullmatch(r"(\d*):(\d*)|(\d+)", part)
    if match is None:
        raise InputError(f'episodes {selection!r}: {part!r} is not a number or a range such as "0:10"')
    start, stop, single = match.groups()
    if single is not None:
        found = {int(single)} & set(available)
    else:
        found = {i for i in available if int(start or 0) <= i and (not stop or i < int(stop))}
    if not found:
        has = f"{min(available)} to {max(available)}" if available else "none"
        raise InputError(
            f"episodes {selection!r}: {part!r} names no episode of this dataset, which has {has}"
        )
    return found


def _table(dataset: LeRobotDataset, name: str, episodes: Sequence[int]) -> dict[int, Any]:
    """What is known of each episode under a name."""
    infos = [dataset.episode(index) for index in episodes]
    if name == "episode":
        return {info.index: info.index for info in infos}
    if name == "length":
        return {info.index: info.length for info in infos}
    if name == "seconds":
        if dataset.fps <= 0:
            raise InputError("where: seconds need a rate, and the dataset has no fps; use length")
        return {info.index: info.length / dataset.fps for info in infos}
    if name == "task":
        return _tasks(dataset, infos)
    listed = dataset.episode_columns()
    if name not in listed:
        raise InputError(f"where: nothing is known of {name!r}; there are {', '.join((*KNOWN, *listed))}")
    return dataset.episode_values(name)


def _tasks(dataset: LeRobotDataset, infos: Sequence[EpisodeInfo]) -> dict[int, tuple[str, ...]]:
    """The instructions of each episode: as listed, or of its frames where none is or others are used."""
    instructions = dataset.instructions
    if instructions is not None and instructions.everywhere is not None:
        task = instructions.tasks[instructions.everywhere]
        return {info.index: (task,) for info in infos}
    plain = instructions is None or (instructions.plain and instructions.fill is None)
    found = {info.index: info.tasks for info in infos if plain and any(t.strip() for t in info.tasks)}
    rest = [info.index for info in infos if info.index not in found and not info.problem]
    for episode in dataset.scan((), rest, on_bad=lambda *_: None):
        found[episode.index] = tuple(episode.prompts[0])
    return found
