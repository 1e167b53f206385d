"""Runs a tokenizing job, or a part of one: sees what is finished, lets an engine make what is missing."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pioxide.data.faults import nothing_left
from pioxide.errors import DatasetError, OutputError
from pioxide.shards.directory import (
    earlier_manifest,
    prepare,
    refuse_foreign,
    remove_leftovers,
    remove_leftovers_of,
    reopen,
)
from pioxide.shards.job import Job, Progress, plan_job
from pioxide.shards.manifest import Manifest, ShardRecord
from pioxide.shards.parts import Part, PartResult
from pioxide.shards.place import Place, place_of
from pioxide.shards.plan import ShardTask
from pioxide.shards.settings import JobSettings
from pioxide.shards.shard import JobInputs
from pioxide.shards.threads import Engine, Threads

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a job; its message says what is kept and how to go on."""


def tokenize_dataset(
    inputs: JobInputs,
    output: str | os.PathLike[str],
    settings: JobSettings,
    *,
    skip_bad: bool = False,
    workers: int | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Turns a dataset into token shards under `output`; goes on where an earlier run stopped.

    However often it is stopped (Ctrl-C, kill, full disk) and run again, the result has the same bytes as
    after one uninterrupted run.

    Args:
        inputs: dataset and tokenizers.
        output: a directory, or an address (`s3://`, `gs://`); made if absent. Holds `manifest.json`,
            `contract.json`, `shards/`, `norm_stats.json` and, for pi0_fast, `fast/`.
        settings: what to make.
        skip_bad: leave out episodes that can't be read; the manifest lists them.
        workers: threads; as many as this process may use cores by default. Output doesn't depend on it.
        engine: makes the shards, in place of threads: `Ray` for a cluster.
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
    job = plan_job(inputs, settings)
    return run_job(job, output, skip_bad=skip_bad, workers=workers, engine=engine, progress=progress)


def run_job(
    job: Job,
    output: str | os.PathLike[str],
    *,
    skip_bad: bool = False,
    workers: int | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Does what `tokenize_dataset` does, for a job that is planned already."""
    place = place_of(output)
    with place.held(None) as directory:
        before = _earlier(job, directory)
        remove_leftovers(directory)
        _prepare(job, before, place, directory)
        done = _finished(place, before, job.plan.tasks, skip_bad)
        todo = _begin(job.plan.tasks, done, progress)
        if todo and before is not None and before.complete:
            before = reopen(before, done, directory)
            place.send()
        made = _make_all(job, todo, place, len(done), skip_bad, engine or Threads(workers), progress)
        shards = tuple({**done, **made}[task.name] for task in job.plan.tasks)
        manifest = replace(job.manifest, shards=shards, complete=True)
        if not manifest.totals["rows"]:
            raise nothing_left([s.reason for s in manifest.skipped])
        if manifest != before:
            manifest.save(directory)
        place.complete()
    return manifest


def run_part(
    job: Job,
    output: str | os.PathLike[str],
    part: Part,
    *,
    skip_bad: bool = False,
    workers: int | None = None,
    engine: Engine | None = None,
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
        engine: As there.
        progress: Told of frames done, of this part.

    Raises:
        SettingsError: `output` was made with other settings, from another dataset, or by another version.
        DatasetError: An episode can't be read, without `skip_bad`. Finished shards are kept.
        OutputError: `output` can't be written, another run makes this part or the whole, or `output` is
            complete and damaged. Finished shards are kept.
        Interrupted: Ctrl-C. Finished shards are kept.
    """
    place, tasks = place_of(output), part.tasks(job.plan)
    with place.held(part) as directory:
        before = _earlier(job, directory)
        if before is not None and before.complete:
            done = _finished(place, before, tasks, skip_bad)
            if missing := _begin(tasks, done, progress):
                raise OutputError(
                    f"{place} is complete, and {missing[0].name} in it is damaged or lacks episodes; "
                    "run the same command without --part to make it again"
                )
        else:
            with part.held(directory) as alone:
                if alone:
                    remove_leftovers_of(directory, (task.name for task in tasks))
                _prepare(job, before, place, directory)
                done = _finished(place, before, tasks, skip_bad)
                todo = _begin(tasks, done, progress)
                makers = engine or Threads(workers)
                done |= _make_all(job, todo, place, len(done), skip_bad, makers, progress)
        present = len(place.shards() & {task.name for task in job.plan.tasks})
    return PartResult(part, tuple(done[task.name] for task in tasks), present, len(job.plan.tasks))


def _earlier(job: Job, directory: Path) -> Manifest | None:
    """The manifest of an earlier run of this job; a directory that is not this job's is refused."""
    before = earlier_manifest(job.manifest, job.settings, directory)
    if before is None:
        refuse_foreign(directory)
    return before


def _prepare(job: Job, before: Manifest | None, place: Place, directory: Path) -> None:
    """Have all but the shards at their place."""
    prepare(job.manifest, job.settings, job.inputs.fast, before, directory)
    if not place.send():
        earlier_manifest(job.manifest, job.settings, directory)  # which refuses another job's
        place.send()


def _finished(
    place: Place, before: Manifest | None, tasks: Sequence[ShardTask], skip_bad: bool
) -> dict[str, ShardRecord]:
    """What need not be made: without leave to skip, a shard that lacks episodes is not finished."""
    done = place.find(before, [task.name for task in tasks])
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
    place: Place,
    done: int,
    skip_bad: bool,
    engine: Engine,
    progress: Progress | None,
) -> dict[str, ShardRecord]:
    """Make these shards; whatever ends that early says how many are there."""
    made: dict[str, ShardRecord] = {}

    def finished(record: ShardRecord) -> None:
        made[record.file] = record
        log.info("%s: %d rows, %d bytes", record.file, record.rows, record.bytes)

    def kept() -> str:
        return f"{done + len(made)} of {done + len(todo)} shards are finished and kept in {place}"

    try:
        engine.make(job, todo, place, skip_bad=skip_bad, progress=progress, finished=finished)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {kept()}. Run the same command again to go on") from None
    except DatasetError as error:
        raise DatasetError(f"{error}\n{kept()}; --skip-bad goes on without such episodes") from error
    except OutputError as error:
        raise OutputError(f"{error} ({kept()})") from error
    return made
