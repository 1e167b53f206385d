"""Scripted demonstrations of a task of ours, as a LeRobot v3.0 dataset with video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pioxide.data import EpisodeData, write_lerobot_v3
from pioxide.errors import InputError, PioxideError
from pioxide.evaluate.adapter import Floats
from pioxide.evaluate.catalogue import OWN, table_task
from pioxide.evaluate.rollout import FIRST_FRESH_SEED


@dataclass(frozen=True)
class RecordSettings:
    """What is recorded.

    Attributes:
        episodes: Demonstrations.
        first_seed: The first one's seed; the others follow it. All stay below a million, where those of
            evaluations begin. An episode in which the noise made the expert fail is left out, and the next
            seed takes its place.
        kind: Only this kind of instruction, or these with commas between; all by default.
        noise: Standard deviation, in metres, of what is added to the expert's actions as they are sent. The
            actions that are written are without, so the policy learns the way back.
        correlation: Of that noise from step to step, 0 to below 1.
    """

    episodes: int = 600
    first_seed: int = 0
    kind: str | None = None
    noise: float = 0.01
    correlation: float = 0.7

    def __post_init__(self) -> None:
        """Refuses numbers out of their range.

        Raises:
            InputError: Names the first one.
        """
        if self.episodes < 1 or self.first_seed < 0:
            raise InputError("expected at least one episode, and a first_seed of 0 or more")
        # With room for those that are left out.
        if self.first_seed + 2 * self.episodes > FIRST_FRESH_SEED:
            raise InputError(
                f"{self.episodes} episodes from seed {self.first_seed} on: those from {FIRST_FRESH_SEED} on "
                "are kept for evaluation, and must not be seen in training"
            )
        if not (0 <= self.noise < 1 and 0 <= self.correlation < 1):
            raise InputError(
                f"expected noise and correlation in [0, 1), got {self.noise} and {self.correlation}"
            )


def record(
    task: str,
    path: str | os.PathLike[str],
    settings: RecordSettings,
    *,
    on_episode: Callable[[int], None] | None = None,
) -> Path:
    """Plays the scripted expert, and writes what it saw and did. The same settings give the same dataset.

    Args:
        task: One of our own.
        path: The dataset's directory, new or empty.
        settings: See there.
        on_episode: Called with the number of frames of each episode.

    Returns:
        The directory.

    Raises:
        InputError: There is no such task, or the directory is not empty.
        PioxideError: The expert failed more than once in twenty.
    """
    if task not in OWN:
        raise InputError(f"there is no expert for {task!r}; there is one for {', '.join(OWN)}")
    adapter = table_task(task)
    robot = adapter.robot
    return write_lerobot_v3(
        path,
        _episodes(adapter, settings, on_episode),
        fps=round(adapter.hz),
        robot_type=robot.name,
        names={"observation.state": robot.state_names, "action": robot.joint_names},
    )


def _episodes(
    adapter: Any, settings: RecordSettings, on_episode: Callable[[int], None] | None
) -> Iterator[EpisodeData]:
    environment = adapter.make()
    options = None if settings.kind is None else {"kind": settings.kind}
    camera, state = adapter.robot.cameras[0].key, adapter.robot.state[0].key
    seed, done, failed = settings.first_seed, 0, 0
    while done < settings.episodes:
        random = np.random.default_rng([seed, 2])
        moment = adapter.read(*environment.reset(seed=seed, options=options))
        seen: list[dict[str, Any]] = []
        actions: list[Floats] = []
        off = np.zeros(adapter.robot.action_dim)
        over = False
        while not over:
            action = environment.expert_action()
            seen.append(moment.observation)
            actions.append(action)
            fresh = random.normal(0.0, settings.noise, off.shape)
            off = settings.correlation * off + np.sqrt(1 - settings.correlation**2) * fresh
            *result, info = environment.step(adapter.write(action + off))
            moment = adapter.read(result[0], info)
            over = bool(result[2] or result[3])
        seed += 1
        if not moment.success:
            failed += 1
            if failed * 20 > max(settings.episodes, 20):
                raise PioxideError(
                    f"{adapter.name}: the expert failed {failed} times in {failed + done} episodes, at last "
                    f"with seed {seed - 1}; lower the noise"
                )
            continue
        done += 1
        if on_episode is not None:
            on_episode(len(seen))
        yield EpisodeData(
            {
                state: np.array([one[state] for one in seen], np.float32),
                "action": np.array(actions, np.float32),
            },
            seen[0][adapter.robot.prompt_key],
            {camera: np.array([one[camera] for one in seen])},
        )
    environment.close()
