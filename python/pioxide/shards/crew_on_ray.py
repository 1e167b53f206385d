"""Reads the datasets of a `fit` by tasks of Ray: counts, draws from and judges portions on any core.

A portion leaves nothing behind where it was read, so one whose worker or node died is simply read again. What
came of them is put together here, in their order: the same bits as one process makes.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

import pioxide
from pioxide.data import LeRobotDataset, TaskChoice
from pioxide.data.kept import KeptFrames
from pioxide.data.portions import Portion, R, Work, cut
from pioxide.errors import PioxideError, SettingsError
from pioxide.files import as_address
from pioxide.shards import ray_cluster
from pioxide.shards.crew import Opened

# Portions a core, so that none waits long for another; frames in each.
A_CORE = 4
LEAST, MOST = 5_000, 200_000
# Portions that are begun before what came of them is wanted, a core.
AHEAD = 2
# Datasets that a worker keeps open.
KEPT = 8


@dataclass(frozen=True)
class Member:
    """What a worker opens a dataset by.

    Attributes:
        path: Absolute, or an address.
        tasks: Which instructions were chosen.
        fingerprint: Of what was opened by the machine that asks.
        kept: Which frames are used.
    """

    path: str
    tasks: TaskChoice
    fingerprint: str
    kept: KeptFrames | None


@dataclass(frozen=True)
class _Order:
    """What a worker is told, once for all portions.

    Attributes:
        members: The datasets.
        versions: Of what numbers depend on.
    """

    members: tuple[Member, ...]
    versions: tuple[tuple[str, str], ...]


class RayCrew:
    """See `portions.Crew`; works while Ray is connected."""

    def __init__(self, ray: Any, datasets: Sequence[Opened], workers: int | None) -> None:
        self._ray = ray
        self._datasets = [one.dataset for one in datasets]
        self._cores = max(1, int(workers or ray.cluster_resources().get("CPU", 1)))
        members = tuple(_member(one) for one in datasets)
        self._order = ray.put(_Order(members, _versions()))

    def portions(self, source: int, episodes: Sequence[int]) -> list[Portion]:
        """Does what `Crew.portions` says; there are some for each core of the cluster."""
        dataset = self._datasets[source]
        frames = sum(dataset.episode(index).length for index in set(episodes))
        size = min(max(frames // (A_CORE * self._cores), LEAST), MOST)
        return cut(dataset, source, episodes, size)

    def each(self, work: Work[R], portions: Sequence[Portion]) -> Iterator[R]:
        """Does what `Crew.each` says.

        Raises:
            SettingsError: A node sees another dataset, or has another version of something.
            OutputError: A portion's worker died again and again.
        """
        ray = self._ray
        given = ray.put(work)
        do = ray_cluster.task(ray, _do)
        left, running = list(reversed(portions)), []
        try:
            while left or running:
                while left and len(running) < AHEAD * self._cores:
                    portion = left.pop()
                    running.append((do.remote(self._order, given, portion), portion))
                ref, portion = running[0]
                self._wait(ref, len(running))
                made = ray_cluster.result(ray, ref, f"episodes from {portion.episodes[0]} on")
                running.pop(0)
                yield made
        except BaseException:
            ray_cluster.stop(ray, [ref for ref, _ in running])
            raise

    def _wait(self, ref: Any, running: int) -> None:
        last = time.monotonic()
        while not self._ray.wait([ref], timeout=ray_cluster.LOOK_EVERY)[0]:
            if time.monotonic() - last > ray_cluster.QUIET:
                last = time.monotonic()
                ray_cluster.warn(self._ray, running, "portion of the dataset")


def _member(one: Opened) -> Member:
    path = as_address(one.path) or str(Path(one.path).expanduser().absolute())
    return Member(path, one.tasks, one.fingerprint, one.dataset.kept)


def _versions() -> tuple[tuple[str, str], ...]:
    return ("pioxide", pioxide.__version__), ("numpy", np.__version__), ("pyarrow", pyarrow.__version__)


def _do(order: _Order, work: Work[R], portion: Portion) -> R | PioxideError:
    """Does a portion, in a worker; what is wrong is returned, since Ray makes other errors of raised ones."""
    try:
        return work(_dataset(order.members[portion.source], order.versions), portion)
    except PioxideError as error:
        return error


@lru_cache(maxsize=KEPT)
def _dataset(member: Member, versions: tuple[tuple[str, str], ...]) -> LeRobotDataset:
    """The dataset as this worker sees it, which must be what was opened where the work began.

    Raises:
        SettingsError: It is another one: says on which node, and every difference.
    """
    found = LeRobotDataset.open(member.path).with_tasks(member.tasks)
    there = {"dataset": member.fingerprint, **dict(versions)}
    here = {"dataset": found.fingerprint(), **dict(_versions())}
    other = [name for name in there if there[name] != here[name]]
    if lines := [f"{name}: {there[name]} there, {here[name]} now" for name in other]:
        where = f"{platform.node()}, a node of the cluster, would count something else"
        what = "\n  ".join(lines)
        raise SettingsError(f"{where} (there: where the work began; now: on that node):\n  {what}")
    return replace(found, kept=member.kept)
