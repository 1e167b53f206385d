"""What robots wait for, and how a batch of them is answered: no socket, no event loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pioxide.contract import Frames
from pioxide.serve.messages import Ask, continuation

if TYPE_CHECKING:
    from pioxide.policy import Policy, Prediction, Session


class Serving(NamedTuple):
    """What answers.

    Attributes:
        policy: The policy.
        number: Its place among those that have answered here, from 1.
    """

    policy: Policy
    number: int


class Job(NamedTuple):
    """What one robot waits for: its request, its session, and the policy that both were checked with.

    Attributes:
        ask: The request.
        session: Of its robot.
        serving: What answers it.
        frames: Its observation, as that policy's pipeline read it.
        reading: Seconds that this took.
    """

    ask: Ask
    session: Session
    serving: Serving
    frames: Frames
    reading: float


class Answered(NamedTuple):
    """An answer, and what is needed to give it again.

    Attributes:
        prediction: What the policy said.
        session: The session's state before it, as JSON; empty where nothing is recorded.
        rows: Robots in its batch.
        row: Which of them it was.
        serving: What answered.
    """

    prediction: Prediction
    session: str
    rows: int
    row: int
    serving: Serving


def answer_all(jobs: Sequence[Job], *, with_states: bool) -> list[Answered | Exception]:
    """Answers a batch; what spoils a batch is told to its own robot alone.

    Args:
        jobs: Of robots that may have been accepted by several policies: each is answered by its own.
        with_states: Say each session's state before its answer, as a recording needs it.
    """
    answers: dict[int, Answered | Exception] = {}
    for serving in {job.serving.number: job.serving for job in jobs}.values():
        rows = [i for i, job in enumerate(jobs) if job.serving.number == serving.number]
        mine = _answers(serving, [jobs[i] for i in rows], with_states)
        answers.update(zip(rows, mine, strict=True))
    return [answers[i] for i in range(len(jobs))]


def _answers(serving: Serving, jobs: Sequence[Job], with_states: bool) -> list[Answered | Exception]:
    policy = serving.policy
    before = [continuation(job.ask, policy) for job in jobs]
    # What is not recorded costs nothing.
    states = [json.dumps(job.session.state()) if with_states else "" for job in jobs]
    try:
        predictions = policy.batch(
            Frames.joined([job.frames for job in jobs]),
            [job.session for job in jobs],
            left_over=before,
            at=[job.ask.at for job in jobs] if policy.remembers else None,
        )
    except Exception as error:
        if len(jobs) == 1:
            return [error]
        return [answer for job in jobs for answer in _answers(serving, [job], with_states)]
    return [
        Answered(_with_reading(prediction, job.reading), state, len(jobs), row, serving)
        for row, (prediction, state, job) in enumerate(zip(predictions, states, jobs, strict=True))
    ]


def _with_reading(prediction: Prediction, seconds: float) -> Prediction:
    """Returns a prediction whose first stage holds the reading, which was done before the batch."""
    timing = prediction.timing
    return prediction._replace(timing=timing._replace(robot=timing.robot + seconds))
