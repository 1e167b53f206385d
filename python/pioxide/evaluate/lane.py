"""One simulated robot in closed loop: environment, runner with queue and safety filter, session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.control import ActionQueue, DelayEstimate, OnEmpty, Request, Runner, SafetyFilter
from pioxide.control.runner import Answer
from pioxide.errors import PioxideError
from pioxide.evaluate.adapter import Adapter, Environment, Floats, Moment, Variant
from pioxide.evaluate.player import PlayAnswer, S


class Episode(NamedTuple):
    """Which episode: the seed of the environment and of the policy's noise, and what is taken away."""

    seed: int
    variant: Variant


@dataclass(frozen=True)
class Outcome:
    """How an episode went.

    Attributes:
        episode: Which.
        kind: Its kind of instruction; "" where the task has one.
        success: Whether the task was done.
        steps: Actions sent.
        reward: Sum of the environment's rewards.
        jerk: Root mean square of the sent actions' third derivative, in units a second cubed; 0 for fewer
            than four actions.
        limited: Actions that the safety filter changed.
        chunks: Answers of the policy.
        out_of_range: Answers to states outside the statistics.
        missing: FAST coefficients that answers lacked.
    """

    episode: Episode
    kind: str
    success: bool
    steps: int
    reward: float
    jerk: float
    limited: int
    chunks: int
    out_of_range: int
    missing: int


class LockstepWorker:
    """A worker that is answered from outside: all robots' questions go to the policy in one batch.

    An answer is there `delay` ticks after its question, however long it took; the first at once, as a robot
    waits for it before it moves.
    """

    def __init__(self, delay: int) -> None:
        """Waits for a question."""
        self.question: Request | None = None
        self._delay, self._due, self._asked = delay, 0, 0
        self._since = 0.0
        self._answer: Answer | None = None

    def start(self, request: Request, since: float) -> None:
        """See `Worker.start`."""
        self.question, self._since = request, since
        self._due = self._delay if self._asked else 0
        self._asked += 1

    @property
    def busy(self) -> bool:
        """See `Worker.busy`."""
        return self.question is not None or self._answer is not None

    def answer(self, chunk: NDArray[np.floating]) -> None:
        """Answers the question."""
        self.question, self._answer = None, Answer(chunk, None, self._since)

    def tick(self) -> None:
        """Lets a control period pass."""
        self._due = max(0, self._due - 1)

    def observe(self, observation: Mapping[str, Any], at: float) -> None:
        """See `Worker.observe`; an evaluation shows all lanes at once."""

    def collect(self) -> Answer | None:
        """See `Worker.collect`."""
        if self._due or self._answer is None:
            return None
        answer, self._answer = self._answer, None
        return answer

    def reset(self) -> None:
        """See `Worker.reset`; every episode has a worker of its own, so nothing is left over."""

    def close(self) -> None:
        """See `Worker.close`."""


class Lane(Generic[S]):
    """Plays one episode after another in an environment of its own.

    Attributes:
        frames: The running episode's pictures, where they are wanted.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        play: int,
        delay: int,
        horizon: int,
        kind: str | None = None,
        picture: Callable[[Any], Any] | None = None,
    ) -> None:
        """Makes the environment.

        Args:
            adapter: The task.
            play: Actions of a chunk to play before the next is asked for.
            delay: Ticks between a question and its answer.
            horizon: Actions in a chunk.
            kind: Of instruction, asked of the environment at each reset; None for any.
            picture: Makes a film's picture of what the environment renders; None for no film.
        """
        self._adapter, self._play, self._delay, self._horizon = adapter, play, delay, horizon
        self._environment: Environment = adapter.make()
        self._picture = picture
        self._options = None if kind is None else {"kind": kind}
        self.frames: list[NDArray[np.uint8]] = []
        self._moment: Moment | None = None

    def begin(self, episode: Episode, session: S) -> None:
        """Begins an episode."""
        seen, info = self._environment.reset(seed=episode.seed, options=self._options)
        self._episode, self.session = episode, session
        self._limited = self._missing = 0
        self._reward = 0.0
        self._sent: list[Floats] = []
        self.frames = []
        self._moment = moment = self._adapter.read(seen, info)
        self._kind = moment.kind
        self.worker = LockstepWorker(self._delay)
        safety = SafetyFilter(self._adapter.limits, self._adapter.robot.action_dim, self._adapter.hz)
        self._counts = safety.counts
        safety.reset(moment.position)
        delay = DelayEstimate(first_guess=self._delay)
        self.runner = Runner(
            self.worker, ActionQueue(OnEmpty.HOLD), self._horizon - self._play, safety, delay, max_errors=1
        )
        self._film()

    def ask(self) -> Request | None:
        """Returns what the policy is asked now; None where no chunk is due."""
        self.runner.ask(self.seen())
        question = self.worker.question
        return None if question is None else question._replace(at=self.at)

    @property
    def at(self) -> float:
        """Returns how many seconds the episode has lasted for the robot."""
        return len(self._sent) / self._adapter.hz

    def answer(self, prediction: PlayAnswer) -> None:
        """Hands over what the policy answered."""
        self._missing += prediction.missing
        self.worker.answer(prediction.actions)

    def step(self) -> Outcome | None:
        """Sends one action; returns how the episode went when it has ended."""
        before = sum(self._counts.values())
        action, dry = self.runner.step(self.seen())
        self._limited += sum(self._counts.values()) > before
        if action is None or dry:
            raise PioxideError("the queue ran dry in lockstep: a chunk was not asked for in time")
        self._sent.append(action)
        seen, reward, ended, out_of_time, info = self._environment.step(self._adapter.write(action))
        self.worker.tick()
        self._reward += float(reward)
        self._moment = self._adapter.read(seen, info)
        self._film()
        over = ended or out_of_time or self._moment.success or len(self._sent) >= self._adapter.max_steps
        return self._outcome() if over else None

    def close(self) -> None:
        """Frees the environment."""
        self._environment.close()

    def seen(self) -> dict[str, Any]:
        """Returns what the policy is shown of the moment."""
        assert self._moment is not None
        return self._adapter.changed(self._moment.observation, self._episode.variant, self._episode.seed)

    def _film(self) -> None:
        if self._picture is not None:
            self.frames.append(self._picture(self._environment.render()))

    def _outcome(self) -> Outcome:
        assert self._moment is not None
        sent, third = np.array(self._sent), self._adapter.hz**3
        jerk = np.sqrt(np.mean((np.diff(sent, 3, axis=0) * third) ** 2)) if len(sent) > 3 else 0.0
        return Outcome(
            self._episode,
            self._kind,
            self._moment.success,
            len(sent),
            self._reward,
            float(jerk),
            self._limited,
            self.session.calls,
            self.session.out_of_range,
            self._missing,
        )
