"""A policy server and its clients read any bytes: an answer or one sentence, no crash, traceback or growth.

Frames are drawn by number; `PIOXIDE_FRAMES=1000000` draws more of them, `PIOXIDE_FRAMES_FROM` begins
elsewhere. All go through what is behind the socket, and a hundredth through a socket too.
"""

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import socket
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("prometheus_client")
pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from pioxide.errors import ServerError, WireError
from pioxide.serve import BatchConfig, Client, ServeConfig, WireLimits
from pioxide.serve.conversation import Conversation
from pioxide.serve.describe import metadata
from pioxide.serve.messages import KEY
from pioxide.serve.server import Server
from pioxide.serve.wire import decode, encode
from support.frames import broken, frame
from support.servers import DIM, HORIZON, Echo, seen, serving

FRAMES = int(os.environ.get("PIOXIDE_FRAMES", "4000"))
FIRST = int(os.environ.get("PIOXIDE_FRAMES_FROM", "0"))
ROBOTS = 32
GROWTH = 8e6  # bytes; what a heap needs for itself


class Wire:
    """A connection without a socket: what the server says ends up here."""

    remote_address = ("127.0.0.1", 1)

    def __init__(self) -> None:
        self.said: list[bytes | str] = []
        self.closed = False

    async def send(self, message: bytes | str) -> None:
        self.said.append(message)

    async def close(self, code: int, reason: str) -> None:
        self.closed = True


def judged(number: int, good: bool, said: list[bytes | str]) -> str:
    """Checks what was said of a frame; returns of which kind it is."""
    assert len(said) == 1, (number, said)
    (reply,) = said
    if isinstance(reply, bytes):
        value = decode(reply).value
        if "actions" in value:
            assert value["actions"].shape == (HORIZON, DIM), number
            assert np.isfinite(value["actions"]).all(), number
            assert not good or (value["actions"][0] == 0.5).all(), number
            return "answered"
        reply = str(value[KEY]["error"]["message"])
    assert not good, (number, reply)
    assert len(reply) < 1100, number
    assert "\n" not in reply, number
    for inside in ("Traceback", "its log says why", 'File "', "site-packages", "object at 0x"):
        assert inside not in reply, (number, reply)
    return "refused"


def resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Faults(logging.Handler):
    """Keeps what was logged with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(record)


@pytest.fixture
def faults():
    handler, logs = Faults(), [logging.getLogger(name) for name in ("pioxide.serve", "asyncio", "websockets")]
    for log in logs:
        log.addHandler(handler)
    yield handler.found
    for log in logs:
        log.removeHandler(handler)


def test_a_server_answers_or_refuses_whatever_comes(faults):
    async def all_frames() -> tuple[dict[str, int], list[float]]:
        config = ServeConfig(port=0, batch=BatchConfig(size=8, wait=0.0))
        server = Server(Echo(), config)  # type: ignore[arg-type]
        batching = asyncio.create_task(server._batcher.run())
        wires = [Wire() for _ in range(ROBOTS)]
        robots = [server.join(wire, "fuzz") for wire in wires]
        kinds, memory = {"answered": 0, "refused": 0}, list[float]()
        numbers = iter(range(FIRST, FIRST + FRAMES))
        for i in itertools.count():
            drawn = [(number, *frame(number)) for number in itertools.islice(numbers, ROBOTS)]
            if not drawn:
                break
            for wire, robot in zip(wires, robots, strict=True):
                wire.said.clear()
                robot.generation = 0
            await asyncio.gather(
                *(
                    server._answer(wire, robot, message, 0.0)  # type: ignore[arg-type]
                    for wire, robot, (_, message, _) in zip(wires, robots, drawn, strict=False)
                )
            )
            for wire, (number, _, good) in zip(wires, drawn, strict=False):
                kinds[judged(number, good, wire.said)] += 1
            if i % max(1, FRAMES // ROBOTS // 10) == 0:
                gc.collect()
                memory.append(resident())
        for wire in wires:
            server.leave(wire)
        batching.cancel()
        await asyncio.gather(batching, return_exceptions=True)
        return kinds, memory

    kinds, memory = asyncio.run(all_frames())
    assert not faults, faults[0].exc_info
    assert sum(kinds.values()) == FRAMES
    assert kinds["answered"] > FRAMES / 50
    half = len(memory) // 2
    print(kinds, *(f"{one / 1e6:.1f}" for one in memory), "MB")
    # A heap has its tides; what is never given back raises the lowest.
    assert min(memory[half:]) - min(memory[1:half]) < GROWTH, memory


def test_a_client_takes_nothing_for_an_answer_that_is_none():
    told = metadata(Echo(), WireLimits())  # type: ignore[arg-type]
    conversation = Conversation("ws://server")
    conversation.greeted(encode(told))
    question = conversation.question(seen(1.0))
    added: dict[str, Any] = {
        "request": 1,
        "generation": 0,
        "observation_age_ms": 2.0,
        "out_of_range": [1],
        "missing": 0,
    }
    answer = {"actions": np.ones((HORIZON, DIM)), "policy_timing": {"infer_ms": 1.0}, "server_timing": {}}
    good = [
        encode({**answer, KEY: added}),
        encode({KEY: {**added, "error": {"code": "busy", "message": "no"}}}),
    ]
    first = encode(told)
    taken = 0
    for number in range(FIRST, FIRST + FRAMES):
        message = broken(good[number % 2], number)
        try:
            got = conversation.answer(question, message)
        except (WireError, ServerError):
            pass
        else:
            assert got.actions.shape == (HORIZON, DIM)
            assert np.isfinite(got.actions).all()
            taken += 1
        if number % 16 == 0:
            with contextlib.suppress(WireError, ServerError):
                Conversation("ws://server").greeted(broken(first, number))
    assert 0 < taken < FRAMES / 2  # numbers of an action can change unseen, most bytes can't


class _Plains:
    """A connection that is made again when a frame has ended it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: ClientConnection | None = None

    def asked(self, message: bytes | str) -> bytes | str:
        """Returns what a frame is answered."""
        try:
            return self._asked(message)
        except ConnectionClosed:  # by the frame before
            self._connection = None
            return self._asked(message)

    def _asked(self, message: bytes | str) -> bytes | str:
        if self._connection is None:
            self._connection = connect(f"ws://127.0.0.1:{self._port}", compression=None).__enter__()
            self._connection.recv(30)
        self._connection.send(message)
        return self._connection.recv(30)

    def close(self) -> None:
        """Ends it."""
        if self._connection is not None:
            self._connection.close()


def test_a_socket_carries_any_frame_and_the_server_goes_on(faults):
    count = max(40, FRAMES // 100)
    with serving(Echo()) as server, Client(f"ws://127.0.0.1:{server.port}") as client:
        plains = _Plains(server.port)
        for number in range(FIRST, FIRST + count):
            if number % 50 == 0:  # not even HTTP
                with socket.create_connection(("127.0.0.1", server.port)) as raw:
                    raw.sendall(np.random.default_rng(number).bytes(100))
            message, good = frame(number)
            judged(number, good, [plains.asked(message)])
            if number % 100 == 0:
                assert client(seen(3.0)).actions[0, 0] == 3.0
        plains.close()
        assert client(seen(3.0)).actions[0, 0] == 3.0
    assert not faults, faults[0].exc_info
