"""The control loop's side of a slow policy: inference runs beside the loop, and the loop never waits for it.

Every tick the loop gives its newest observation and gets an action. When the queue is short enough and no
inference is under way, that observation goes to the policy together with the actions still to be played and
the delay to expect, so that the next chunk can be made to continue them (real-time chunking, arXiv
2506.07339).
"""

from __future__ import annotations

import atexit
import enum
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.control.queue import ActionQueue, Snapshot
from pioxide.control.safety import SafetyFilter
from pioxide.errors import InputError, PioxideError


class Request(NamedTuple):
    """What the policy is asked.

    Attributes:
        observation: As the robot gave it.
        prev_chunk_left_over: [n, D] the actions still to be played in the robot's units, the next one first;
            n is 0 for a first chunk.
        inference_delay: Actions that will probably be consumed before the answer is there: those are fixed
            already.
        limits: How often the safety filter has changed an action, by kind; a server counts it.
        at: When the observation was taken, in seconds on any one clock, for a model with memory; None for
            now.
    """

    observation: Mapping[str, Any]
    prev_chunk_left_over: NDArray[np.float64]
    inference_delay: int
    limits: Mapping[str, int] = {}
    at: float | None = None


class Answer(NamedTuple):
    """A finished inference: its chunk [H, D] in the robot's units or its error, and when it was started."""

    chunk: NDArray[np.floating] | None
    error: Exception | None
    since: float


class Showing(NamedTuple):
    """How a worker shows a policy with memory what the robot sees between two requests.

    Attributes:
        take: Takes an observation and when it was taken, in the loop's thread and without waiting; returns
            what shows it, which the worker's thread does.
        stride: Seconds between the frames that the policy sees.
    """

    take: Callable[[Mapping[str, Any], float], Callable[[], None]]
    stride: float


# A frame may be a tenth of a stride off, so that what is shown must not lie much further apart than a fifth.
APART = 0.15
# Frames that may wait while the policy answers; beyond these the oldest are lost, which the policy refuses.
WAITING_FRAMES = 64

# Answers a request with a chunk [H, D] in the robot's units: `Policy.chunk`.
ChunkSource = Callable[[Request], NDArray[np.floating]]


class Worker(Protocol):
    """Something that runs one inference at a time beside the loop. No method waits."""

    def start(self, request: Request, since: float) -> None:
        """Starts an inference; only while not `busy`."""
        ...

    @property
    def busy(self) -> bool:
        """Returns whether an inference is under way or its answer not collected yet."""
        ...

    def observe(self, observation: Mapping[str, Any], at: float) -> None:
        """Shows a policy with memory a tick's observation, where that is due; others have no use for it."""
        ...

    def collect(self) -> Answer | None:
        """Returns the answer, once; None while there is none."""
        ...

    def reset(self) -> None:
        """Begins a new episode: what is under way belongs to the one before."""
        ...

    def close(self) -> None:
        """Ends the worker."""
        ...


class ThreadWorker:
    """Runs a policy in a thread of its own, woken by a condition, not by polling."""

    def __init__(
        self,
        policy: ChunkSource,
        reset: Callable[[], None] | None = None,
        showing: Showing | None = None,
    ) -> None:
        """Starts the thread; `close` ends it.

        Args:
            policy: `Policy.chunk`, or `chunk` of a server's client.
            reset: Told when an episode begins, as `reset` of a server's client; must not wait.
            showing: How a policy with memory is shown what comes between requests; None for one without.
        """
        self._policy, self._reset, self._showing = policy, reset, showing
        self._frames: deque[Callable[[], None]] = deque(maxlen=WAITING_FRAMES)
        self._shown: float | None = None  # when the last frame was taken that was shown or asked about
        self._ticked: float | None = None
        self._unshown: Exception | None = None
        self._changed = threading.Condition()
        self._request: tuple[Request, float] | None = None
        self._answer: Answer | None = None
        self._busy = self._closed = False
        self._thread = threading.Thread(target=self._run, name="pioxide-policy", daemon=True)
        # Should nobody close it: an interpreter that ends under a running computation may abort.
        atexit.register(self.close)
        self._thread.start()

    def start(self, request: Request, since: float) -> None:
        """See `Worker.start`."""
        with self._changed:
            if self._busy or self._closed:
                raise PioxideError("the worker is busy or closed")
            self._busy, self._request = True, (request, since)
            self._shown = self._ticked = request.at
            self._changed.notify()

    def observe(self, observation: Mapping[str, Any], at: float) -> None:
        """See `Worker.observe`: shows it where the next tick's would come too late."""
        if self._showing is None:
            return
        tick = 0.0 if self._ticked is None else at - self._ticked
        self._ticked = at
        if self._shown is not None and at + tick - self._shown <= APART * self._showing.stride:
            return
        self._shown = at
        work = self._showing.take(observation, at)
        with self._changed:
            self._frames.append(work)
            self._changed.notify()

    @property
    def busy(self) -> bool:
        """See `Worker.busy`."""
        return self._busy

    def collect(self) -> Answer | None:
        """See `Worker.collect`."""
        with self._changed:
            answer, self._answer = self._answer, None
            if answer is not None:
                self._busy = False
            return answer

    def reset(self) -> None:
        """See `Worker.reset`."""
        with self._changed:
            self._frames.clear()
            self._shown = self._ticked = self._unshown = None
        if self._reset is not None:
            self._reset()

    def close(self) -> None:
        """Ends the thread; an inference under way ends first, for at most ten seconds."""
        atexit.unregister(self.close)
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(10.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._request is not None or self._frames or self._closed)
                if self._closed:
                    return
                work = self._frames.popleft() if self._frames else None
                asked = None
                if work is None:
                    asked, self._request = self._request, None
            if work is not None:
                self._show(work)
            if asked is None:
                continue
            request, since = asked
            try:
                with self._changed:
                    unshown, self._unshown = self._unshown, None
                if unshown is not None:
                    raise unshown
                answer = Answer(self._policy(request), None, since)
            except Exception as error:  # handed to the loop, which decides
                answer = Answer(None, error, since)
            except BaseException as error:  # a policy that exits has failed; this thread goes on
                failure = PioxideError(f"the policy raised {error!r}")
                failure.__cause__ = error
                answer = Answer(None, failure, since)
            with self._changed:
                self._answer = answer

    def _show(self, work: Callable[[], None]) -> None:
        """Shows a frame; why one could not be shown is the next request's answer."""
        try:
            work()
        except Exception as error:
            with self._changed:
                self._unshown = error


