"""A policy server that answers as a test says, a network that falls silent, and a server in a process."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pioxide.serve import WireLimits
from pioxide.serve.describe import metadata
from pioxide.serve.messages import Ask, read_ask
from pioxide.serve.wire import encode
from support.servers import Echo


@contextmanager
def looping() -> Iterator[Callable[[Awaitable], Any]]:
    """A function that runs a coroutine in an event loop beside the test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)  # type: ignore[arg-type]
    finally:
        asyncio.run_coroutine_threadsafe(_cancelled(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


async def _cancelled() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for one in rest:
        one.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class Scripted:
    """What a server answers, changed by a test as it goes.

    Attributes:
        replies: Returns the messages that a request is answered with; none leaves it waiting.
        asked: Requests that came.
        plain: Whether it speaks openpi's protocol alone.
    """

    def __init__(self, *, plain: bool = False) -> None:
        self.replies: Callable[[Ask], list[bytes | str]] = lambda ask: []
        self.asked: list[Ask] = []
        self.plain = plain
        self.port = 0

    async def handle(self, connection: ServerConnection) -> None:
        """Serves one connection."""
        try:
            await connection.send(encode({} if self.plain else metadata(Echo(), WireLimits())))  # type: ignore[arg-type]
            async for message in connection:
                ask = read_ask(message, WireLimits())
                self.asked.append(ask)
                for reply in self.replies(ask):
                    await connection.send(reply)
        except ConnectionClosed:
            pass


@contextmanager
def scripted(*, plain: bool = False) -> Iterator[Scripted]:
    """A server that answers as it is told."""
    server = Scripted(plain=plain)
    with looping() as run:

        async def start() -> Server:
            return await serve(server.handle, "127.0.0.1", 0, compression=None, close_timeout=0.1)

        async def stop(listening: Server) -> None:
            listening.close()
            await listening.wait_closed()

        listening = run(start())
        server.port = next(iter(listening.sockets)).getsockname()[1]
        yield server
        run(stop(listening))


class Proxy:
    """A network between a client and a server, which can fall silent: no byte passes, and nothing ends.

    Attributes:
        port: Where a client connects.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream, self.port = upstream, 0
        self._loud = asyncio.Event()
        self._loud.set()
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens."""
        self._listening = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Takes nobody in any more."""
        assert self._listening is not None
        self._listening.close()

    async def silence(self) -> None:
        """Passes nothing on from now on."""
        self._loud.clear()

    async def resume(self) -> None:
        """Passes everything on again."""
        self._loud.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._loud.wait()
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer), return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 14):
                await self._loud.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@contextmanager
def process(port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server with `Echo` in a process of its own, and its port; killed at the end."""
    command = [sys.executable, "-m", "support.serve_echo", str(port)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    try:
        assert started.stdout is not None
        yield started, int(started.stdout.readline())
    finally:
        started.kill()
        started.wait(30)
        started.stdout.close()  # type: ignore[union-attr]
