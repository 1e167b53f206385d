"""What `evaluate` asks of who plays: a policy in this process, or one behind a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract
from pioxide.control import Request
from pioxide.robots import RobotSpec


class PlaySession(Protocol):
    """One robot's side of a player.

    Attributes:
        calls: Answers given.
        out_of_range: Answers to states outside the statistics.
    """

    calls: int
    out_of_range: int


class PlayTiming(Protocol):
    """How long an answer took."""

    @property
    def total(self) -> float:
        """Returns seconds, all in all."""
        ...


class PlayAnswer(Protocol):
    """A player's answer: `Prediction`, or what a server's answer is made into."""

    @property
    def actions(self) -> NDArray[np.float64]:
        """Returns [H, D] in the robot's units."""
        ...

    @property
    def missing(self) -> int:
        """Returns how many FAST coefficients it lacked."""
        ...

    @property
    def timing(self) -> PlayTiming:
        """Returns how long it took."""
        ...


S = TypeVar("S", bound=PlaySession)


class Player(Protocol[S]):
    """A `pioxide.policy.Policy`, or a `RemotePolicy`."""

    @property
    def robot(self) -> RobotSpec:
        """Returns whose observations it reads."""
        ...

    @property
    def horizon(self) -> int:
        """Returns H, actions in a chunk."""
        ...

    @property
    def contract(self) -> Contract:
        """Returns what it was trained for, as far as it is known here."""
        ...

    @property
    def remembers(self) -> bool:
        """Returns whether it is to see what robots see between two answers, see `observe`."""
        ...

    def observe(
        self, observations: Sequence[Mapping[str, Any]], sessions: Sequence[S], *, at: Sequence[float]
    ) -> None:
        """Shows what robots see, and when, in seconds of their episodes."""
        ...

    def new_session(self, seed: int = 0) -> S:
        """Returns a session whose noise begins at a seed."""
        ...

    def chunks(self, requests: Sequence[Request], sessions: Sequence[S]) -> Sequence[PlayAnswer]:
        """Answers several robots at once."""
        ...
