"""A recording played again: against a checkpoint, answer by answer, or into a dataset to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract, Pipeline, known, refuse_differences
from pioxide.errors import InputError
from pioxide.files import parse_json
from pioxide.serve.messages import Ask, continuation, read_ask
from pioxide.serve.record import Entry, Recording
from pioxide.serve.wire import WireLimits

if TYPE_CHECKING:
    from pioxide.data.writer import EpisodeData
    from pioxide.policy import Policy
    from pioxide.policy.history import Seen
    from pioxide.policy.session import Past

# What two checkpoints have to share to be asked the same questions and answer in the same numbers.
_SHARED = ("robot", "cameras", "action_horizon", "default_prompt", "memory")


class Replayed(NamedTuple):
    """One answer, and the one that a policy gives now.

    Attributes:
        robot: Number of the connection.
        generation: The robot's episode.
        checkpoint: What had answered, where the recording says so.
        recorded: [H, D] in the robot's units.
        now: [H, D].
    """

    robot: int
    generation: int
    checkpoint: str
    recorded: NDArray[np.float64]
    now: NDArray[np.float64]

    @property
    def same(self) -> bool:
        """Returns whether they are equal to the last bit."""
        return bool(np.array_equal(self.recorded, self.now))


class Comparison(NamedTuple):
    """All answers of a recording beside a policy's.

    Attributes:
        answers: How many.
        same: How many are equal to the last bit.
        furthest: [D] the largest distance by dimension, in the robot's units.
        typical: [D] the root mean square one.
        first: The first answer that differs, from 0; None where none does.
        damaged: Entries that a crash had cut off, and were left out.
        by_checkpoint: [answers, the same] by what had answered; a server may have swapped its checkpoint.
    """

    answers: int
    same: int
    furthest: NDArray[np.float64]
    typical: NDArray[np.float64]
    first: int | None
    damaged: int
    by_checkpoint: dict[str, tuple[int, int]]

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            **self._asdict(),
            "furthest": self.furthest.tolist(),
            "typical": self.typical.tolist(),
        }


def replay(recording: Recording, policy: Policy) -> Iterator[Replayed]:
    """Asks a policy everything that was recorded, in order, each with the noise and the batch that it had.

    On the same machine and for the same checkpoint and options the answers are the same to the last bit.

    Raises:
        ContractError: The policy's robot, cameras or horizon are not the recording's.
        InputError: A recorded observation is not one of this policy's.
    """
    names = (f"the recording {recording.directory}", "the checkpoint")
    refuse_differences(recording.contract, policy.contract, names=names, only=_SHARED)
    seen = _Seen(policy)
    for entry in recording.logged():
        ask = read_ask(entry.message, WireLimits())
        past = seen.add(entry, ask)
        if not entry.rows:
            continue
        sessions = [policy.new_session() for _ in range(entry.rows)]
        for session in sessions:
            session.restore(parse_json(entry.session, "the recorded session"), past)
        before = [continuation(ask, policy)] * entry.rows
        # The same row of as large a batch: another program rounds otherwise.
        at = [ask.at] * entry.rows
        answers = policy.batch([ask.observation] * entry.rows, sessions, left_over=before, at=at)
        now = answers[entry.row].actions
        yield Replayed(entry.robot, entry.generation, entry.checkpoint, entry.actions, now)


class _Seen:
    """What each robot's cameras showed lately, for a policy with memory."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._robots: dict[int, tuple[int, dict[float, Seen]]] = {}

    def add(self, entry: Entry, ask: Ask) -> Past | None:
        """Takes what an entry shows; returns what its robot saw in this episode, None without memory."""
        from pioxide.policy.session import Past

        memory = self._policy.contract.memory
        if not memory or ask.at is None:
            return None
        generation, frames = self._robots.get(entry.robot, (-1, {}))
        if generation != entry.generation:
            frames = {}
        frames[ask.at] = self._policy.seen(ask.observation, ask.at)
        oldest = max(frames) - memory.span - 2 * memory.stride
        frames = {at: one for at, one in frames.items() if at >= oldest}
        self._robots[entry.robot] = (entry.generation, frames)
        return Past(memory, frames)


