"""Makes a job's shards as tasks of Ray, on this machine or on a cluster: an engine beside `threads`.

A task is a shard. It is written under its own name only when it is whole, and its bytes depend on nothing but
the job, so a task whose worker or node died is simply done again, by whoever is left.
"""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pioxide.data.portions import Crew
from pioxide.errors import InputError, PioxideError, SettingsError
from pioxide.files import as_address
from pioxide.shards import ray_cluster
from pioxide.shards.crew import Opened
from pioxide.shards.crew_on_ray import RayCrew
from pioxide.shards.job import Job, Progress, plan_job
from pioxide.shards.manifest import Manifest, ShardRecord
from pioxide.shards.place import Place
from pioxide.shards.plan import ShardTask
from pioxide.shards.settings import JobSettings
from pioxide.shards.shard import JobInputs
from pioxide.shards.threads import Finished

# Tasks that Ray knows of at a time, where nobody says how many.
IN_FLIGHT = 20_000


@dataclass(frozen=True)
class Ray:
    """Makes shards, or reads for a fit, on a Ray cluster.

    Its nodes have pioxide and see the same files by the same paths.

    Ray is shut down at the end, unless the caller had it running: then that is used.

    Attributes:
        address: Of a cluster, as `ray.init` takes it; by default one is started on this machine for this job.
        workers: Tasks that are done at the same time; by default as many as the cluster has cores.
    """

    address: str | None = None
    workers: int | None = None

    def make(
        self,
        job: Job,
        tasks: Sequence[ShardTask],
        place: Place,
        *,
        skip_bad: bool,
        progress: Progress | None,
        finished: Finished,
    ) -> None:
        """Does what `Engine.make` says; progress is told of whole shards.

        Raises:
            InputError: Ray is not installed, there is no such cluster, or no workers.
            SettingsError: A node sees another dataset or other files, or has another version of something.
            OutputError: A shard's worker died again and again, or wrote to where this machine sees nothing.
            PioxideError: As in `Engine.make`.
        """
        self._check()
        if not tasks:
            return
        with self.running() as ray:
            order = ray.put(_Order.of(job, place, skip_bad))
            make = ray_cluster.task(ray, _make)
            left, running = list(reversed(tasks)), {}
            last = time.monotonic()
            try:
                while left or running:
                    while left and len(running) < (self.workers or IN_FLIGHT):
                        task = left.pop()
                        running[make.remote(order, task)] = task
                    done, _ = ray.wait(
                        list(running), num_returns=len(running), timeout=ray_cluster.LOOK_EVERY
                    )
                    for ref in done:
                        task = running.pop(ref)
                        record = ray_cluster.result(ray, ref, task.name)
                        place.arrived(record)
                        finished(record)
                        if progress is not None:
                            progress.advance(task.frames)
                    if done:
                        last = time.monotonic()
                    elif time.monotonic() - last > ray_cluster.QUIET:
                        last = time.monotonic()
                        ray_cluster.warn(ray, len(running), "shard")
            except BaseException:
                for made in ray_cluster.stop(ray, list(running)):
                    if isinstance(made, ShardRecord):
                        finished(made)
                raise

    @contextmanager
    def crew(self, datasets: Sequence[Opened]) -> Iterator[Crew]:
        """Does what `Reads.crew` says.

        Raises:
            InputError: Ray is not installed, there is no such cluster, or no workers.
        """
        with self.running() as ray:
            yield RayCrew(ray, datasets, self.workers)

    @contextmanager
    def running(self) -> Iterator[Any]:
        """Starts Ray, or connects to it, once for all that is done in this context.

        Raises:
            InputError: Ray is not installed, there is no such cluster, or no workers.
        """
        self._check()
        ray = ray_cluster.imported()
        with ray_cluster.connected(ray, self.address, self.workers):
            yield ray

    def _check(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"{self.workers} workers can't do anything")


@dataclass(frozen=True)
class _Order:
    """What a worker is told, once for all shards.

    Attributes:
        name: Of the job's run, by which a worker knows it again.
        inputs: With absolute paths.
        settings: Of the job.
        manifest: That the job began with, to which a worker's own must be equal.
        place: Where to.
        skip_bad: Leave out episodes that can't be used.
    """

    name: str
    inputs: JobInputs
    settings: JobSettings
    manifest: Manifest
    place: Place
    skip_bad: bool

    @classmethod
    def of(cls, job: Job, place: Place, skip_bad: bool) -> _Order:
        given = job.inputs
        inputs = replace(
            given,
            dataset=given.dataset if as_address(given.dataset) else given.dataset.expanduser().absolute(),
            text_model=given.text_model.absolute(),
            fast=None if given.fast is None else given.fast.absolute(),
        )
        name = secrets.token_hex(8)
        return cls(name, inputs, job.settings, job.manifest, place, skip_bad)


# In a worker: the run that it works at, and its job, planned once.
_planned: tuple[str, Job] | None = None


def _make(order: _Order, task: ShardTask) -> ShardRecord | PioxideError:
    """Makes a shard, in a worker; what is wrong is returned, since Ray makes other errors of raised ones."""
    try:
        job = _job(order)
        found = order.place.find(None, [task.name]).get(task.name)
        if found is not None and (order.skip_bad or not found.skipped):
            return found  # by a worker that died before it could say so
        return order.place.make(job.maker, task, skip_bad=order.skip_bad)
    except PioxideError as error:
        return error


def _job(order: _Order) -> Job:
    """The job as this worker sees it, which must be what the driver planned.

    Raises:
        SettingsError: It is another one: says on which node, and every difference.
    """
    global _planned
    if _planned is None or _planned[0] != order.name:
        job = plan_job(order.inputs, order.settings)
        if lines := order.manifest.changes(job.manifest):
            where = f"{platform.node()}, a node of the cluster, would make something else"
            what = "\n  ".join(lines)
            raise SettingsError(f"{where} (there: as the job was planned; now: on that node):\n  {what}")
        _planned = order.name, job
    return _planned[1]
