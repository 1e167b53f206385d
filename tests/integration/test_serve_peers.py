"""Peers that vanish, send slowly, do not read, or come in crowds: others pay nothing for them."""

import asyncio
import gc
import socket
import struct
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from itertools import repeat

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pioxide.errors import InputError, ServerError
from pioxide.serve import AsyncClient, BatchConfig, Client, ServeConfig, bounded
from pioxide.serve.wire import encode
from support.network import Proxy, looping
from support.servers import Echo, seen, serving

PATIENCE = 30.0  # what is waited for comes at once; a loaded machine may take its time


def address(server):
    return f"ws://127.0.0.1:{server.port}"


def counted(server, bound):
    """How many connections a bound has ended."""
    return server.metrics.registry.get_sample_value("pioxide_requests_total", {"outcome": bound}) or 0.0


def eventually(holds):
    """Waits for what another thread is about to do."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


@contextmanager
def told_when_all_have_left(server):
    """An event that is set when a server holds no robot any more."""
    gone = threading.Event()
    leave = server.leave

    def left(owner):
        leave(owner)
        if not server._robots:
            gone.set()

    server.leave = left
    yield gone


class Gated(Echo):
    """Computes when the test lets it."""

    def __init__(self):
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def batch(self, *arguments, **named):
        self.begun.set()
        self.go_on.wait(PATIENCE)
        return super().batch(*arguments, **named)


def poured(raw, pieces, pause=0.0):
    """Sends pieces until the other side has ended it."""
    with suppress(OSError):  # reset, or closed by a client of good manners
        for piece in pieces:
            raw.sendall(piece)
            time.sleep(pause)
        pytest.fail("nobody ended it")


def vanished(plain):
    """Ends a connection as a process that is killed does."""
    plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.socket.close()


def test_what_a_client_held_is_free_once_its_connection_ends_even_while_the_network_computes(tmp_path):
    policy = Gated()
    config = ServeConfig(port=0, batch=BatchConfig(size=1), record=tmp_path / "REC")
    with serving(policy, config) as server:
        clients = [connect(address(server), compression=None).__enter__() for _ in range(3)]
        for one in clients:
            one.recv()
            one.send(encode(seen(1.0)))
        assert policy.begun.wait(PATIENCE)
        eventually(lambda: server._batcher.waiting == 2)
        held = [weakref.ref(robot) for robot in server._robots.values()]
        with told_when_all_have_left(server) as gone:
            for one in clients:
                vanished(one)
            assert gone.wait(PATIENCE)
        assert not policy.go_on.is_set()  # nobody waited for the network
        assert server._batcher.waiting == 0
        policy.go_on.set()
        with Client(address(server)) as client:
            assert client(seen(7.0)).actions[0, 0] == 7.0
        eventually(lambda: gc.collect() is not None and not any(one() for one in held))
        assert policy.batches == [1, 1]  # what waited was never computed
        eventually(lambda: server._recorder.written == 1)  # an answer that nobody got is no record


@pytest.mark.parametrize("ping", [0.1, None])
def test_a_peer_that_vanished_without_a_word_is_let_go_by_its_pings(ping):
    with serving(Echo(), ServeConfig(port=0, ping=ping)) as server, looping() as run:
        proxy = Proxy(server.port)
        run(proxy.start())
        with told_when_all_have_left(server) as gone, connect(f"ws://127.0.0.1:{proxy.port}") as plain:
            plain.recv()
            run(proxy.silence())
            assert gone.wait(PATIENCE if ping else 0.5) is (ping is not None)
            run(proxy.resume())
        run(proxy.stop())


def frame(payload, opcode=2, fin=True, length=None):
    """A masked frame, as a client sends it; `length` announces more than there is."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | opcode])
    head += bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + struct.pack(">H", size)
    return head + bytes(4) + payload


DRIPS = {
    "a frame by bytes": [frame(b"\x80" * 40, length=60_000)] + [b"\0"] * 10_000,
    "a message by frames": [frame(b"\x81", fin=False)] + [frame(b"\0", 0, fin=False)] * 10_000,
    "a head and nothing more for long": [frame(b"", length=60_000)[:3]] + [b"\x81"] * 3 + [b"\0"] * 10_000,
}


