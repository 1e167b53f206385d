"""Reads datasets in portions, in this process or wherever a `Crew` has others: what came of each, in order.

`fit` counts, draws and judges by it, so that a cluster can do what one process does, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pioxide.data.episode import EpisodeInfo
from pioxide.data.lerobot import LeRobotDataset

R = TypeVar("R")
Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True)
class Portion:
    """Episodes that are read at a go.

    Attributes:
        source: number of their dataset among those of the crew.
        episodes: their numbers, rising.
    """

    source: int
    episodes: tuple[int, ...]


class Work(Protocol[Result]):
    """Done to each portion. Picklable, and without a trace in the process that does it."""

    def __call__(self, dataset: LeRobotDataset, portion: Portion, /) -> Result:
        """Returns what comes of a portion of this dataset, picklable."""
        ...


class Crew(Protocol):
    """Does work on portions of some datasets."""

    def portions(self, source: int, episodes: Sequence[int]) -> list[Portion]:
        """Returns these episodes of a dataset in portions, which one after another are in `scan`'s order."""
        ...

    def each(self, work: Work[R], portions: Sequence[Portion]) -> Iterator[R]:
        """Yields what comes of each portion, in their order; whoever stops asking stops the rest.

        Raises:
            PioxideError: what the work raises, of the first portion that does.
        """
        ...


@dataclass(frozen=True)
class Alone:
    """Does all of it in this process, one portion after another.

    Attributes:
        datasets: that portions are of.
    """

    datasets: Sequence[LeRobotDataset]

    def portions(self, source: int, episodes: Sequence[int]) -> list[Portion]:
        """Returns them as one portion: files are opened once."""
        return [Portion(source, tuple(sorted(set(episodes))))] if episodes else []

    def each(self, work: Work[R], portions: Sequence[Portion]) -> Iterator[R]:
        """Does what `Crew.each` says."""
        for portion in portions:
            yield work(self.datasets[portion.source], portion)


def cut(dataset: LeRobotDataset, source: int, episodes: Sequence[int], frames: int) -> list[Portion]:
    """Returns episodes in portions of some `frames`, whole files where these are small.

    One after another they are read in the order of one `scan` of all. (In a file whose episodes do not lie in
    the order of their numbers, portions that cut it are in the order of the numbers.)
    """
    files: dict[str, list[EpisodeInfo]] = {}
    for index in sorted(set(episodes)):
        info = dataset.episode(index)
        files.setdefault(info.file, []).append(info)
    parts: list[list[int]] = []
    size = frames
    for infos in files.values():
        for info in infos:
            # One scan of a portion reads its episodes as they rise.
            if size >= frames or info.index < parts[-1][-1]:
                parts.append([])
                size = 0
            parts[-1].append(info.index)
            size += info.length
    return [Portion(source, tuple(part)) for part in parts]