@dataclass
class DelayEstimate:
    """The delay to expect, in actions: a high quantile of the last measured ones.

    The first measurement is left out once others are there: it holds compilation.

    Attributes:
        first_guess: What is expected before anything was measured.
        quantile: Which quantile of the window.
        window: How many measurements count.
    """

    first_guess: int = 0
    quantile: float = 0.95
    window: int = 50
    _measured: deque[float] = field(init=False)
    _count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """An empty window."""
        self._measured = deque(maxlen=self.window)

    def add(self, delay: float) -> None:
        """Takes one measurement."""
        self._count += 1
        if self._count == 2:
            self._measured.clear()
        self._measured.append(delay)

    @property
    def value(self) -> int:
        """Returns the delay in actions, rounded up."""
        if not self._measured:
            return self.first_guess
        return math.ceil(float(np.quantile(self._measured, self.quantile)) - 1e-9)


class RunState(enum.Enum):
    """What a runner is doing; a person who stands next to the arm may want to see it.

    Attributes:
        WAITING: No chunk has come yet, or none since a reset: nothing is sent.
        PLAYING: A fresh action every tick.
        STARVED: The queue has run dry, and does what `OnEmpty` says.
        FAULT: Dry for longer than allowed, or too many failures in a row: nothing is sent until `reset`.
    """

    WAITING = "waiting"
    PLAYING = "playing"
    STARVED = "starved"
    FAULT = "fault"


class Step(NamedTuple):
    """One tick: the action to send [D] (None: stop), and whether the queue was dry."""

    action: NDArray[np.float64] | None
    dry: bool


