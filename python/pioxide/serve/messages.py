"""What a robot asks and what it is answered: openpi's messages, and what pioxide's own clients add to them.

A plain openpi client sends an observation and gets `actions`, `policy_timing` and `server_timing`. Ours adds
one key, `pioxide`, to both, and is told by the first message that the server knows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import PioxideError, ServerError, WireError
from pioxide.serve.wire import Dialect, WireLimits, decode, encode, is_natural

if TYPE_CHECKING:
    from pioxide.policy import Continuation, Policy, Prediction

PROTOCOL = 1
KEY = "pioxide"
# What a server's first message promises: another policy may answer later only if none of it changes.
PROMISED = ("robot", "hz", "horizon", "play_steps", "continues", "memory", "observation", "answer")
_MOST = 1 << 53
_SENTENCE = 1000  # characters


class Ask(NamedTuple):
    """One request.

    Attributes:
        observation: Under the robot's keys.
        dialect: How its arrays were written; the answer's are written so too.
        extended: Whether the sender knows more than openpi's protocol.
        request: The sender's number of it, told back.
        generation: The sender's number of its episode: a newer one begins it, so that nothing of the last
            answer is used; an older one than seen before is refused.
        seed: Where the noise of a new episode begins; None lets it go on.
        prev_chunk_left_over: [n, D] actions still to be played, in the robot's units; None for none.
        inference_delay: How many of these will be played before the answer is there.
        deadline: Seconds after arrival from which an answer is of no use; None for never.
        age: Seconds between the observation and its sending.
        limits: How often the robot's safety filter changed an action, by kind.
        left: How many actions it still has to play, whether or not it says which; None where it does not say.
        at: When the observation was taken, in seconds on a clock of the sender's; None where it does not say.
        began: When the episode's first frame was taken, on that clock.
        frame: Whether it asks for nothing: what the robot sees, its images alone, for a policy with memory.
            It is not answered.
    """

    observation: Mapping[str, Any]
    dialect: Dialect
    extended: bool = False
    request: int = 0
    generation: int = 0
    seed: int | None = None
    prev_chunk_left_over: NDArray[np.float64] | None = None
    inference_delay: int = 0
    deadline: float | None = None
    age: float = 0.0
    limits: Mapping[str, int] = {}
    left: int | None = None
    at: float | None = None
    began: float | None = None
    frame: bool = False


class ServerTiming(NamedTuple):
    """Seconds of one request in the server.

    Attributes:
        infer: Waiting for a batch, and the batch.
        waited: The first part of it.
        total_before: The connection's request before, from arrival to sending; None for the first.
    """

    infer: float
    waited: float
    total_before: float | None

    def milliseconds(self) -> dict[str, float]:
        """Returns them under openpi's names, and ours."""
        named = {"infer_ms": self.infer * 1e3, "waited_ms": self.waited * 1e3}
        return named if self.total_before is None else {**named, "prev_total_ms": self.total_before * 1e3}


def read_ask(message: bytes | str, limits: WireLimits) -> Ask:
    """Reads a request.

    Raises:
        WireError: It is text, or not as the protocol says.
    """
    if isinstance(message, str):
        raise WireError("a request is a binary MessagePack message, and this one was text")
    value, dialect = decode(message, limits)
    dialect = dialect or Dialect.OPENPI
    if not isinstance(value, dict):
        raise WireError(f"a request is a map of observations, and this one is {_kind(value)}")
    added = value.pop(KEY, None)
    if added is None:
        return Ask(value, dialect)
    if not isinstance(added, dict):
        raise WireError(f"{KEY}: expected a map, got {_kind(added)}")
    known = {
        "request",
        "generation",
        "seed",
        "left_over",
        "inference_delay",
        "deadline_ms",
        "age_ms",
        "limits",
        "left",
        "at",
        "began",
        "frame",
    }
    if unknown := sorted(set(added) - known):
        raise WireError(f"{KEY}: {unknown[0]!r} is not known; it has {', '.join(sorted(known))}")
    deadline = _number(added, "deadline_ms", None)
    return Ask(
        value,
        dialect,
        extended=True,
        request=_natural(added, "request"),
        generation=_natural(added, "generation"),
        seed=_natural(added, "seed") if "seed" in added else None,
        prev_chunk_left_over=_left_over(added.get("left_over")),
        inference_delay=_natural(added, "inference_delay"),
        deadline=None if deadline is None else deadline / 1e3,
        age=(_number(added, "age_ms", 0.0) or 0.0) / 1e3,
        limits=_counts(added.get("limits", {})),
        left=_natural(added, "left") if "left" in added else None,
        at=_moment(added, "at"),
        began=_moment(added, "began"),
        frame=_flag(added, "frame"),
    )


