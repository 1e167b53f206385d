"""A policy server in a thread of the test's own process, and a policy that echoes states."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from pioxide.contract import CameraSlot, Contract, Frames, Pipeline, openpi_contract
from pioxide.errors import PolicyError
from pioxide.family import Family
from pioxide.policy import (
    Continuation,
    FlowSampler,
    PolicyOptions,
    Prediction,
    RTCConfig,
    Session,
    Timing,
)
from pioxide.robots import Camera, RobotSpec, StatePart
from pioxide.serve import ServeConfig
from pioxide.serve.server import Server
from pioxide.transforms import NormRule

HORIZON, DIM = 4, 3
ROBOT = RobotSpec(
    "arm",
    (Camera("image", "base_0_rgb"),),
    (StatePart("state", DIM),),
    DIM,
    joint_names=("lift", "turn", "grip"),
    state_names=("lift", "turn", "grip"),
    joint_units=("m", "rad", ""),
)


def echo_contract(**changes: Any) -> Contract:
    """The contract of `Echo`."""
    identity = NormRule.openpi("identity")
    return replace(
        openpi_contract(Family.PI0),
        robot=ROBOT,
        cameras=(CameraSlot("base_0_rgb", "image"),),
        delta_mask=(),
        state_norm=identity,
        action_norm=identity,
        text_len=48,
        default_prompt=None,
        action_horizon=HORIZON,
        model_dim=32,
        source="echo",
        **changes,
    )


class Echo:
    """Answers with the state that it was shown, plus a hundredth a step: no answer fits another's question.

    A state above 1000 breaks a batch, as a network's NaN does.
    """

    remembers = False

    def __init__(self, seconds: float = 0.0, *, continues: bool = False, offset: float = 0.0) -> None:
        self.contract = echo_contract()
        self.pipeline = Pipeline(self.contract)
        self.robot, self.horizon, self.continues = ROBOT, HORIZON, continues
        self.options = PolicyOptions(FlowSampler(realtime=RTCConfig() if continues else None))
        self.engine = SimpleNamespace(shapes=("the only one",))
        self.seconds, self.offset = seconds, offset
        self.batches: list[int] = []
        self.left_over: list[Continuation | None] = []

    def new_session(self, seed: int = 0) -> Session:
        return Session(seed)

    def batch(
        self,
        observations: Sequence[dict[str, Any]] | Frames,
        sessions: Sequence[Session],
        *,
        left_over: Sequence[Continuation | None] | None = None,
        at: Sequence[float | None] | None = None,
    ) -> list[Prediction]:
        time.sleep(self.seconds)
        frames = observations if isinstance(observations, Frames) else self.pipeline.read(observations)
        states = frames.robot_state
        if (states > 1000).any():
            raise PolicyError("the network gave nan")
        self.batches.append(len(states))
        self.left_over += left_over or []
        steps = 0.01 * np.arange(HORIZON)[:, None] + self.offset
        timing = Timing(*[0.001] * 7)
        return [Prediction(state + steps, state + steps, timing, False) for state in states]


def seen(value: float, **more: Any) -> dict[str, Any]:
    """An observation whose answer is known."""
    image = np.zeros((8, 8, 3), np.uint8)
    return {"image": image, "state": np.full(DIM, value), "prompt": "lift it", **more}


@contextmanager
def serving(policy: Any, config: ServeConfig | None = None) -> Iterator[Server]:
    """A server that listens on a free port while the block runs."""
    config = config or ServeConfig(port=0)
    started: list[Server] = []
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    failed: list[BaseException] = []

    async def start() -> None:
        server = Server(policy, config)
        await server.start()
        started.append(server)

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(start())
        except BaseException as error:
            failed.append(error)
            return
        finally:
            ready.set()
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(30)
    if failed:
        loop.close()
        raise failed[0]
    try:
        yield started[0]
    finally:
        asyncio.run_coroutine_threadsafe(started[0].stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
