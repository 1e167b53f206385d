"""Closed-loop evaluation: many seeds of a task at once, one batch of the policy a tick."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pioxide.errors import InputError
from pioxide.evaluate.adapter import Adapter, Variant
from pioxide.evaluate.film import Reel
from pioxide.evaluate.lane import Episode, Lane, Outcome
from pioxide.evaluate.player import Player, S
from pioxide.evaluate.score import Score, scores

# Recorded demonstrations have seeds below this, so that no evaluation begins where one of them began.
FIRST_FRESH_SEED = 1_000_000


@dataclass(frozen=True)
class EvaluationSettings:
    """What is run.

    Attributes:
        seeds: Episodes of each variant.
        first_seed: The first of their seeds; the others follow it. Seeds from a million on were recorded by
            no `pioxide record`.
        play: Actions of a chunk to play before the next one is asked for; by default what the checkpoint
            says, else half a chunk.
        delay: Control periods between an observation and the chunk that answers it; 0 stops the world while
            the policy thinks.
        kind: Only this kind of instruction, or these with commas between, of a task that has several; all by
            default.
        lanes: Robots that run at once, in one batch of the policy.
    """

    seeds: int = 100
    first_seed: int = FIRST_FRESH_SEED
    play: int | None = None
    delay: int = 0
    kind: str | None = None
    lanes: int = 32

    def __post_init__(self) -> None:
        """Refuses numbers out of their range.

        Raises:
            InputError: Names the first one.
        """
        for name, least in (("seeds", 1), ("first_seed", 0), ("delay", 0), ("lanes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        if self.play is not None and self.play < 1:
            raise InputError(f"play: expected 1 action or more, got {self.play}")

    def played(self, policy: Player[Any]) -> int:
        """Returns how many actions of a chunk are played.

        Raises:
            InputError: A chunk is too short for that, with the delay.
        """
        said = policy.contract.play_steps
        play = self.play or (said if isinstance(said, int) else max(1, policy.horizon // 2))
        if play + self.delay > policy.horizon:
            raise InputError(
                f"playing {play} actions and waiting {self.delay} periods takes more than the "
                f"{policy.horizon} actions of a chunk; lower play or delay"
            )
        return play


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        task: The task's name.
        settings: What was run.
        play: Actions of each chunk that were played.
        outcomes: Of every episode, by variant and seed.
        seconds: Seconds of a batch of the policy, mean.
    """

    task: str
    settings: EvaluationSettings
    play: int
    outcomes: tuple[Outcome, ...]
    seconds: float
    scores: list[Score] = field(init=False)

    def __post_init__(self) -> None:
        """Counts."""
        object.__setattr__(self, "scores", scores(self.outcomes))

    @property
    def overall(self) -> Score:
        """Returns the score of all episodes from which nothing was taken; of the first variant without."""
        return self.scores[0]

    def as_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "task": self.task,
            "seeds": self.settings.seeds,
            "first_seed": self.settings.first_seed,
            "play": self.play,
            "delay": self.settings.delay,
            "policy_seconds": self.seconds,
            "scores": [one.as_json() for one in self.scores],
            "episodes": [
                {
                    "seed": one.episode.seed,
                    "variant": str(one.episode.variant),
                    "kind": one.kind,
                    "success": one.success,
                    "steps": one.steps,
                    "reward": one.reward,
                    "jerk": one.jerk,
                    "limited": one.limited,
                    "chunks": one.chunks,
                    "out_of_range": one.out_of_range,
                    "missing": one.missing,
                }
                for one in self.outcomes
            ],
        }


def evaluate(
    policy: Player[S],
    adapter: Adapter,
    settings: EvaluationSettings,
    *,
    variants: Sequence[Variant] = (Variant.PLAIN,),
    reel: Reel | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> Evaluation:
    """Plays every seed of every variant in closed loop, and counts.

    Each robot has its own environment, runner, action queue, safety filter and session; all that are due ask
    in one batch. An episode's noise begins at its seed, so it does not depend on the others beyond rounding.

    Args:
        policy: For the adapter's robot: a `Policy`, or a `RemotePolicy` behind a server.
        adapter: The task.
        settings: See there.
        variants: What is taken from the policy, each over all seeds.
        reel: Keeps pictures for a film.
        on_outcome: Called with each episode that ended.

    Raises:
        InputError: The policy is for another robot, or its chunks are too short for `play` and `delay`.
        PolicyError: An answer is no action chunk.
        ServerError: A server refused, failed, or went away.
    """
    _check_robot(policy, adapter)
    play = settings.played(policy)
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    waiting = iter([Episode(seed, variant) for variant in variants for seed in seeds])
    lanes = [
        Lane[S](
            adapter,
            play=play,
            delay=settings.delay,
            horizon=policy.horizon,
            kind=settings.kind,
            picture=None if reel is None else reel.picture,
        )
        for _ in range(min(settings.lanes, settings.seeds * len(variants)))
    ]
    outcomes: list[Outcome] = []
    batches: list[float] = []
    try:
        running = [lane for lane in lanes if _begin(lane, waiting, policy)]
        while running:
            batches += _answer_due(running, policy)
            going: list[Lane[S]] = []
            for lane in running:
                outcome = lane.step()
                if outcome is not None:
                    outcomes.append(outcome)
                    if reel is not None:
                        reel.add(outcome, lane.frames)
                    if on_outcome is not None:
                        on_outcome(outcome)
                if outcome is None or _begin(lane, waiting, policy):
                    going.append(lane)
            running = going
    finally:
        for lane in lanes:
            lane.close()
    order = list(Variant)
    outcomes.sort(key=lambda one: (order.index(one.episode.variant), one.episode.seed))
    return Evaluation(adapter.name, settings, play, tuple(outcomes), sum(batches) / max(len(batches), 1))


def _answer_due(running: Sequence[Lane[S]], policy: Player[S]) -> list[float]:
    """Shows the policy what lanes see, and answers those due in one batch; returns its seconds, if any."""
    if policy.remembers:
        policy.observe(
            [lane.seen() for lane in running],
            [lane.session for lane in running],
            at=[lane.at for lane in running],
        )
    asking = [(lane, question) for lane in running if (question := lane.ask()) is not None]
    if not asking:
        return []
    answers = policy.chunks([question for _, question in asking], [lane.session for lane, _ in asking])
    for (lane, _), answer in zip(asking, answers, strict=True):
        lane.answer(answer)
    return [answers[0].timing.total]


def _begin(lane: Lane[S], waiting: Iterator[Episode], policy: Player[S]) -> bool:
    """Begins the next episode in a lane; False where none is left."""
    episode = next(waiting, None)
    if episode is None:
        return False
    lane.begin(episode, policy.new_session(episode.seed))
    return True


def _check_robot(policy: Player[Any], adapter: Adapter) -> None:
    ours, theirs = policy.robot, adapter.robot
    for what in ("state", "action_dim", "prompt_key"):
        if getattr(ours, what) != getattr(theirs, what):
            raise InputError(
                f"the policy is for {ours.name} ({what} {getattr(ours, what)}), and the task {adapter.name} "
                f"has {theirs.name} ({what} {getattr(theirs, what)}): train one for it"
            )
    if missing := {c.key for c in ours.cameras if c.required} - {c.key for c in theirs.cameras}:
        raise InputError(f"the policy needs the camera {min(missing)!r}, which the task {adapter.name} lacks")
