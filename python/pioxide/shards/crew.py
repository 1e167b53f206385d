"""Who reads the datasets of a `fit`: this process, or an engine that has others do it (`crew_on_ray`)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from pioxide.data import LeRobotDataset, TaskChoice
from pioxide.data.portions import Alone, Crew


@dataclass(frozen=True)
class Opened:
    """A dataset that was opened here, and what another process opens it by.

    Attributes:
        path: As it was given, an address too.
        tasks: Which instructions were chosen.
        dataset: It.
        fingerprint: Its.
    """

    path: str | os.PathLike[str]
    tasks: TaskChoice
    dataset: LeRobotDataset
    fingerprint: str


class Reads(Protocol):
    """An engine that reads datasets for a `fit`."""

    def crew(self, datasets: Sequence[Opened]) -> AbstractContextManager[Crew]:
        """Returns who reads these datasets, for as long as the context lasts.

        Raises:
            InputError: There is no such engine here.
        """
        ...


@contextmanager
def crew_of(engine: Reads | None, datasets: Sequence[Opened]) -> Iterator[Crew]:
    """Gives who reads these datasets: the engine's crew, or this process."""
    if engine is None:
        yield Alone([one.dataset for one in datasets])
    else:
        with engine.crew(datasets) as crew:
            yield crew
