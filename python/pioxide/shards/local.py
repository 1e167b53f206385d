"""Runs a tokenizing job, or a part of one, on this machine: plan, make what is missing with all cores."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pyarrow

import pioxide
from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.contract import known
from pioxide.data import LeRobotDataset
from pioxide.data.faults import nothing_left
from pioxide.errors import DatasetError, InputError, OutputError
from pioxide.files import locked, make_directory, sha256_of
from pioxide.shards.beside import contract_digest
from pioxide.shards.directory import (
    FAST,
    FAST_FILES,
    earlier_manifest,
    prepare,
    refuse_foreign,
    remove_leftovers,
    remove_leftovers_of,
    reopen,
)
from pioxide.shards.manifest import (
    FORMAT,
    SHARDS,
    Manifest,
    ShardRecord,
    finished_shards,
    remove_progress,
)
from pioxide.shards.parts import Part, PartResult
from pioxide.shards.plan import Plan, ShardTask, make_plan
from pioxide.shards.settings import JobSettings, as_json
from pioxide.shards.shard import JobInputs, ShardMaker

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a job; its message says what is kept and how to go on."""


class Progress(Protocol):
    """Who wants to hear how far something is: in frames, or in bytes where that is said."""

    def begin(self, total: int, done: int) -> None:
        """`total` frames are to be made, `done` of which an earlier run made."""
        ...

    def advance(self, frames: int, /) -> None:
        """Some more frames are done; called from several threads."""
        ...


@dataclass(frozen=True)
class Job:
    """A job that has been checked and planned, and has written nothing yet.

    Attributes:
        inputs: where it reads from.
        settings: what it makes.
        maker: makes a shard.
        plan: which shards.
        manifest: as it will begin.
    """

    inputs: JobInputs
    settings: JobSettings
    maker: ShardMaker
    plan: Plan
    manifest: Manifest


def plan_job(inputs: JobInputs, settings: JobSettings) -> Job:
    """Opens and checks everything that a job reads, and plans its shards.

    Raises:
        PioxideError: the dataset, statistics, tokenizers or settings are wrong or don't fit together.
    """
    dataset = LeRobotDataset.open(inputs.dataset).with_tasks(settings.tasks)
    maker = ShardMaker.load(inputs, settings, dataset)
    chosen = settings.selection.of(dataset)
    lengths = ((index, dataset.episode(index).length) for index in chosen)
    plan = make_plan(lengths, shard_frames=settings.shard_frames, limit=settings.limit)
    return Job(inputs, settings, maker, plan, _new_manifest(inputs, settings, dataset, plan))


