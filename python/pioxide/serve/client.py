"""Asks a policy server from Python: NumPy and websockets only, no JAX.

`RemoteWorker(client)` takes the place of `ThreadWorker(policy.chunk)`, so a loop moves to a server by one
line; `AsyncClient` is for programs on asyncio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.protocol import State

from pioxide.control import Request, Showing, ThreadWorker
from pioxide.errors import InputError, ServerError, WireError
from pioxide.serve.batcher import refusal
from pioxide.serve.conversation import ANSWER, ClientConfig, Conversation, Question, RemoteAnswer
from pioxide.serve.messages import Ask

Result = TypeVar("Result")

_AGAIN = 0.05  # seconds between attempts to reach a server that has gone
_GOODBYE = 1.0  # seconds that a server has to agree to an end


class AsyncClient(Conversation):
    """One robot's connection to a server, pioxide's or openpi's, for programs on asyncio.

    One call at a time is under way; others wait for it. A call that is cancelled ends its connection, and the
    next call makes another. See `Conversation` for its attributes.
    """

    def __init__(
        self,
        uri: str,
        *,
        key: str | None = None,
        config: ClientConfig | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepares; `async with`, `connect` or the first call connects.

        Args:
            uri: "ws://127.0.0.1:8000", or "wss://..." with TLS.
            key: One of the server's keys.
            config: See `ClientConfig`.
            tls: For a certificate that the system does not know.

        Raises:
            InputError: TLS was given for an address without.
        """
        super().__init__(uri, config)
        self._line = _Line(self, key, tls)

    async def connect(self) -> None:
        """Connects, where it is not yet; `metadata` is there afterwards.

        Raises:
            ServerError: Nobody answers there, or the server lets nobody in ("refused", "busy").
            WireError: No policy server speaks there.
        """
        await self._line.open()

    async def __call__(
        self,
        observation: Mapping[str, Any],
        *,
        prev_chunk_left_over: NDArray[np.floating] | None = None,
        inference_delay: int = 0,
        taken: float | None = None,
        at: float | None = None,
    ) -> RemoteAnswer:
        """Asks for the actions of one moment; see `Client.__call__`."""
        if not self.metadata:
            await self.connect()
        asked = (observation, prev_chunk_left_over, inference_delay, taken, at)
        if self.config.jpeg_quality is None:
            return await self._line.ask(self.question(*asked))
        # Compression takes milliseconds, which the caller's loop has other uses for.
        return await self._line.ask(await asyncio.to_thread(self.question, *asked))

    async def observe(self, observation: Mapping[str, Any], *, at: float | None = None) -> None:
        """Shows a policy with memory what the robot sees between two requests; see `Client.observe`."""
        if not self.metadata:
            await self.connect()
        frame = self.frame(observation, at)
        if frame is not None:
            # Compression takes milliseconds, which the caller's loop has other uses for.
            await self._line.show(await asyncio.to_thread(self.written_frame, frame))

    async def chunk(self, request: Request) -> NDArray[np.float64]:
        """Returns the actions [H, D] that answer a runner's request."""
        self.limits = request.limits or self.limits
        answer = await self(
            request.observation,
            prev_chunk_left_over=request.prev_chunk_left_over,
            inference_delay=request.inference_delay,
            at=request.at,
        )
        return answer.actions

    async def close(self) -> None:
        """Ends the connection."""
        await self._line.close()

    async def __aenter__(self) -> AsyncClient:
        """Connects, and returns the client; leaving the block closes it."""
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """See `close`."""
        await self.close()


