"""Who makes a job's shards: the threads of this process, or others (`on_ray`) by the same protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pioxide.data import cores
from pioxide.errors import InputError
from pioxide.shards.job import Job, Progress
from pioxide.shards.manifest import ShardRecord
from pioxide.shards.place import Place
from pioxide.shards.plan import ShardTask

# Called with every shard that is finished; from one thread.
Finished = Callable[[ShardRecord], None]


class Engine(Protocol):
    """Makes shards, in any order and by whatever hands; what they hold does not depend on it."""

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
        """Makes these shards at `place`; when one fails, or on Ctrl-C, stops the others and raises.

        Args:
            job: Whose.
            tasks: Which.
            place: Where to.
            skip_bad: Leave out episodes that can't be used.
            progress: Told of frames done.
            finished: Told of each shard that is there, whatever becomes of the others.

        Raises:
            DatasetError: An episode can't be read, without `skip_bad`.
            OutputError: A shard can't be written.
            KeyboardInterrupt: Ctrl-C.
        """
        ...


@dataclass(frozen=True)
class Threads:
    """Makes shards on threads of this process: text, FAST and Parquet run outside Python's lock.

    Attributes:
        workers: How many; as many as this process may use cores by default.
    """

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
        """Does what `Engine.make` says.

        Raises:
            InputError: No workers.
            PioxideError: As in `Engine.make`.
        """
        workers = cores() if self.workers is None else self.workers
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
                return place.make(job.maker, task, skip_bad=skip_bad, on_frames=on_frames)
            except BaseException:
                stop.set()  # before this thread takes up another shard
                raise

        pool = ThreadPoolExecutor(workers, thread_name_prefix="shard")
        waiting: set[Future[ShardRecord]] = set()
        try:
            for task in tasks:
                waiting.add(pool.submit(make, task))
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                _tell(done, finished)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            with suppress(Exception):  # what failed first is raised
                _tell((one for one in waiting if one.done() and not one.cancelled()), finished)
            raise
        pool.shutdown()


def _tell(futures: Iterable[Future[ShardRecord]], finished: Finished) -> None:
    """Tell of what is finished among these; then raise what failed, and not what stopped because of that."""
    failed: BaseException | None = None
    for future in futures:
        error = future.exception()
        if error is None:
            finished(future.result())
        elif not isinstance(error, _Stopped):
            failed = failed or error
    if failed is not None:
        raise failed


class _Stopped(Exception):
    """Raised inside a worker to make it drop its shard."""