@dataclass
class Runner:
    """Plays a policy's chunks tick by tick, with the next chunk on its way.

    >>> import numpy as np
    >>> from pioxide.control import OnEmpty
    >>> def policy(request):  # slow in earnest: `Policy.chunk`, or a client of a server
    ...     return np.full((4, 1), request.observation["goal"])
    >>> with Runner(ThreadWorker(policy), ActionQueue(OnEmpty.HOLD), replan_below=2) as runner:
    ...     action = None
    ...     while action is None:  # a loop would tick on its clock; the first chunk takes a moment
    ...         action, dry = runner.step({"goal": 0.5})
    >>> action
    array([0.5])

    Attributes:
        worker: Where inference runs.
        queue: The actions still to be played.
        replan_below: A new chunk is asked for once at most this many actions are left (the chunk's length:
            always).
        safety: What every action passes last; None for nothing.
        delay: The delay to expect, fed by what was measured.
        max_errors: Failed inferences in a row before `step` raises the last one.
        starvation_grace: Ticks without a fresh action, once one was played, after which the runner is in
            `RunState.FAULT`; None lets a dry queue go on for ever.
        inferences: Chunks that came back.
        errors: Inferences that failed.
        last_error: The newest failure.
        state: What the runner is doing.

    Raises:
        InputError: `replan_below` is negative: nothing would ever be asked for; or a grace below 0.
    """

    worker: Worker
    queue: ActionQueue
    replan_below: int
    safety: SafetyFilter | None = None
    delay: DelayEstimate = field(default_factory=DelayEstimate)
    max_errors: int = 10
    starvation_grace: int | None = None
    inferences: int = field(default=0, init=False)
    errors: int = field(default=0, init=False)
    last_error: Exception | None = field(default=None, init=False)
    state: RunState = field(default=RunState.WAITING, init=False)
    _dry: int = field(default=0, init=False)
    _errors_in_a_row: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """See the class."""
        if not self.replan_below >= 0:
            raise InputError(f"replan_below: expected 0 or more actions, got {self.replan_below}")
        if self.starvation_grace is not None and not self.starvation_grace >= 0:
            raise InputError(f"starvation_grace: expected 0 or more ticks, got {self.starvation_grace}")

    def step(self, observation: Mapping[str, Any], at: float | None = None) -> Step:
        """Plays one tick; never waits.

        Args:
            observation: The newest; it must not be written to afterwards.
            at: When it was taken, in seconds on any one clock, for a policy with memory, which is shown what
                it needs of it; by default now, by `time.monotonic`.

        Returns:
            The action. None before the first chunk is there, where a dry queue is to stop the robot, and in
            `RunState.FAULT`.

        Raises:
            Exception: The policy's own, after `max_errors` failures in a row.
        """
        self._collect()
        if self.state is RunState.FAULT:
            return self._stopped()
        moment = time.monotonic() if at is None else at
        if not self._ask_if_due(observation, moment):
            self.worker.observe(observation, moment)
        taken = self.queue.take()
        if self._follow(taken.dry) is RunState.FAULT:
            return self._stopped()
        if self.safety is None:
            return Step(taken.action, taken.dry)
        if taken.action is None:
            self.safety.hold()
            return Step(None, taken.dry)
        return Step(self.safety(taken.action), taken.dry)

    def _follow(self, dry: bool) -> RunState:
        """Moves on to the state that a tick with or without a fresh action leads to, and returns it."""
        if not dry:
            self._dry, self.state = 0, RunState.PLAYING
        elif self.state is not RunState.WAITING:
            self._dry += 1
            over = self.starvation_grace is not None and self._dry > self.starvation_grace
            self.state = RunState.FAULT if over else RunState.STARVED
        return self.state

    def _stopped(self) -> Step:
        if self.safety is not None:
            self.safety.hold()
        return Step(None, True)

    def ask(self, observation: Mapping[str, Any], at: float | None = None) -> bool:
        """Asks for the next chunk now, if one is due; `step` does so by itself.

        For a simulation that stands still while its policy answers: ask, let the worker answer, step.

        Returns:
            Whether it was asked.

        Raises:
            Exception: As `step`.
        """
        self._collect()
        moment = time.monotonic() if at is None else at
        return self.state is not RunState.FAULT and self._ask_if_due(observation, moment)

    def _ask_if_due(self, observation: Mapping[str, Any], at: float) -> bool:
        due = not self.worker.busy and self.queue.remaining() <= self.replan_below
        if due:
            self._ask(observation, at)
        return due

    def _ask(self, observation: Mapping[str, Any], at: float) -> None:
        now: Snapshot = self.queue.snapshot()
        expected = min(self.delay.value, len(now.leftover))
        limits = {} if self.safety is None else self.safety.counts
        self.worker.start(Request(observation, now.leftover, expected, limits, at), now.consumed)

    def _collect(self) -> None:
        answer = self.worker.collect()
        if answer is None:
            return
        try:
            if answer.chunk is None:
                raise answer.error or PioxideError("the worker answered nothing")
            if self.safety is not None and np.shape(answer.chunk)[-1:] != (self.safety.dim,):
                raise InputError(
                    f"expected a chunk [H, {self.safety.dim}], got shape {np.shape(answer.chunk)}"
                )
            replaced = self.queue.replaced
            delay = self.queue.put(answer.chunk, answer.since)
        except Exception as error:
            self.errors += 1
            self._errors_in_a_row += 1
            self.last_error = error
            if self._errors_in_a_row >= self.max_errors:
                self.state = RunState.FAULT
                raise
            return
        self.inferences += 1
        self._errors_in_a_row = 0
        # Nothing is consumed while a first chunk is waited for: its 0 says nothing about the next delay.
        if delay is not None and self.queue.replaced > replaced:
            self.delay.add(delay)

    def reset(self, position: ArrayLike | None = None) -> None:
        """Forgets all, as between two episodes; an inference under way is dropped when it ends.

        Args:
            position: [D] the measured joints, from which the safety filter starts anew; needed where there is
                one, because the robot may have been moved since.

        Raises:
            InputError: There is a safety filter and no position, or it is not D finite numbers.
        """
        if self.safety is not None:
            if position is None:
                raise InputError("reset: the safety filter has to start from the measured joints; pass them")
            self.safety.reset(position)
        self.worker.reset()
        self.queue.clear()
        self.state, self._dry, self._errors_in_a_row = RunState.WAITING, 0, 0

    def close(self) -> None:
        """Ends the worker."""
        self.worker.close()

    def __enter__(self) -> Runner:
        """The runner; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()
