"""What a robot says to a policy server and what it is told, without a socket: both clients speak through it.

It numbers questions, remembers the episode, and judges every message that comes: what is not an answer to
the question that was asked is never handed on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError, WireError
from pioxide.robots.observation import flatten
from pioxide.serve.batcher import refusal
from pioxide.serve.messages import KEY, PROMISED, PROTOCOL, Ask, write_ask
from pioxide.serve.wire import Dialect, WireLimits, decode, is_natural, jpeg

# Answers are small; a server that sends more than this is not ours.
ANSWER = WireLimits(message_bytes=64 << 20, items=100_000)


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
        if self.deadline is not None and not self.deadline > 0:
            raise InputError(f"deadline: expected seconds above 0, got {self.deadline}")
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
        policy: Which of the policies that this server has had answered, from 1; each swap adds one. 0 where
            the server does not say.
        round_trip: Seconds from asking to the answer.
        subtask: By which π0.5 acts; None where the server asks for none.
        subtask_unreadable: Why what it wrote this time could not be used, so that the last subtask was kept;
            "" where nothing was wrong.
        memory_frames: Frames that a policy with memory saw, this observation's among them; None without one.
    """

    actions: NDArray[np.float64]
    policy_timing: Mapping[str, float]
    server_timing: Mapping[str, float]
    observation_age: float = 0.0
    truncated: bool = False
    out_of_range: tuple[int, ...] = ()
    missing: int = 0
    policy: int = 0
    round_trip: float = 0.0
    subtask: str | None = None
    subtask_unreadable: str = ""
    memory_frames: int | None = None


class Question(NamedTuple):
    """One request of this robot.

    Attributes:
        ask: What is sent, its age and deadline as of `asked`.
        asked: When it was asked, by `time.monotonic()`.
    """

    ask: Ask
    asked: float


