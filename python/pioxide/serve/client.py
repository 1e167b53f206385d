"""Asks a policy server from Python: NumPy and websockets only, no JAX.

`Client.chunk` takes the place of `Policy.chunk` in a `ThreadWorker`, so a loop moves to a server by one line.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from pioxide.control import Request
from pioxide.errors import InputError, ServerError, WireError
from pioxide.serve.batcher import refusal
from pioxide.serve.messages import KEY, PROTOCOL, Ask, write_ask
from pioxide.serve.wire import Dialect, WireLimits, decode, jpeg

# Answers are small; a server that sends more than this is not ours.
_ANSWER = WireLimits(message_bytes=64 << 20, items=100_000)


@dataclass(frozen=True)
class ClientConfig:
    """How a client asks.

    Attributes:
        timeout: Seconds after which an answer is given up, and the connection with it.
        connect_timeout: Seconds after which a connection is given up.
        reconnect: Seconds during which a lost connection is tried again before a call fails.
        deadline: Seconds after which the server need not begin; None for never.
        jpeg_quality: Send images as JPEG of this quality, 1 to 100; None sends them as they are.
    """

    timeout: float = 10.0
    connect_timeout: float = 5.0
    reconnect: float = 0.0
    deadline: float | None = None
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        """Refuses what can't work.

        Raises:
            InputError: A time is not above 0, or a quality not 1 to 100.
        """
        if not (self.timeout > 0 and self.connect_timeout > 0 and self.reconnect >= 0):
            raise InputError("timeout and connect_timeout must be above 0, reconnect 0 or more")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise InputError(f"jpeg_quality: expected 1 to 100, got {self.jpeg_quality}")


class RemoteAnswer(NamedTuple):
    """A server's answer.

    Attributes:
        actions: [H, D] float64 in the robot's units; row 0 belongs to the observation.
        policy_timing: Milliseconds by stage.
        server_timing: Milliseconds in the server.
        observation_age: Seconds of the observation when the answer was sent; 0 from a plain openpi server.
        truncated: Whether the prompt was cut.
        out_of_range: Numbers of the state outside its statistics, by dimension.
        missing: π0-FAST: coefficients that the answer lacked.
        round_trip: Seconds from asking to the answer.
    """

    actions: NDArray[np.float64]
    policy_timing: Mapping[str, float]
    server_timing: Mapping[str, float]
    observation_age: float = 0.0
    truncated: bool = False
    out_of_range: tuple[int, ...] = ()
    missing: int = 0
    round_trip: float = 0.0


class Client:
    """One robot's connection to a server, pioxide's or openpi's. One call at a time; any thread may make it.

    Attributes:
        uri: Where the server is.
        metadata: What it said of itself: see `pioxide.serve.describe.metadata`; openpi's servers say less.
        generation: The episode's number; `reset` begins the next.
        limits: How often this robot's safety filter changed an action, by kind: give it
            `SafetyFilter.counts`, and the server's page shows them.
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
            ServerError: Nobody answers there, or the server lets nobody in ("refused").
        """
        self.uri, self.metadata = uri, dict[str, Any]()
        self._config, self._tls = config or ClientConfig(), tls
        self._headers = {"Authorization": f"Api-Key {key}"} if key else {}
        self._connection: ClientConnection | None = None
        self._turn = threading.Lock()
        self._requests = self.generation = 0
        self._seed: int | None = None
        self.limits: Mapping[str, int] = {}
        self._shape: tuple[int, int] | None = None
        self._connect()

    @property
    def extended(self) -> bool:
        """Returns whether the server knows pioxide's part of the protocol."""
        return KEY in self.metadata

    def __call__(
        self,
        observation: Mapping[str, Any],
        *,
        prev_chunk_left_over: NDArray[np.floating] | None = None,
        inference_delay: int = 0,
        taken: float | None = None,
    ) -> RemoteAnswer:
        """Asks for the actions of one moment; see `Policy.__call__`.

        Args:
            observation: Under the robot's keys.
            prev_chunk_left_over: [n, D] what is still to be played, in the robot's units; a server that does
                not continue chunks is not told.
            inference_delay: How many of these will be played before the answer is there.
            taken: When the observation was taken, by `time.monotonic()`; now by default.

        Raises:
            ServerError: The server refused (its `code` says why), failed, went away, or did not answer in
                time.
            InputError: The observation holds what no message can.
            WireError: The answer is not of the protocol.
        """
        with self._turn:
            self._requests += 1
            ask = Ask(self._packed(observation), Dialect.OPENPI, self.extended, self._requests)
            if self.extended:
                left = prev_chunk_left_over if self.metadata[KEY].get("continues") else None
                ask = ask._replace(
                    generation=self.generation,
                    seed=self._seed,
                    prev_chunk_left_over=None if left is None else np.asarray(left, np.float64),
                    inference_delay=inference_delay,
                    deadline=self._config.deadline,
                    age=0.0 if taken is None else max(0.0, time.monotonic() - taken),
                    limits=dict(self.limits),
                )
            begun = time.perf_counter()
            answer = self._checked(ask, self._exchanged(write_ask(ask)))
            return answer._replace(round_trip=time.perf_counter() - begun)

    def chunk(self, request: Request) -> NDArray[np.float64]:
        """Answers a runner: `ThreadWorker(client.chunk)`."""
        return self(
            request.observation,
            prev_chunk_left_over=request.prev_chunk_left_over,
            inference_delay=request.inference_delay,
        ).actions

    def reset(self, seed: int | None = None) -> None:
        """Begins a new episode, without waiting: an answer under way is refused as stale when it comes.

        Args:
            seed: Where the episode's noise begins, so that it can be played again; by default the noise of
                the one before goes on. A plain openpi server is not told.

        Raises:
            InputError: The seed is no whole number from 0.
        """
        if seed is not None and not 0 <= seed < 1 << 53:
            raise InputError(f"seed: expected a whole number from 0, got {seed}")
        self.generation, self._seed = self.generation + 1, seed

    def close(self) -> None:
        """Ends the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Client:
        """Returns the client; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def _packed(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        quality = self._config.jpeg_quality
        if KEY in observation:
            raise InputError(f"an observation can't hold the key {KEY!r}, which is the protocol's")
        if quality is None or not self.extended:
            return dict(observation)
        return {key: _compressed(value, quality) for key, value in observation.items()}

    def _connect(self) -> None:
        try:
            # Entered by hand: the connection outlives this call, and `close` leaves it.
            self._connection = connect(
                self.uri,
                ssl=self._tls,
                compression=None,
                max_size=_ANSWER.message_bytes,
                additional_headers=self._headers,
                open_timeout=self._config.connect_timeout,
                proxy=None,
            ).__enter__()
            first = self._connection.recv(self._config.connect_timeout)
        except InvalidStatus as error:
            status = error.response.status_code
            why = {401: "it asks for a key, or for another one", 503: "it takes no more robots"}
            raise refusal("refused", f"{self.uri}: {why.get(status, f'status {status}')}") from error
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
            raise refusal("closed", f"{self.uri}: no policy server answers: {error or 'time-out'}") from error
        value = decode(first, _ANSWER).value if isinstance(first, bytes) else None
        if not isinstance(value, dict):
            self.close()
            raise WireError(f"{self.uri}: its first message is no map: no policy server speaks there")
        protocol = value[KEY].get("protocol") if KEY in value else PROTOCOL
        if protocol != PROTOCOL:
            self.close()
            raise WireError(f"{self.uri}: protocol {protocol!r}, and this client speaks {PROTOCOL}")
        if self.metadata and value != self.metadata:
            self.close()
            raise refusal(
                "changed",
                f"{self.uri}: another policy answers there than when this client was made; make a new one",
            )
        self.metadata = value
        if self.extended:
            horizon, dim = value[KEY]["answer"]["actions"]["shape"]
            self._shape = (int(horizon), int(dim))

    def _exchanged(self, message: bytes) -> bytes | str:
        """Sends a request and waits for its answer; a connection in doubt is never used again."""
        until = time.monotonic() + self._config.reconnect
        while True:
            try:
                if self._connection is None:
                    self._connect()
                assert self._connection is not None
                self._connection.send(message)
                return self._connection.recv(self._config.timeout)
            except TimeoutError as error:
                self.close()
                raise refusal("timeout", f"{self.uri}: no answer in {self._config.timeout:g} s") from error
            except (ConnectionClosed, ServerError) as error:
                self.close()
                final = isinstance(error, ServerError) and error.code != "closed"
                if final or time.monotonic() >= until:
                    if isinstance(error, ServerError):
                        raise
                    raise refusal("closed", f"{self.uri}: the server has gone: {error}") from error
                time.sleep(0.05)
            except BaseException:
                self.close()
                raise

    def _checked(self, ask: Ask, message: bytes | str) -> RemoteAnswer:
        if isinstance(message, str):
            raise refusal("failed", message)
        value = decode(message, _ANSWER).value
        if not isinstance(value, dict):
            raise WireError(f"{self.uri}: an answer that is no map")
        told = value.get(KEY) or {}
        if ask.extended and (told.get("request"), told.get("generation")) != (ask.request, ask.generation):
            self.close()
            raise WireError(
                f"{self.uri}: an answer to request {told.get('request')} of generation "
                f"{told.get('generation')}, where {ask.request} of {ask.generation} was asked"
            )
        if ask.extended and ask.generation != self.generation:
            raise refusal("stale", "a new episode began while this answer was on its way")
        if "error" in told:
            raise refusal(str(told["error"].get("code")), str(told["error"].get("message")))
        actions = value.get("actions")
        if not isinstance(actions, np.ndarray) or actions.ndim != 2 or actions.dtype.kind != "f":
            raise WireError(f"{self.uri}: an answer without actions [H, D]")
        if self._shape is not None and actions.shape != self._shape:
            raise WireError(f"{self.uri}: actions of {actions.shape}, and the server had said {self._shape}")
        return RemoteAnswer(
            actions.astype(np.float64),
            value.get("policy_timing") or {},
            value.get("server_timing") or {},
            float(told.get("observation_age_ms", 0.0)) / 1e3,
            bool(told.get("truncated", False)),
            tuple(told.get("out_of_range", ())),
            int(told.get("missing", 0)),
        )


def jpeg_error(image: NDArray[np.uint8], quality: int) -> float:
    """Returns how far JPEG of a quality moves an image's pixels: root mean square of 255; needs Pillow."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(jpeg(image, quality)["data"])) as opened:
        back = np.asarray(opened.convert("RGB"), np.float64)
    return float(np.sqrt(np.mean((back - image) ** 2)))


def _compressed(value: Any, quality: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _compressed(one, quality) for key, one in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3:
        return jpeg(value, quality)
    return value
