"""A player whose episodes are shown in Rerun's viewer, in the simulation's own time."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from pioxide.contract import Contract
from pioxide.control import Request
from pioxide.control.rerun import Moment, RerunLog
from pioxide.evaluate.player import PlayAnswer, Player, S
from pioxide.robots import RobotSpec


@dataclass
class _Episode:
    """An episode's name and its time in seconds; how many actions its last chunk had."""

    name: str
    time: float = 0.0
    horizon: int = 0


class WatchedPlayer(Generic[S]):
    """Plays as another player does, and shows what it was asked and answered."""

    def __init__(self, player: Player[S], log: RerunLog, hz: float) -> None:
        """Takes the player's place.

        Args:
            player: Who answers.
            log: Where it is shown.
            hz: Actions a second.
        """
        self._player, self._log, self._hz = player, log, hz
        self._runs = Counter[int]()
        self._episodes: weakref.WeakKeyDictionary[S, _Episode] = weakref.WeakKeyDictionary()

    @property
    def robot(self) -> RobotSpec:
        """See `Player.robot`."""
        return self._player.robot

    @property
    def horizon(self) -> int:
        """See `Player.horizon`."""
        return self._player.horizon

    @property
    def contract(self) -> Contract:
        """See `Player.contract`."""
        return self._player.contract

    @property
    def remembers(self) -> bool:
        """See `Player.remembers`."""
        return self._player.remembers

    def observe(
        self, observations: Sequence[Mapping[str, Any]], sessions: Sequence[S], *, at: Sequence[float]
    ) -> None:
        """See `Player.observe`."""
        self._player.observe(observations, sessions, at=at)

    def new_session(self, seed: int = 0) -> S:
        """See `Player.new_session`."""
        session = self._player.new_session(seed)
        self._runs[seed] += 1
        # The same seed comes again where something is taken from the policy.
        run = f", run {self._runs[seed]}" if self._runs[seed] > 1 else ""
        self._episodes[session] = _Episode(f"episode {seed}{run}")
        return session

    def chunks(self, requests: Sequence[Request], sessions: Sequence[S]) -> Sequence[PlayAnswer]:
        """See `Player.chunks`."""
        answers = self._player.chunks(requests, sessions)
        for request, session, answer in zip(requests, sessions, answers, strict=True):
            episode, left = self._episodes[session], len(request.prev_chunk_left_over)
            # Between two questions the world moved on by what was played.
            episode.time += max(0, episode.horizon - left) / self._hz
            episode.horizon = len(answer.actions)
            seen, limits = request.observation, dict(request.limits)
            self._log.take(Moment(episode.name, episode.time, seen, answer.actions, left, limits))
        return answers
