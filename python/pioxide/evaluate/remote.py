"""A policy behind a server in the place of one in this process: `evaluate` over the wire."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract
from pioxide.control import Request
from pioxide.errors import WireError
from pioxide.robots import Camera, RobotSpec, StatePart
from pioxide.serve import Client, ClientConfig
from pioxide.serve.messages import KEY


class RoundTrip(NamedTuple):
    """Seconds from a question to its answer, the network in between."""

    total: float


class RemoteChunk(NamedTuple):
    """A server's answer.

    Attributes:
        actions: [H, D] in the robot's units.
        missing: FAST coefficients that it lacked.
        timing: How long it took.
    """

    actions: NDArray[np.float64]
    missing: int
    timing: RoundTrip


class RemoteSession:
    """One robot's connection during one episode.

    Attributes:
        client: The connection.
        calls: Answers given.
        out_of_range: Answers to states outside the statistics.
    """

    def __init__(self, client: Client) -> None:
        """Counts from nothing."""
        self.client = client
        self.calls = self.out_of_range = 0


class RemotePolicy:
    """What `evaluate` plays when the policy is behind a server: every robot has a connection of its own.

    An episode's noise begins at its seed there as it does here, so the same seeds give the same episodes: to
    the bit where each robot is answered alone in both places (one lane), within rounding in batches.

    Attributes:
        uri: Where the server is.
        metadata: What it said of itself.
        robot: Whose observations it reads, as far as the server tells.
        horizon: Actions in a chunk.
        contract: How many of them are played, where the checkpoint says so.
        remembers: Whether it is to see what comes between two answers.
    """

    def __init__(self, uri: str, *, key: str | None = None, config: ClientConfig | None = None) -> None:
        """Connects.

        Args:
            uri: "ws://127.0.0.1:8000".
            key: One of the server's keys.
            config: Of every connection.

        Raises:
            ServerError: Nobody answers there, or nobody is let in.
            WireError: A server that does not say what it expects, as openpi's own.
        """
        self.uri, self._key, self._config = uri, key, config or ClientConfig(timeout=60.0)
        self._clients: list[Client] = []
        self._free: list[Client] = [self._opened()]
        self.metadata = self._free[0].metadata
        if KEY not in self.metadata:
            self.close()
            raise WireError(
                f"{uri}: the server does not say which robot it is for; an evaluation needs `pioxide serve`"
            )
        told = self.metadata[KEY]
        self.robot, self.horizon = robot_of(told), int(told["horizon"])
        self.remembers = self._free[0].stride is not None
        play = told["play_steps"]
        self.contract = Contract() if play is None else Contract(play_steps=int(play))
        self._threads = ThreadPoolExecutor(thread_name_prefix="pioxide-robot", max_workers=64)

    @property
    def symbol(self) -> str:
        """Returns the model's name: π0, π0.5 or π0-FAST."""
        return str(self.metadata[KEY]["model"])

    def new_session(self, seed: int = 0) -> RemoteSession:
        """Begins an episode on a connection that no session holds; see `Player.new_session`."""
        client = self._free.pop() if self._free else self._opened()
        client.reset(seed)
        session = RemoteSession(client)
        # Nobody says when an episode is over: its connection is free once its session is gone.
        weakref.finalize(session, self._free.append, client)
        return session

    def observe(
        self,
        observations: Sequence[Mapping[str, Any]],
        sessions: Sequence[RemoteSession],
        *,
        at: Sequence[float],
    ) -> None:
        """See `Player.observe`."""
        for observation, session, moment in zip(observations, sessions, at, strict=True):
            session.client.observe(observation, at=moment)

    def chunks(self, requests: Sequence[Request], sessions: Sequence[RemoteSession]) -> list[RemoteChunk]:
        """Asks for all robots at once, so that the server may answer them in one batch.

        Raises:
            ServerError: The server refused, failed, or went away.
        """
        return list(self._threads.map(_asked, requests, sessions))

    def close(self) -> None:
        """Ends all connections."""
        for client in self._clients:
            client.close()

    def __enter__(self) -> RemotePolicy:
        """Returns itself; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def _opened(self) -> Client:
        client = Client(self.uri, key=self._key, config=self._config)
        self._clients.append(client)
        return client


def robot_of(told: Mapping[str, Any]) -> RobotSpec:
    """Returns the robot that a server describes in its first message.

    Args:
        told: See `pioxide.serve.describe.metadata`.
    """
    cameras: list[Camera] = []
    state: list[StatePart] = []
    prompt, names = "prompt", list[str]()
    schema = told["observation"]
    for key, what in schema["properties"].items():
        if what["type"] == "string":
            prompt = key
        elif "slot" in what:
            cameras.append(Camera(key, what["slot"], required=key in schema["required"]))
        else:
            state.append(StatePart(key, int(what["shape"][0])))
            names += what["names"]
    actions = told["answer"]["actions"]
    return RobotSpec(
        told["robot"],
        tuple(cameras),
        tuple(state),
        int(actions["shape"][1]),
        hz=told["hz"],
        prompt_key=prompt,
        joint_names=tuple(actions["names"]),
        state_names=tuple(names),
        joint_units=tuple(actions["units"]),
    )


def _asked(request: Request, session: RemoteSession) -> RemoteChunk:
    session.client.limits = request.limits
    answer = session.client(
        request.observation,
        prev_chunk_left_over=request.prev_chunk_left_over,
        inference_delay=request.inference_delay,
        at=request.at,
    )
    session.calls += 1
    session.out_of_range += bool(answer.out_of_range)
    return RemoteChunk(answer.actions, answer.missing, RoundTrip(answer.round_trip))