def compare(recording: Recording, policy: Policy) -> Comparison:
    """Returns how far a policy's answers are from the recorded ones; errors as in `replay`.

    Raises:
        InputError: The recording is empty.
    """
    furthest = squares = np.zeros(policy.robot.action_dim)
    answers = same = steps = 0
    first: int | None = None
    by_checkpoint: dict[str, tuple[int, int]] = {}
    for one in replay(recording, policy):
        apart = np.abs(one.now - one.recorded)
        furthest = np.maximum(furthest, apart.max(0))
        squares, steps = squares + np.square(apart).sum(0), steps + len(apart)
        same += one.same
        before = by_checkpoint.get(one.checkpoint, (0, 0))
        by_checkpoint[one.checkpoint] = (before[0] + 1, before[1] + one.same)
        if first is None and not one.same:
            first = answers
        answers += 1
    if not answers:
        raise InputError(f"{recording.directory}: nothing was recorded")
    typical = np.sqrt(squares / steps)
    return Comparison(answers, same, furthest, typical, first, recording.damaged, by_checkpoint)


def to_dataset(recording: Recording, target: Path, fps: int | None = None) -> Path:
    """Writes what was recorded as a LeRobot v3.0 dataset with video, a robot's episode an episode.

    A frame is a moment when a chunk was asked for, and its action the first of the chunk, so `fps` is the
    rate of requests and not of the robot. Episodes of one frame are left out.

    Args:
        recording: What to write.
        target: A directory to make.
        fps: Frames a second; by default what lay between requests, rounded.

    Raises:
        InputError: There is no episode of two frames, or pictures change their size within one.
        OutputError: The target can't be written.
    """
    from pioxide.data.writer import write_lerobot_v3

    contract = recording.contract
    robot = known(contract.robot, "robot")
    names = {"observation.state": robot.state_names, "action": robot.joint_names}
    return write_lerobot_v3(
        target,
        _episodes(recording, contract),
        fps=fps or _rate(recording),
        robot_type=robot.name,
        names={key: named for key, named in names.items() if named},
    )


def _episodes(recording: Recording, contract: Contract) -> Iterator[EpisodeData]:
    """Episodes in the order in which they ended; what interleaves is told apart by connection."""
    from pioxide.data.writer import EpisodeData

    pipeline, found = Pipeline(contract), False
    for entries in _apart(recording):
        frames = [pipeline.read(read_ask(one.message, WireLimits()).observation) for one in entries]
        columns = {
            "observation.state": np.concatenate([one.robot_state for one in frames]).astype(np.float32),
            "action": np.stack([one.actions[0] for one in entries]).astype(np.float32),
        }
        everywhere = set.intersection(*(set(one.images[0]) for one in frames))
        videos = {_feature(key): _pictures(frames, key) for key in sorted(everywhere)}
        found = True
        yield EpisodeData(columns, [one.prompts[0] for one in frames], videos)
    if not found:
        raise InputError(f"{recording.directory}: no episode of two answers or more was recorded")


def _apart(recording: Recording) -> Iterator[list[Entry]]:
    """Yields each robot's episodes. One episode of each robot is held at a time."""
    open_: dict[int, list[Entry]] = {}
    for entry in recording.entries():
        entries = open_.setdefault(entry.robot, [])
        if entries and entries[-1].generation != entry.generation:
            if len(entries) > 1:
                yield entries
            entries = open_[entry.robot] = []
        entries.append(entry)
    yield from (entries for entries in open_.values() if len(entries) > 1)


def _rate(recording: Recording) -> int:
    """Requests a second of a robot, as they usually came."""
    last: dict[int, float] = {}
    between: list[float] = []
    for entry in recording.entries():
        if entry.robot in last:
            between.append(entry.time - last[entry.robot])
        last[entry.robot] = entry.time
    return max(1, round(1 / max(median(between), 1e-3))) if between else 1


def _pictures(frames: list[Any], key: str) -> NDArray[np.uint8]:
    pictures = [one.images[0][key] for one in frames]
    if len({picture.shape for picture in pictures}) > 1:
        raise InputError(f"{key}: pictures change their size within an episode; a video can't")
    return np.stack(pictures)


def _feature(key: str) -> str:
    return key if key.startswith("observation.images.") else f"observation.images.{key.split('/')[-1]}"