def tokenize_dataset(
    inputs: JobInputs,
    output: str | os.PathLike[str],
    settings: JobSettings,
    *,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Turns a dataset into token shards under `output`; goes on where an earlier run stopped.

    However often it is stopped (Ctrl-C, kill, full disk) and run again, the result has the same bytes as
    after one uninterrupted run.

    Args:
        inputs: dataset and tokenizers.
        output: made if absent. Holds `manifest.json`, `contract.json`, `shards/`, `norm_stats.json` and, for
            pi0_fast, `fast/`.
        settings: what to make.
        skip_bad: leave out episodes that can't be read; the manifest lists them.
        workers: threads; as many as this process may use cores by default. Output doesn't depend on it.
        progress: told of frames done.

    Returns:
        The complete manifest.

    Raises:
        SettingsError: `output` was made with other settings, from another dataset, or by another version.
        DatasetError: an episode can't be read, without `skip_bad`. Finished shards are kept.
        OutputError: `output` can't be written, or another run is writing to it. Finished shards are kept.
        Interrupted: Ctrl-C. Finished shards are kept.
        PioxideError: inputs or settings are wrong.
    """
    return run_job(plan_job(inputs, settings), output, skip_bad=skip_bad, workers=workers, progress=progress)


def run_job(
    job: Job,
    output: str | os.PathLike[str],
    *,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Does what `tokenize_dataset` does, for a job that is planned already."""
    directory = Path(output)
    make_directory(directory)
    with locked(directory):
        before = _earlier(job, directory)
        remove_leftovers(directory)
        prepare(job.manifest, job.settings, job.inputs.fast, before, directory)
        done = _finished(directory, before, job.plan.tasks, skip_bad)
        todo = _begin(job.plan.tasks, done, progress)
        if todo and before is not None and before.complete:
            before = reopen(before, done, directory)
        made = _make_all(job, todo, directory, len(done), skip_bad, workers or _cores(), progress)
        shards = tuple({**done, **made}[task.name] for task in job.plan.tasks)
        manifest = replace(job.manifest, shards=shards, complete=True)
        if not manifest.totals["rows"]:
            raise nothing_left([s.reason for s in manifest.skipped])
        if manifest != before:
            manifest.save(directory)
        remove_progress(directory)
    return manifest


def run_part(
    job: Job,
    output: str | os.PathLike[str],
    part: Part,
    *,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PartResult:
    """Makes the shards of one part; `merge` makes one output of all parts, with the bytes of a single run.

    Args:
        job: Planned, the whole of it.
        output: The directory of all parts, on a file system that several machines share, or one of this
            part's own. Several parts may be made there at once.
        part: Which.
        skip_bad: As in `tokenize_dataset`.
        workers: As there.
        progress: Told of frames done, of this part.

    Raises:
        SettingsError: `output` was made with other settings, from another dataset, or by another version.
        DatasetError: An episode can't be read, without `skip_bad`. Finished shards are kept.
        OutputError: `output` can't be written, another run makes this part or the whole, or `output` is
            complete and damaged. Finished shards are kept.
        Interrupted: Ctrl-C. Finished shards are kept.
    """
    directory, tasks = Path(output), part.tasks(job.plan)
    make_directory(directory)
    with locked(directory, shared=True):
        before = _earlier(job, directory)
        if before is not None and before.complete:
            done = _finished(directory, before, tasks, skip_bad)
            if missing := _begin(tasks, done, progress):
                raise OutputError(
                    f"{directory} is complete, and {missing[0].name} in it is damaged or lacks episodes; "
                    "run the same command without --part to make it again"
                )
        else:
            with part.held(directory) as alone:
                if alone:
                    remove_leftovers_of(directory, (task.name for task in tasks))
                prepare(job.manifest, job.settings, job.inputs.fast, before, directory)
                done = _finished(directory, before, tasks, skip_bad)
                todo = _begin(tasks, done, progress)
                done |= _make_all(job, todo, directory, len(done), skip_bad, workers or _cores(), progress)
        present = sum((directory / SHARDS / task.name).is_file() for task in job.plan.tasks)
    return PartResult(part, tuple(done[task.name] for task in tasks), present, len(job.plan.tasks))


def _earlier(job: Job, directory: Path) -> Manifest | None:
    """The manifest of an earlier run of this job; a directory that is not this job's is refused."""
    before = earlier_manifest(job.manifest, job.settings, directory)
    if before is None:
        refuse_foreign(directory)
    return before


def _finished(
    directory: Path, before: Manifest | None, tasks: Sequence[ShardTask], skip_bad: bool
) -> dict[str, ShardRecord]:
    """What need not be made: without leave to skip, a shard that lacks episodes is not finished."""
    done = finished_shards(directory, before, [task.name for task in tasks])
    return {name: record for name, record in done.items() if skip_bad or not record.skipped}


def _begin(
    tasks: Sequence[ShardTask], done: dict[str, ShardRecord], progress: Progress | None
) -> list[ShardTask]:
    todo = [task for task in tasks if task.name not in done]
    if progress is not None:
        total = sum(task.frames for task in tasks)
        progress.begin(total, total - sum(task.frames for task in todo))
    return todo


def _make_all(
    job: Job,
    todo: Sequence[ShardTask],
    directory: Path,
    done: int,
    skip_bad: bool,
    workers: int,
    progress: Progress | None,
) -> dict[str, ShardRecord]:
    """Make shards on `workers` threads; when one fails, or on Ctrl-C, stop and keep what is finished."""
    if workers < 1:
        raise InputError(f"{workers} workers can't do anything")
    stop = threading.Event()

    def on_frames(frames: int) -> None:
        if stop.is_set():
            raise _Stopped
        if progress is not None:
            progress.advance(frames)

    def make(task: ShardTask) -> ShardRecord:
        if stop.is_set():
            raise _Stopped
        try:
            return job.maker.make(task, directory, skip_bad=skip_bad, on_frames=on_frames)
        except BaseException:
            stop.set()  # before this thread takes up another shard
            raise

    made: dict[str, ShardRecord] = {}

    def kept() -> str:
        return f"{done + len(made)} of {done + len(todo)} shards are finished and kept in {directory}"

    pool = ThreadPoolExecutor(workers, thread_name_prefix="shard")
    futures: list[Future[ShardRecord]] = []
    try:
        futures += [pool.submit(make, task) for task in todo]
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                if isinstance(future.exception(), _Stopped):
                    continue  # because of another one's failure, which is the one to tell of
                record = future.result()
                made[record.file] = record
                log.info("%s: %d rows, %d bytes", record.file, record.rows, record.bytes)
    except KeyboardInterrupt:
        _stop(pool, stop, futures, made)
        raise Interrupted(f"interrupted; {kept()}. Run the same command again to go on") from None
    except DatasetError as error:
        _stop(pool, stop, futures, made)
        raise DatasetError(f"{error}\n{kept()}; --skip-bad goes on without such episodes") from error
    except OutputError as error:
        _stop(pool, stop, futures, made)
        raise OutputError(f"{error} ({kept()})") from error
    except BaseException:
        _stop(pool, stop, futures, made)
        raise
    pool.shutdown()
    return made


class _Stopped(Exception):
    """Raised inside a worker to make it drop its shard."""


def _stop(
    pool: ThreadPoolExecutor,
    stop: threading.Event,
    futures: Sequence[Future[ShardRecord]],
    made: dict[str, ShardRecord],
) -> None:
    """Let the workers drop what they are at, and count what they finished meanwhile."""
    stop.set()
    pool.shutdown(wait=True, cancel_futures=True)
    for future in futures:
        if future.done() and not future.cancelled() and future.exception() is None:
            record = future.result()
            made[record.file] = record


def _cores() -> int:
    """Cores this process may use, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _new_manifest(inputs: JobInputs, settings: JobSettings, dataset: LeRobotDataset, plan: Plan) -> Manifest:
    contract, columns = settings.contract, settings.columns
    digests = {"text_model": sha256_of(inputs.text_model)}
    if inputs.fast is not None:
        deciding = [name for name in FAST_FILES[:3] if (inputs.fast / name).is_file()]
        digests |= {f"{FAST}/{name}": sha256_of(inputs.fast / name) for name in deciding}
    return Manifest(
        settings=as_json(settings),
        contract={
            "model": str(known(contract.family, "family")),
            "file": CONTRACT_FILE,
            "sha256": contract_digest(contract),
        },
        inputs=digests,
        dataset={
            "name": dataset.path.resolve().name,
            "path": str(dataset.path.resolve()),
            "fingerprint": dataset.fingerprint(),
            "version": dataset.version,
            "robot_type": dataset.robot_type,
            "fps": dataset.fps,
            "state_names": columns.state_names(dataset),
            "action_names": columns.action_names(dataset),
            "tasks": {str(index): task for index, task in sorted(dataset.tasks.items())},
        },
        versions={"format": FORMAT, "pioxide": pioxide.__version__, "pyarrow": pyarrow.__version__},
        plan={"shards": len(plan.tasks), "episodes": plan.episodes, "frames": plan.frames},
    )