class Conversation:
    """One robot's side of the protocol.

    Attributes:
        uri: Where the server is.
        config: See `ClientConfig`.
        metadata: What the server said of itself: see `pioxide.serve.describe.metadata`; openpi's servers say
            less. Empty before the first connection.
        generation: The episode's number; `reset` begins the next.
        limits: How often this robot's safety filter changed an action, by kind, for the server's page and
            metrics. A runner's requests bring it along; other loops give `SafetyFilter.counts`.
    """

    def __init__(self, uri: str, config: ClientConfig | None = None) -> None:
        """Has asked nothing yet.

        Args:
            uri: "ws://127.0.0.1:8000", or "wss://..." with TLS.
            config: See `ClientConfig`.
        """
        self.uri, self.config = uri, config or ClientConfig()
        self.metadata = dict[str, Any]()
        self.limits: Mapping[str, int] = {}
        self.generation = self._requests = self._policy = 0
        self._seed: int | None = None
        self._began: float | None = None
        self._shape: tuple[int, int] | None = None

    @property
    def extended(self) -> bool:
        """Returns whether the server knows pioxide's part of the protocol."""
        return KEY in self.metadata

    @property
    def stride(self) -> float | None:
        """Returns the seconds between frames that the server's policy sees; None without memory."""
        memory = self.metadata.get(KEY, {}).get("memory")
        return None if memory is None else float(memory["stride"])

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
        self.generation, self._seed, self._began = self.generation + 1, seed, None

    def greeted(self, message: bytes | str) -> None:
        """Takes a server's first message.

        Raises:
            ServerError: Another policy answers than the one of the first connection ("changed").
            WireError: No policy server speaks there, or one of another protocol.
        """
        value = decode(message, ANSWER).value if isinstance(message, bytes) else None
        if not isinstance(value, dict):
            raise WireError(f"{self.uri}: its first message is no map: no policy server speaks there")
        shape = None
        if KEY in value:
            told = _map(value, KEY, self.uri)
            if told.get("protocol") != PROTOCOL:
                raise WireError(
                    f"{self.uri}: protocol {told.get('protocol')!r}, and this client speaks {PROTOCOL}"
                )
            shape = _shape(told, self.uri)
        if self.metadata and _promises(value) != _promises(self.metadata):
            raise refusal(
                "changed",
                f"{self.uri}: another policy answers there than when this client was made; make a new one",
            )
        self.metadata, self._shape, self._policy = value, shape, 0

    def question(
        self,
        observation: Mapping[str, Any],
        prev_chunk_left_over: NDArray[np.floating] | None = None,
        inference_delay: int = 0,
        taken: float | None = None,
        at: float | None = None,
    ) -> Question:
        """Prepares a request: numbers it, and compresses its images if that was chosen; see `Client`.

        Raises:
            InputError: The observation holds what no message can.
        """
        now = time.monotonic()
        self._requests += 1
        told = self.metadata.get(KEY, {})
        left = prev_chunk_left_over if told.get("continues") else None
        ask = Ask(
            self._packed(observation),
            Dialect.OPENPI,
            extended=self.extended,
            request=self._requests,
            generation=self.generation,
            seed=self._seed,
            prev_chunk_left_over=None if left is None else np.asarray(left, np.float64),
            inference_delay=inference_delay,
            deadline=self.config.deadline,
            age=0.0 if taken is None else max(0.0, now - taken),
            limits=dict(self.limits),
            left=None if prev_chunk_left_over is None else len(prev_chunk_left_over),
        )
        return Question(self._timed(ask, at if at is not None else now if taken is None else taken), now)

    def frame(self, observation: Mapping[str, Any], at: float | None = None) -> Ask | None:
        """Prepares a frame of this episode, its images alone; None where the server's policy has no memory.

        Raises:
            InputError: The observation holds what no message can.
        """
        if self.stride is None:
            return None
        when = time.monotonic() if at is None else at
        shown = self._pictures(observation)
        ask = Ask(shown, Dialect.OPENPI, True, generation=self.generation, seed=self._seed, frame=True)
        return self._timed(ask, when)

    def written_frame(self, frame: Ask) -> bytes:
        """Returns a frame's message, its images compressed if that was chosen."""
        return write_ask(frame._replace(observation=self._packed(frame.observation)))

    def _timed(self, ask: Ask, at: float) -> Ask:
        """Returns what a server whose policy has memory is sent; others, maybe older ones, know no times."""
        if self.stride is None:
            return ask
        if self._began is None:
            self._began = at
        return ask._replace(at=at, began=self._began)

    def _pictures(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        known = self.metadata[KEY]["observation"]["properties"]
        return {key: value for key, value in flatten(observation).items() if "slot" in known.get(key, {})}

    def written(self, question: Question) -> bytes:
        """Returns a request's message, older by what has passed since it was asked.

        Raises:
            ServerError: Its deadline has passed ("late").
            InputError: The observation holds what no message can.
        """
        ask, passed = question.ask, time.monotonic() - question.asked
        deadline = None if ask.deadline is None else ask.deadline - passed
        if deadline is not None and deadline <= 0:
            raise refusal("late", "the deadline passed before the server could be asked")
        return write_ask(ask._replace(age=ask.age + passed, deadline=deadline))

    def answer(self, question: Question, message: bytes | str) -> RemoteAnswer:
        """Takes the message that came after a request.

        Raises:
            ServerError: The server refused or failed, in its own words; or an episode began meanwhile.
            WireError: It is no answer to this request: the connection it came by is not to be trusted.
        """
        ask = question.ask
        if isinstance(message, str):
            # pioxide's own servers write a sentence to pioxide's clients only where they could not read.
            raise refusal("invalid" if ask.extended else "failed", message)
        value = decode(message, ANSWER).value
        if not isinstance(value, dict):
            raise WireError(f"{self.uri}: an answer that is no map")
        told: Mapping[str, Any] = {}
        if ask.extended:
            told = _map(value, KEY, self.uri)
            if (told.get("request"), told.get("generation")) != (ask.request, ask.generation):
                raise WireError(
                    f"{self.uri}: an answer to request {told.get('request')} of generation "
                    f"{told.get('generation')}, where {ask.request} of {ask.generation} was asked"
                )
        if ask.generation != self.generation:
            raise refusal("stale", "a new episode began while this answer was on its way")
        if "error" in told:
            error = _map(told, "error", self.uri)
            raise refusal(str(error.get("code")), str(error.get("message")))
        policy = _count(told, "policy", self.uri)
        if policy < self._policy:
            raise refusal("stale", "an answer of a policy that another has replaced")
        self._policy = policy
        actions = value.get("actions")
        if not isinstance(actions, np.ndarray) or actions.ndim != 2 or actions.dtype.kind != "f":
            raise WireError(f"{self.uri}: an answer without actions [H, D]")
        if self._shape is not None and actions.shape != self._shape:
            raise WireError(f"{self.uri}: actions of {actions.shape}, and the server had said {self._shape}")
        return RemoteAnswer(
            actions.astype(np.float64),
            _map(value, "policy_timing", self.uri, default={}),
            _map(value, "server_timing", self.uri, default={}),
            _age(told, self.uri),
            told.get("truncated", False) is True,
            _dimensions(told, self.uri),
            _count(told, "missing", self.uri),
            policy,
            subtask=str(told["subtask"]) if "subtask" in told else None,
            subtask_unreadable=str(told.get("subtask_unreadable", "")),
            memory_frames=_count(told, "memory_frames", self.uri) if "memory_frames" in told else None,
        )

    def _packed(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        quality = self.config.jpeg_quality
        if KEY in observation:
            raise InputError(f"an observation can't hold the key {KEY!r}, which is the protocol's")
        if quality is None or not self.extended:
            return dict(observation)
        return {key: _compressed(value, quality) for key, value in observation.items()}


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


def _promises(metadata: Mapping[str, Any]) -> Any:
    """Returns what must not change under a robot; a plain openpi server promises nothing to compare."""
    return [metadata[KEY].get(name) for name in PROMISED] if KEY in metadata else None


def _shape(told: Mapping[str, Any], uri: str) -> tuple[int, int]:
    """Returns the shape of the actions that a server announces."""
    shape = _map(_map(told, "answer", uri), "actions", uri).get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(is_natural(n, 1 << 31) for n in shape):
        raise WireError(f"{uri}: its first message gives actions the shape {shape!r}: expected [H, D]")
    return shape[0], shape[1]


def _map(
    value: Mapping[str, Any], name: str, uri: str, default: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    found = value.get(name, default)
    if not isinstance(found, Mapping):
        raise WireError(f"{uri}: {name}: expected a map, got {type(found).__name__}")
    return found


def _age(told: Mapping[str, Any], uri: str) -> float:
    age = told.get("observation_age_ms", 0.0)
    if isinstance(age, bool) or not isinstance(age, int | float) or not age >= 0:
        raise WireError(f"{uri}: observation_age_ms: expected milliseconds, got {age!r}")
    return age / 1e3


def _count(told: Mapping[str, Any], name: str, uri: str) -> int:
    count = told.get(name, 0)
    if not is_natural(count, 1 << 53):
        raise WireError(f"{uri}: {name}: expected a whole number from 0, got {count!r}")
    return count


def _dimensions(told: Mapping[str, Any], uri: str) -> tuple[int, ...]:
    named = told.get("out_of_range", [])
    if not isinstance(named, list) or not all(is_natural(one, 1 << 31) for one in named):
        raise WireError(f"{uri}: out_of_range: expected numbers of dimensions, got {named!r}")
    return tuple(named)