def continuation(ask: Ask, policy: Policy) -> Continuation | None:
    """Returns what a request leaves to play, for a policy that continues chunks; None for others."""
    from pioxide.policy import Continuation

    if ask.prev_chunk_left_over is None or not policy.continues:
        return None
    return Continuation(ask.prev_chunk_left_over, ask.inference_delay)


def write_ask(ask: Ask) -> bytes:
    """Writes a request, in openpi's dialect."""
    if not ask.extended:
        return encode(dict(ask.observation), ask.dialect)
    added: dict[str, Any] = {
        "request": ask.request,
        "generation": ask.generation,
        "inference_delay": ask.inference_delay,
        "age_ms": ask.age * 1e3,
    }
    if ask.seed is not None:
        added["seed"] = ask.seed
    if ask.prev_chunk_left_over is not None and ask.prev_chunk_left_over.size:
        added["left_over"] = np.ascontiguousarray(ask.prev_chunk_left_over, np.float64)
    if ask.left is not None:
        added["left"] = ask.left
    if ask.at is not None:
        added["at"] = ask.at
    if ask.began is not None:
        added["began"] = ask.began
    if ask.frame:
        added["frame"] = True
    if ask.limits:
        added["limits"] = dict(ask.limits)
    if ask.deadline is not None:
        added["deadline_ms"] = ask.deadline * 1e3
    return encode({**ask.observation, KEY: added}, ask.dialect)


def write_answer(
    ask: Ask, prediction: Prediction, timing: ServerTiming, *, age: float, policy: int = 1
) -> bytes:
    """Writes an answer in the dialect of its request.

    Args:
        ask: The request.
        prediction: What the policy said.
        timing: Of this request.
        age: Seconds of the observation when the answer is sent.
        policy: The policy's place among those that have answered at this server, from 1.
    """
    answer: dict[str, Any] = {
        "actions": np.ascontiguousarray(prediction.actions),
        "policy_timing": prediction.timing.milliseconds(),
        "server_timing": timing.milliseconds(),
    }
    if ask.extended:
        answer[KEY] = {
            "request": ask.request,
            "generation": ask.generation,
            "policy": policy,
            "observation_age_ms": age * 1e3,
            "truncated": prediction.truncated,
            "missing": prediction.missing,
            "out_of_range": list(prediction.out_of_range),
        }
        if prediction.memory_frames is not None:
            answer[KEY]["memory_frames"] = prediction.memory_frames
        if prediction.subtask is not None:
            answer[KEY]["subtask"] = prediction.subtask.text
            if prediction.subtask.unreadable:
                answer[KEY]["subtask_unreadable"] = prediction.subtask.unreadable
    return encode(answer, ask.dialect)


def write_error(ask: Ask | None, error: Exception) -> str | bytes:
    """Writes a refusal: one sentence of text, as openpi's clients expect, or a map for ours.

    What is no error of ours is not told to a client.
    """
    said = sentence(error) if isinstance(error, PioxideError) else "the server failed; its log says why"
    if ask is None or not ask.extended:
        return said
    code = error.code if isinstance(error, ServerError) else error_code(error)
    told = {"code": code, "message": said}
    return encode({KEY: {"request": ask.request, "generation": ask.generation, "error": told}}, ask.dialect)


def sentence(error: Exception) -> str:
    """Returns an error in one line of bounded length: it may quote what a sender wrote."""
    said = " ".join(str(error).split())
    return said if len(said) <= _SENTENCE else f"{said[:_SENTENCE]} ..."


def error_code(error: Exception) -> str:
    """Returns the kind of an error: "invalid" where the request was at fault, else "failed"."""
    return "invalid" if isinstance(error, ValueError) and isinstance(error, PioxideError) else "failed"


def _left_over(value: Any) -> NDArray[np.float64] | None:
    if value is None:
        return None
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "fiu":
        raise WireError(f"{KEY}.left_over: expected actions [n, D], got {_kind(value)}")
    return value.astype(np.float64)


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > 16:
        raise WireError(f"{KEY}.limits: expected at most 16 counts by kind, got {_kind(value)}")
    return {str(kind)[:40]: _natural(value, kind) for kind in value}


def _natural(added: Mapping[str, Any], name: str) -> int:
    value = added.get(name, 0)
    if not is_natural(value, _MOST):
        raise WireError(f"{KEY}.{name}: expected a whole number from 0, got {value!r}")
    return value


def _number(added: Mapping[str, Any], name: str, default: float | None) -> float | None:
    value = added.get(name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
        raise WireError(f"{KEY}.{name}: expected milliseconds, got {value!r}")
    return float(value)


def _moment(added: Mapping[str, Any], name: str) -> float | None:
    value = added.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WireError(f"{KEY}.{name}: expected seconds, got {value!r}")
    return float(value)


def _flag(added: Mapping[str, Any], name: str) -> bool:
    value = added.get(name, False)
    if not isinstance(value, bool):
        raise WireError(f"{KEY}.{name}: expected true or false, got {value!r}")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return type(value).__name__
