"""What stands between a gymnasium environment and a policy's robot: observations, actions, success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pioxide.control import Limits
from pioxide.errors import InputError
from pioxide.robots import RobotSpec

Floats = NDArray[np.float64]


class Environment(Protocol):
    """What is used of a `gymnasium.Env`."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begins an episode: observation and info."""
        ...

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        """Returns observation, reward, whether it ended, whether its time is over, and info."""
        ...

    def render(self) -> Any:
        """Returns a picture for people."""
        ...

    def close(self) -> None:
        """Frees it."""
        ...


class Variant(StrEnum):
    """What is taken from a policy, to see whether it needs it.

    Attributes:
        PLAIN: Nothing.
        BLANK: The picture: every pixel of every camera is mid-grey.
        EXCHANGED: The words: another instruction of the task, while success is judged by the right one.
    """

    PLAIN = "plain"
    BLANK = "blank"
    EXCHANGED = "exchanged"


@dataclass(frozen=True)
class Moment:
    """An environment's answer in the robot's words.

    Attributes:
        observation: Under the robot's keys, for a policy.
        position: [D] where the joints are, from which the safety filter starts.
        kind: Which kind of instruction the episode has; "" where there is only one.
        success: Whether the task is done.
    """

    observation: dict[str, Any]
    position: Floats
    kind: str
    success: bool


@dataclass(frozen=True)
class Adapter:
    """A task: an environment, and how a robot sees it.

    Attributes:
        name: What tables call it.
        robot: Whose keys and numbers `read` gives and `write` takes.
        make: Makes an environment. With `shared` it may be called often.
        read: Turns an observation and its info into a `Moment`.
        write: Turns an action [D] in the robot's units into the environment's.
        limits: What the safety filter holds actions to.
        instructions: All of the task, from which exchanged words are drawn.
        max_steps: Steps after which an episode ends, where the environment sets no end itself.
    """

    name: str
    robot: RobotSpec
    make: Callable[[], Environment]
    read: Callable[[Any, Mapping[str, Any]], Moment]
    write: Callable[[Floats], Any]
    limits: Limits
    instructions: tuple[str, ...] = ()
    max_steps: int = 10_000

    @property
    def hz(self) -> float:
        """Returns actions a second.

        Raises:
            InputError: The robot does not say.
        """
        if self.robot.hz is None:
            raise InputError(f"{self.name}: its robot {self.robot.name} has no hz, which limits need")
        return self.robot.hz

    def changed(self, observation: dict[str, Any], variant: Variant, seed: int) -> dict[str, Any]:
        """Returns an observation without what a variant takes away.

        Args:
            observation: Under the robot's keys.
            variant: What is taken.
            seed: Of the episode; chooses the other instruction.

        Raises:
            InputError: The words are to be exchanged in a task that has one instruction.
        """
        if variant is Variant.PLAIN:
            return observation
        out = dict(observation)
        if variant is Variant.BLANK:
            for camera in self.robot.cameras:
                if camera.key in out:
                    out[camera.key] = np.full_like(out[camera.key], 128)
            return out
        key = self.robot.prompt_key
        others = [text for text in self.instructions if text != observation[key]]
        if not others:
            raise InputError(f"{self.name} has one instruction, so there is none to exchange it for")
        out[key] = others[int(np.random.default_rng([seed, 1]).integers(len(others)))]
        return out