class Client(Conversation):
    """One robot's connection to a server, pioxide's or openpi's. One call at a time; any thread may make it.

    See `Conversation` for its attributes.
    """

    def __init__(
        self,
        uri: str,
        *,
        key: str | None = None,
        config: ClientConfig | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connects.

        Args:
            uri: "ws://127.0.0.1:8000", or "wss://..." with TLS.
            key: One of the server's keys.
            config: See `ClientConfig`.
            tls: For a certificate that the system does not know.

        Raises:
            ServerError: Nobody answers there, or the server lets nobody in ("refused", "busy").
            WireError: No policy server speaks there.
            InputError: TLS was given for an address without.
        """
        super().__init__(uri, config)
        self._line, self._beside = _Line(self, key, tls), _LoopThread()
        try:
            self._beside.run(self._line.open())
        except BaseException:
            self._beside.close()
            raise

    def __call__(
        self,
        observation: Mapping[str, Any],
        *,
        prev_chunk_left_over: NDArray[np.floating] | None = None,
        inference_delay: int = 0,
        taken: float | None = None,
        at: float | None = None,
    ) -> RemoteAnswer:
        """Asks for the actions of one moment; see `Policy.__call__`.

        Args:
            observation: Under the robot's keys.
            prev_chunk_left_over: [n, D] what is still to be played, in the robot's units; a server that does
                not continue chunks is not told.
            inference_delay: How many of these will be played before the answer is there.
            taken: When the observation was taken, by `time.monotonic()`; now by default.
            at: The same on any one clock, by which a policy with memory finds the frames before it; by
                default `taken`.

        Raises:
            ServerError: The server refused (its `code` says why), failed, went away, or did not answer in
                time.
            InputError: The observation holds what no message can.
            WireError: The answer is not of the protocol.
        """
        question = self.question(observation, prev_chunk_left_over, inference_delay, taken, at)
        return self._beside.run(self._line.ask(question))

    def observe(self, observation: Mapping[str, Any], *, at: float | None = None) -> None:
        """Shows a policy with memory what the robot sees between two requests; others are sent nothing.

        A policy that sees the frame of a second ago needs one to be there, within a tenth of its stride.
        `RemoteWorker` sees to it for a `Runner`.

        Args:
            observation: As for a request, of which the images are sent.
            at: When it was taken, see `__call__`.

        Raises:
            ServerError: The server went away, or takes nothing in time.
            InputError: The observation holds what no message can.
        """
        if (frame := self.frame(observation, at)) is not None:
            self._show(frame)

    def showing(self) -> Showing | None:
        """Returns how a worker shows the server's policy what comes between requests; None without memory."""
        if self.stride is None:
            return None

        def take(observation: Mapping[str, Any], at: float) -> Callable[[], None]:
            frame = self.frame(observation, at)  # of this episode, should the next begin meanwhile
            return lambda: None if frame is None else self._show(frame)

        return Showing(take, self.stride)

    def _show(self, frame: Ask) -> None:
        self._beside.run(self._line.show(self.written_frame(frame)))

    def chunk(self, request: Request) -> NDArray[np.float64]:
        """Returns the actions [H, D] that answer a runner's request: see `RemoteWorker`."""
        self.limits = request.limits or self.limits
        return self(
            request.observation,
            prev_chunk_left_over=request.prev_chunk_left_over,
            inference_delay=request.inference_delay,
            at=request.at,
        ).actions

    def close(self) -> None:
        """Ends the connection; a call under way in another thread fails ("closed")."""
        self._beside.close(self._line.close())

    def __enter__(self) -> Client:
        """Returns the client; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()


class RemoteWorker(ThreadWorker):
    """Asks a server beside a loop: a `Runner`'s worker, in the place of `policy.worker()`.

    It shows a policy with memory the frames that it needs.
    """

    def __init__(self, client: Client) -> None:
        """Starts its thread; `close` ends it.

        Args:
            client: Its own from now on: a runner's episode begins one of the client's, and `close` closes it.
        """
        super().__init__(client.chunk, client.reset, client.showing())
        self._client = client

    def close(self) -> None:
        """Ends the thread and the connection; an answer under way is not waited for."""
        with self._changed:
            self._closed = True
        self._client.close()
        super().close()


class _Line:
    """A connection that is made when it is needed, and never used again once it is in doubt."""

    def __init__(self, robot: Conversation, key: str | None, tls: ssl.SSLContext | None) -> None:
        if tls is not None and not robot.uri.startswith("wss:"):
            raise InputError(f"tls: {robot.uri} is not secured by it; a server with TLS is at wss://...")
        self._robot = robot
        # True has the system's certificates.
        self._tls = tls or (True if robot.uri.startswith("wss:") else None)
        self._headers = {"Authorization": f"Api-Key {key}"} if key else {}
        self._connection: ClientConnection | None = None
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Connects, where it is not yet."""
        async with self._turn:
            await self._opened()

    async def ask(self, question: Question) -> RemoteAnswer:
        """Sends a request and returns its answer."""
        async with self._turn:
            begun = time.perf_counter()
            message = await self._exchanged(question)
            try:
                answer = self._robot.answer(question, message)
            except ServerError:  # the answer was one
                if isinstance(message, str):
                    self._drop()  # a server ends what it writes a sentence to
                raise
            except BaseException:
                self._drop()
                raise
            return answer._replace(round_trip=time.perf_counter() - begun)

    async def show(self, message: bytes) -> None:
        """Sends what is not answered."""
        async with self._turn:
            connection = await self._opened()
            try:
                async with asyncio.timeout(self._robot.config.timeout):
                    await connection.send(message)
            except TimeoutError as error:
                self._drop()
                raise refusal("timeout", f"{self._robot.uri}: it takes no frame") from error
            except ConnectionClosed as error:
                self._drop()
                raise _unreachable(self._robot.uri, error) from error
            except BaseException:
                self._drop()
                raise

    async def close(self) -> None:
        """Says goodbye."""
        connection, self._connection = self._connection, None
        self._turn = asyncio.Lock()  # a client may be used again, in another loop
        if connection is not None:
            await connection.close()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport.abort()

    async def _opened(self) -> ClientConnection:
        if self._connection is not None and self._connection.state is State.OPEN:
            return self._connection
        robot, self._connection = self._robot, None
        try:
            async with asyncio.timeout(robot.config.connect_timeout):
                self._connection = await connect(
                    robot.uri,
                    ssl=self._tls,
                    compression=None,
                    max_size=ANSWER.message_bytes,
                    additional_headers=self._headers,
                    open_timeout=None,  # the one above
                    close_timeout=_GOODBYE,
                    proxy=None,
                )
                first = await self._connection.recv()
            robot.greeted(first)
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
            self._drop()
            raise _unreachable(robot.uri, error) from error
        except BaseException:
            self._drop()
            raise
        return self._connection

    async def _exchanged(self, question: Question) -> bytes | str:
        """Sends a request and waits for the next message; goes on to a new connection while there is time."""
        until = time.monotonic() + self._robot.config.reconnect
        while True:
            try:
                return await self._sent(await self._opened(), question)
            except ServerError as error:
                if error.code not in ("closed", "busy") or time.monotonic() >= until:
                    raise
            await asyncio.sleep(_AGAIN)

    async def _sent(self, connection: ClientConnection, question: Question) -> bytes | str:
        robot = self._robot
        message = robot.written(question)
        try:
            await _refuse_unasked(connection, robot.uri)
            async with asyncio.timeout(robot.config.timeout):
                await connection.send(message)
                return await connection.recv()
        except TimeoutError as error:
            self._drop()
            raise refusal("timeout", f"{robot.uri}: no answer in {robot.config.timeout:g} s") from error
        except ConnectionClosed as error:
            self._drop()
            raise _unreachable(robot.uri, error) from error
        except BaseException:
            self._drop()
            raise


async def _refuse_unasked(connection: ClientConnection, uri: str) -> None:
    """Refuses a connection that brought more than was asked: its next message may answer the last question.

    pioxide's answers carry their request's number, openpi's do not.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await connection.recv()
            raise WireError(f"{uri}: a message that nobody asked for")


def _unreachable(uri: str, error: Exception) -> ServerError:
    """Returns the error that a connection which could not be made, or ended, stands for."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return refusal("busy", f"{uri}: it takes no more robots; ask again later")
        if status == HTTPStatus.UNAUTHORIZED:
            return refusal("refused", f"{uri}: it asks for a key, or for another one")
        return refusal("refused", f"{uri}: status {status}")
    if isinstance(error, ConnectionClosed):
        if error.rcvd is not None and error.rcvd.code == CloseCode.TRY_AGAIN_LATER:
            return refusal("busy", f"{uri}: {error.rcvd.reason}")
        return refusal("closed", f"{uri}: the server has gone: {error}")
    return refusal("closed", f"{uri}: no policy server answers: {error or 'time-out'}")


class _LoopThread:
    """An event loop in a thread of its own, which is there from the first `run` until `close`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Waits for a coroutine that runs there; an interrupt of the caller cancels it."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="pioxide-client", daemon=True
                )
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise refusal("closed", "the client was closed") from error
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Cancels what is under way, runs a last coroutine, and ends the thread."""
        with self._starting:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            if last is not None:
                last.close()
            return
        asyncio.run_coroutine_threadsafe(_ended(last), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _ended(last: Coroutine[Any, Any, None] | None) -> None:
    if last is not None:
        await last
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for one in rest:
        one.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
