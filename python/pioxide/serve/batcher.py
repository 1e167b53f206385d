"""Gathers what robots ask into batches, fairly and within bounds, computed beside the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pioxide.errors import InputError, ServerError

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchConfig:
    """How robots share one policy.

    Attributes:
        size: Robots in one batch at most.
        wait: Seconds that a batch waits for robots that are connected and have not asked; 0 never waits.
        queue: Robots that may wait; one more is told that the server is busy.
    """

    size: int = 8
    wait: float = 0.002
    queue: int = 64

    def __post_init__(self) -> None:
        """Refuses what can't work.

        Raises:
            InputError: A size below 1, or a wait below 0 or without end.
        """
        if self.size < 1 or self.queue < 1 or not 0 <= self.wait < 60:
            raise InputError(
                f"expected size and queue of 1 or more and a wait of 0 to 60 s, got size {self.size}, "
                f"queue {self.queue}, wait {self.wait}"
            )


@dataclass
class _Waiting(Generic[Job, Result]):
    job: Job
    deadline: float | None
    answer: asyncio.Future[tuple[Result, float]]
    since: float = field(default_factory=time.perf_counter)


class Batcher(Generic[Job, Result]):
    """One queue in front of one computation.

    Each owner, a connection, has one place in the queue: what it asks later takes the place of what still
    waits there, so a robot that overruns is answered for its newest observation and is served no earlier than
    others.

    Attributes:
        owners: How many there are; a batch waits only while some of them have not asked.
        batches: Batches computed.
    """

    def __init__(
        self, compute: Callable[[Sequence[Job]], Sequence[Result | Exception]], config: BatchConfig
    ) -> None:
        """Prepares; `run` works until it is cancelled.

        Args:
            compute: Answers a batch, in a thread, one batch at a time; an exception in the place of a result
                is raised for that owner alone.
            config: See `BatchConfig`.
        """
        self._compute, self._config = compute, config
        self._waiting: dict[Hashable, _Waiting[Job, Result]] = {}
        self._asked = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, "pioxide-inference")
        self._free = 0.0  # when the last batch was done: those whom it answered ask again together
        self.owners = self.batches = 0

    @property
    def waiting(self) -> int:
        """Returns how many robots wait."""
        return len(self._waiting)

    async def ask(self, owner: Hashable, job: Job, deadline: float | None = None) -> tuple[Result, float]:
        """Waits for an answer; returns it with the seconds that the job waited for its batch.

        Args:
            owner: Who asks.
            job: What is computed.
            deadline: Seconds from now, after which it is not begun.

        Raises:
            ServerError: The queue is full, the owner asked again, or the deadline passed.
        """
        until = None if deadline is None else time.perf_counter() + deadline
        one = _Waiting[Job, Result](job, until, asyncio.get_running_loop().create_future())
        before = self._waiting.get(owner)
        if before is None and len(self._waiting) >= self._config.queue:
            raise refusal("busy", f"the server is busy: {len(self._waiting)} robots wait; ask again later")
        self._waiting[owner] = one  # a key that is there keeps its place
        if before is not None:
            _fail(before, refusal("superseded", "a newer observation took the place of this one"))
        self._asked.set()
        return await one.answer

    def forget(self, owner: Hashable) -> None:
        """Drops what an owner still waits for, as when it has gone."""
        if (one := self._waiting.pop(owner, None)) is not None:
            one.answer.cancel()

    async def run(self) -> None:
        """Computes batches until it is cancelled; what waits then is told that the server closes."""
        try:
            while True:
                await self._asked.wait()
                await self._gather()
                await self._batch()
                if not self._waiting:
                    self._asked.clear()
        finally:
            for one in self._waiting.values():
                _fail(one, refusal("closed", "the server closes"))
            self._waiting.clear()
            self._executor.shutdown(wait=False)

    async def _gather(self) -> None:
        """Waits for the robots that have not asked, for a moment."""
        if not self._waiting:
            return
        first = max(next(iter(self._waiting.values())).since, self._free)
        while len(self._waiting) < min(self._config.size, self.owners):
            left = first + self._config.wait - time.perf_counter()
            if left <= 0 or not self._waiting:
                return
            await asyncio.sleep(min(left, 0.0005))

    async def _batch(self) -> None:
        chosen = list(self._waiting)[: self._config.size]
        now = time.perf_counter()
        batch = []
        for owner in chosen:
            one = self._waiting.pop(owner)
            if one.answer.done():
                continue
            if one.deadline is not None and now > one.deadline:
                _fail(one, refusal("late", "the deadline passed before the server came to this observation"))
                continue
            batch.append(one)
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._compute, [one.job for one in batch])
        except asyncio.CancelledError:
            for one in batch:
                _fail(one, refusal("closed", "the server closes"))
            raise
        except Exception as error:  # each of the batch is told, and the server goes on
            results = [error] * len(batch)
        self.batches, self._free = self.batches + 1, time.perf_counter()
        for one, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                _fail(one, result)
            elif not one.answer.done():
                one.answer.set_result((result, now - one.since))


def refusal(code: str, message: str) -> ServerError:
    """Returns a `ServerError` with its code."""
    error = ServerError(message)
    error.code = code
    return error


def _fail(one: _Waiting[Job, Result], error: Exception) -> None:
    if not one.answer.done():
        one.answer.set_exception(error)
