"""A stand-in for a policy that solves the words task by rule, from what it is shown and told alone."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from pioxide.contract import Contract
from pioxide.control import Request
from pioxide.policy import Prediction, Session, Timing
from pioxide.robots import RobotSpec

NUMBERS = {"touch target one": 0, "touch target two": 1, "touch target three": 2}


class OraclePolicy:
    """Chunks of straight lines to the target; where the picture says nothing, to the first."""

    horizon = 8
    remembers = False

    def __init__(self, robot: RobotSpec) -> None:
        self.robot = robot
        self.contract = Contract()
        self.batches: list[int] = []
        self.delays: list[int] = []
        self.hz = robot.hz or 1.0
        self.shown: dict[int, list[int]] = {}
        self.asked: dict[int, list[int]] = {}

    def new_session(self, seed: int = 0) -> Session:
        return Session(seed)

    def observe(
        self, observations: Sequence[Any], sessions: Sequence[Session], *, at: Sequence[float]
    ) -> None:
        """Keeps when each robot was shown something, in ticks."""
        for session, one in zip(sessions, at, strict=True):
            self.shown.setdefault(id(session), []).append(round(one * self.hz))

    def chunks(self, requests: Sequence[Request], sessions: Sequence[Session]) -> list[Prediction]:
        self.batches.append(len(requests))
        self.delays += [one.inference_delay for one in requests]
        for session, one in zip(sessions, requests, strict=True):
            session.calls += 1
            if one.at is not None:
                self.asked.setdefault(id(session), []).append(round(one.at * self.hz))
        return [
            Prediction(self._chunk(one.observation), np.zeros((8, 2)), Timing(*[0.0] * 7), False)
            for one in requests
        ]

    def _chunk(self, seen: Any) -> np.ndarray:
        state = seen["observation.state"]
        target = NUMBERS.get(seen["task"])
        if target is None:
            colours = seen["observation.images.top"].reshape(-1, 3).astype(int)
            vivid = np.ptp(colours, axis=1)
            target = int(colours[vivid.argmax()].argmax()) if vivid.max() > 50 else 0
        goal, tip = state[2 + 2 * target : 4 + 2 * target], state[:2]
        way = goal - tip
        length = max(float(np.linalg.norm(way)), 1e-9)
        return np.array([tip + way * min(1.0, 0.05 * (i + 1) / length) for i in range(8)])


def said(contract: Contract) -> Any:
    """A policy's place for a contract, where only that is needed."""
    return SimpleNamespace(contract=contract, horizon=8)