@pytest.mark.parametrize("drops", DRIPS.values(), ids=DRIPS)
def test_a_message_that_drips_in_ends_its_connection_and_no_other(drops):
    config = ServeConfig(port=0, message_timeout=0.2)
    with serving(Echo(), config) as server, connect(address(server), compression=None) as slow:
        slow.recv()
        with Client(address(server)) as other, told_when_all_have_left(server):
            poured(slow.socket, drops, pause=0.01)
            assert other(seen(3.0)).actions[0, 0] == 3.0
        with pytest.raises(ConnectionClosed, match=r"longer than 0\.2 s"):
            slow.recv(10)
        assert counted(server, "slow_sender") == 1


def test_a_message_and_a_ping_in_pieces_that_come_in_time_are_whole():
    config = ServeConfig(port=0, message_timeout=0.5)
    with serving(Echo(), config) as server, connect(address(server), compression=None) as plain:
        plain.recv()
        message = encode(seen(1.0))
        half = len(message) // 2
        pieces = [frame(message[:half], fin=False), frame(b"hello", 9), frame(message[half:], 0)]
        for piece in pieces:
            for part in (piece[:5], piece[5:]):
                plain.socket.sendall(part)
                time.sleep(0.05)
        assert isinstance(plain.recv(10), bytes)
        time.sleep(0.6)  # nothing is under way now: longer than a message may take is no fault
        plain.send(message)
        assert isinstance(plain.recv(10), bytes)
        assert counted(server, "slow_sender") == 0


@contextmanager
def not_reading(server):
    """A connection whose answers stay where they are, through buffers that hold little."""
    for one in server._listening.sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.port))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    raw.sendall(
        f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b"101" in raw.recv(1024)
    yield raw
    raw.close()


def test_a_client_that_asks_and_does_not_read_is_let_go_and_delays_nobody():
    under_way, most = [0], [0]
    with serving(Echo(), ServeConfig(port=0, send_timeout=0.3)) as server:
        answer = server._answer

        async def watched(*arguments):
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            try:
                await answer(*arguments)
            finally:
                under_way[0] -= 1

        server._answer = watched
        with not_reading(server) as raw, Client(address(server)) as other:
            thread = threading.Thread(target=poured, args=(raw, repeat(frame(encode(seen(1.0))))))
            thread.start()
            while counted(server, "slow_reader") == 0:
                assert other(seen(2.0)).actions[0, 0] == 2.0
            thread.join(PATIENCE)
            assert not thread.is_alive()
            eventually(lambda: len(server._robots) == 1)
        assert most[0] <= 9


def test_a_flood_of_pings_whose_answers_nobody_reads_is_ended(monkeypatch):
    monkeypatch.setattr(bounded, "_UNREAD", 100_000)
    with serving(Echo()) as server, not_reading(server) as raw:
        poured(raw, repeat(frame(b"x" * 125, 9) * 50))
        eventually(lambda: not server._robots)
        assert counted(server, "slow_reader") == 1


def test_a_crowd_that_says_nothing_is_bounded_and_a_robot_is_answered_all_the_while(monkeypatch):
    monkeypatch.setattr(bounded, "_SPARE", 4)
    config = ServeConfig(port=0, connections=2, message_timeout=0.5)
    with serving(Echo(), config) as server, Client(address(server)) as robot:
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
        eventually(lambda: counted(server, "connections") == 25)
        assert robot(seen(1.0)).actions[0, 0] == 1.0
        for one in crowd:  # those that found room knocked for too long
            one.settimeout(PATIENCE)
            with suppress(ConnectionResetError):
                assert one.recv(1) == b""
            one.close()
        with Client(address(server)) as late:
            assert late(seen(2.0)).actions[0, 0] == 2.0


def test_of_robots_that_come_at_once_no_more_get_in_than_were_allowed():
    async def come(uri):
        clients = [AsyncClient(uri) for _ in range(12)]
        came = await asyncio.gather(*(one.connect() for one in clients), return_exceptions=True)
        in_now = len([one for one in came if one is None])
        codes = {one.code for one in came if isinstance(one, ServerError)}
        await asyncio.gather(*(one.close() for one in clients))
        return in_now, codes

    with serving(Echo(), ServeConfig(port=0, connections=3)) as server:
        assert asyncio.run(come(address(server))) == (3, {"busy"})


def test_a_server_ends_though_somebody_knocks_and_says_nothing():
    with serving(Echo(), ServeConfig(port=0, message_timeout=600.0)) as server:
        silent = socket.create_connection(("127.0.0.1", server.port))
        eventually(lambda: len(server._bounds.open) == 1)
    silent.close()


def test_times_that_can_not_be_kept_are_refused():
    for name in ("message_timeout", "send_timeout", "ping"):
        with pytest.raises(InputError, match=name):
            ServeConfig(**{name: 0.0})
