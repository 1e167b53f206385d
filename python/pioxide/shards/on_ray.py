"""Makes a job's shards as tasks of Ray, on this machine or on a cluster: an engine beside `threads`.

A task is a shard. It is written under its own name only when it is whole, and its bytes depend on nothing but
the job, so a task whose worker or node died is simply done again, by whoever is left.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pioxide.data import cores
from pioxide.errors import InputError, OutputError, PioxideError, SettingsError
from pioxide.files import as_address
from pioxide.shards.job import Job, Progress, plan_job
from pioxide.shards.manifest import Manifest, ShardRecord
from pioxide.shards.place import Place
from pioxide.shards.plan import ShardTask
from pioxide.shards.settings import JobSettings
from pioxide.shards.shard import JobInputs
from pioxide.shards.threads import Finished

log = logging.getLogger(__name__)

# How often a shard is begun again because its worker or its node died.
RETRIES = 20
# Tasks that Ray knows of at a time, where nobody says how many.
IN_FLIGHT = 20_000
# Seconds between looks at what is finished; until a warning that nothing was; for tasks to stop after Ctrl-C.
LOOK_EVERY, QUIET, STOPPING = 1.0, 60.0, 10.0


@dataclass(frozen=True)
class Ray:
    """Makes shards on a Ray cluster, whose nodes have pioxide and see the same files by the same paths.

    Ray is shut down at the end, unless the caller had it running: then that is used.

    Attributes:
        address: Of a cluster, as `ray.init` takes it; by default one is started on this machine for this job.
        workers: Shards that are made at the same time; by default as many as the cluster has cores.
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
        if self.workers is not None and self.workers < 1:
            raise InputError(f"{self.workers} workers can't do anything")
        if not tasks:
            return
        ray = _imported()
        with _connected(ray, self.address, self.workers):
            order = ray.put(_Order.of(job, place, skip_bad))
            make = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_make)
            left, running = list(reversed(tasks)), {}
            last = time.monotonic()
            try:
                while left or running:
                    while left and len(running) < (self.workers or IN_FLIGHT):
                        task = left.pop()
                        running[make.remote(order, task)] = task
                    done, _ = ray.wait(list(running), num_returns=len(running), timeout=LOOK_EVERY)
                    for ref in done:
                        task = running.pop(ref)
                        record = _result(ray, ref, task)
                        place.arrived(record)
                        finished(record)
                        if progress is not None:
                            progress.advance(task.frames)
                    if done:
                        last = time.monotonic()
                    elif time.monotonic() - last > QUIET:
                        last = time.monotonic()
                        _warn(ray, len(running))
            except BaseException:
                _stop(ray, running, finished)
                raise


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


def _imported() -> Any:
    # Ray reports the use of it to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise InputError(f'engine ray: pip install "pioxide[ray]" ({error})') from None


@contextmanager
def _connected(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    """Connects to a cluster, or starts one, and lets go of it; Ctrl-C and SIGTERM stay who heard them."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"address": address or "local"}
    if address is None:
        options |= {"num_cpus": workers or cores(), "include_dashboard": False}
    main = threading.current_thread() is threading.main_thread()
    heard = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"engine ray: can't reach {address or 'a local cluster'} ({error})") from error
        if main:
            for number, handler in heard.items():
                signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


def _result(ray: Any, ref: Any, task: ShardTask) -> ShardRecord:
    try:
        result = ray.get(ref)
    except ray.exceptions.RayTaskError as error:  # a fault of ours, with its own traceback
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise OutputError(f"{task.name}: Ray gave it up ({str(error).strip().splitlines()[0]})") from error
    if isinstance(result, PioxideError):
        raise result
    return result


def _warn(ray: Any, running: int) -> None:
    there, free = (found().get("CPU", 0) for found in (ray.cluster_resources, ray.available_resources))
    log.warning(
        "no shard was finished for %d seconds; %d are asked for, %d of the cluster's %d cores are free",
        QUIET, running, free, there,
    )  # fmt: skip


def _stop(ray: Any, running: dict[Any, ShardTask], finished: Finished) -> None:
    """Let the workers drop what they are at, and count what they finished meanwhile."""
    for ref in running:
        ray.cancel(ref, force=False)
    ready, stuck = (
        ray.wait(list(running), num_returns=len(running), timeout=STOPPING) if running else ([], [])
    )
    for ref in ready:
        try:
            result = ray.get(ref)
        except ray.exceptions.RayError:
            continue
        if isinstance(result, ShardRecord):
            finished(result)
    for ref in stuck:
        ray.cancel(ref, force=True)
