"""Who may ask what, when: sessions of LeRobot's protocol in front of a server's batches.

Knows messages and no network: each method takes one message and returns its answer. LeRobot's own server has
one session and asks a policy for one robot at a time; here there are many, and they share batches with the
robots on WebSockets.
"""

from __future__ import annotations

import math
import time
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np

from pioxide.errors import InputError, PioxideError, ServerError
from pioxide.serve.lerobot.offer import ALIGNMENT, Mode, Offer, ZenohConfig
from pioxide.serve.lerobot.values import Envelope, ErrorCode, MessageType, Refused
from pioxide.serve.messages import Ask
from pioxide.serve.wire import Dialect, is_natural

if TYPE_CHECKING:
    from pioxide.policy import Policy, Prediction

_IDENTITY = ("artifact_identity", "observation_id", "capture_time", "task", "task_version")
_CURSORS = ("observation_cursor", "cursor")
_APPEND = {"chunk_merge": "append", "blend_steps": 0, "blend_weight": 0.5, "blend_components": []}
_REMEMBERED = 64
_MOST = 1 << 53
# What the batcher says, in the protocol's codes.
_CODES = {"busy": ErrorCode.BUSY, "late": ErrorCode.TIMEOUT, "stale": ErrorCode.STALE}
_CODES |= {"superseded": ErrorCode.STALE, "closed": ErrorCode.STALE}


class Answered(Protocol):
    """A server's answer."""

    @property
    def prediction(self) -> Prediction:
        """Returns what the policy said."""
        ...


class Host(Protocol):
    """What a session needs of the server that it is in front of: `pioxide.serve.server.Server`."""

    @property
    def policy(self) -> Policy:
        """Returns what answers now."""
        ...

    @property
    def has_room(self) -> bool:
        """Returns whether one more robot is taken."""
        ...

    def join(self, owner: Hashable, name: str) -> Any:
        """Takes a robot in, and returns its state."""
        ...

    def leave(self, owner: Hashable) -> None:
        """Frees what a robot held."""
        ...

    async def answer(self, owner: Hashable, robot: Any, ask: Ask) -> tuple[Answered, float]:
        """Answers a robot; returns the answer, and the seconds that it waited."""
        ...


@dataclass
class Session:
    """One robot's session.

    Attributes:
        id: Its name.
        mode: How its chunks follow one another.
        settings: How its client joins chunks.
        robot: Its place among the server's robots.
        generation: Its episode.
        asking: The request that is under way.
        sequence: The number of the last one.
        faulted: Why nothing is answered any more; "" while all is well.
        absent: Since when its client is not seen; None while it is.
    """

    id: str
    mode: Mode
    settings: dict[str, Any]
    robot: Any
    generation: int = 0
    asking: str | None = None
    sequence: int = -1
    faulted: str = ""
    absent: float | None = field(default_factory=time.monotonic)


class Sessions:
    """All sessions of one deployment.

    Attributes:
        instance: This run of the server.
    """

    def __init__(self, server: Host, config: ZenohConfig) -> None:
        """Describes the server's policy.

        Raises:
            InputError: It can't be described to LeRobot's clients.
        """
        self._server, self._config = server, config
        self.instance = uuid4().hex
        self._describe()
        self._sessions: dict[str, Session] = {}
        # A query may come twice: it is answered as the first time.
        self._answered: OrderedDict[tuple[str, str], Envelope] = OrderedDict()

    @property
    def offer(self) -> Offer:
        """Returns what is offered now; another policy may have taken the place of the one before."""
        if self._described() is not self._server.policy:
            self._describe()
        return self._offer

    def _describe(self) -> None:
        policy = self._server.policy
        self._offer = Offer(policy, self._config)
        # One that was replaced is not kept in memory for this.
        self._described = weakref.ref(policy)

    def get(self, name: str) -> Session | None:
        """Returns a session by its name."""
        return self._sessions.get(name)

    def descriptor(self) -> dict[str, Any]:
        """Returns what the deployment says of itself."""
        from pioxide import __version__

        room = self._server.has_room
        return {
            "deployment": self._config.deployment,
            "instance_id": self.instance,
            "artifact_identity": self.offer.artifact,
            "software": {"name": "pioxide", "version": __version__},
            "semantics": self.offer.semantics,
            "capabilities": self.offer.capabilities,
            "execution_contracts": [ALIGNMENT],
            "blendable_components": [],
            "ready": True,
            "available": room,
            "failure": None,
            "session_status": "idle" if room else "busy",
            "limits": self.offer.limits(self._config),
        }

    def describe(self, asked: Envelope) -> Envelope:
        """Says what is offered."""
        return Envelope(MessageType.DESCRIPTOR, self.instance, request=asked.request, body=self.descriptor())

    def open(self, asked: Envelope) -> Envelope:
        """Lets a robot in.

        Raises:
            Refused: It expects something else than is offered, or there is no room.
        """
        if before := self._answered.get(("", asked.request)):
            return before
        self._check_instance(asked)
        if not asked.request:
            raise Refused(ErrorCode.MALFORMED, "request_id: opening needs one")
        mode, settings = self.offer.refuse_other(asked.body), _settings(asked.body)
        if not self._server.has_room:
            raise Refused(ErrorCode.BUSY, "no more robots are taken")
        name = uuid4().hex
        robot = self._server.join(name, f"zenoh {name[:8]}")
        self._sessions[name] = Session(name, mode, settings, robot)
        body = {**self.descriptor(), "mode": str(mode), "chunk_settings": settings}
        accepted = Envelope(MessageType.ACCEPTED, self.instance, name, 0, asked.request, body)
        self._remember("", asked.request, accepted)
        return accepted

    def control(self, asked: Envelope) -> Envelope:
        """Begins an episode (reset, invalidate), ends the session (close), or says how it is (status).

        Raises:
            Refused: There is no such session or operation, or the generation is over.
        """
        if before := self._answered.get((asked.session, asked.request)):
            return before
        session, operation = self._session(asked), asked.body.get("operation")
        if operation not in ("reset", "invalidate", "close", "status"):
            raise Refused(ErrorCode.MALFORMED, "operation: expected reset, invalidate, close or status")
        if operation == "close":
            self.close(session)
            session.generation = asked.generation
        elif asked.generation < session.generation:
            raise Refused(
                ErrorCode.STALE, f"generation {asked.generation} is over: it is {session.generation}"
            )
        elif operation == "status" and asked.generation != session.generation:
            raise Refused(ErrorCode.STALE, f"generation {asked.generation} was never begun")
        elif operation != "status" and asked.generation > session.generation:
            # The policy's session forgets with the first observation of the new generation.
            session.generation, session.asking = asked.generation, None
        body: dict[str, Any] = {"operation": operation, "applied_generation": session.generation}
        if operation == "status":
            body["session"] = {"owner": session.id, "inference_pending": session.asking is not None}
        acknowledged = asked.reply(MessageType.ACK, body)
        self._remember(asked.session, asked.request, acknowledged)
        return acknowledged

    async def observe(self, asked: Envelope) -> Envelope:
        """Answers an observation with actions.

        Raises:
            Refused: It is not what was agreed on, or comes out of turn; or the policy failed.
        """
        session, began = self._session(asked), time.perf_counter()
        if session.faulted:
            raise Refused(ErrorCode.STALE, f"the session ended with a fault: {session.faulted}")
        if asked.generation != session.generation:
            raise Refused(ErrorCode.STALE, f"generation {asked.generation}: it is {session.generation}")
        if session.asking is not None:
            raise Refused(ErrorCode.BUSY, "an observation is under way")
        offer, body = self.offer, asked.body
        sequence = _checked(body, offer.artifact)
        if sequence <= session.sequence:
            raise Refused(ErrorCode.STALE, f"sequence {sequence}: {session.sequence} came already")
        keys = _IDENTITY
        if session.settings["chunk_merge"] == "aligned":
            keys = (*_IDENTITY, *_CURSORS)
            _check_cursors(body)
        ask = Ask(
            offer.observation(body.get("features"), body["task"]),
            Dialect.OPENPI,
            request=sequence,
            generation=asked.generation,
            deadline=self._config.deadline,
        )
        if session.mode is not Mode.CHUNK:
            ask = _continued(ask, body, offer)
        session.sequence, session.asking = sequence, asked.request
        try:
            answered, waited = await self._server.answer(session.id, session.robot, ask)
        except ServerError as error:
            code = _CODES.get(error.code, ErrorCode.EXECUTION)
            if code in (ErrorCode.TIMEOUT, ErrorCode.EXECUTION):
                session.faulted = str(error)
            raise Refused(code, str(error)) from error
        except InputError as error:
            raise Refused(ErrorCode.INCOMPATIBLE, str(error)) from error
        except Exception as error:
            said = str(error) if isinstance(error, PioxideError) else "the policy failed; the log says why"
            session.faulted = said
            raise Refused(ErrorCode.EXECUTION, said) from error
        finally:
            if session.asking == asked.request:
                session.asking = None
        if asked.generation != session.generation:
            raise Refused(ErrorCode.STALE, "a new generation began while this was answered")
        body = {key: body[key] for key in keys} | _actions(answered, session.mode, offer)
        body["server_durations"] = {"queue": waited, "worker": time.perf_counter() - began - waited}
        return asked.reply(MessageType.ACTION, body)

    def language(self, asked: Envelope) -> Envelope:
        """Refuses a question in words, which no policy here answers.

        Raises:
            Refused: Always.
        """
        self._session(asked)
        raise Refused(ErrorCode.UNSUPPORTED, "this deployment answers no questions in words")

    def seen(self, session: Session, *, alive: bool) -> None:
        """Notes whether a client is there."""
        session.absent = None if alive else session.absent or time.monotonic()

    def expired(self) -> list[Session]:
        """Closes the sessions whose clients have been gone for too long, and returns them."""
        now = time.monotonic()
        gone = [
            one
            for one in self._sessions.values()
            if one.absent is not None and now - one.absent > self._config.absence
        ]
        for session in gone:
            self.close(session)
        return gone

    def close(self, session: Session) -> None:
        """Ends a session; what it still waits for is dropped."""
        if self._sessions.pop(session.id, None) is not None:
            self._server.leave(session.id)

    def _check_instance(self, asked: Envelope) -> None:
        if asked.instance != self.instance:
            raise Refused(ErrorCode.STALE, "instance_id: this is another run of the server")

    def _session(self, asked: Envelope) -> Session:
        self._check_instance(asked)
        if (session := self._sessions.get(asked.session)) is None:
            raise Refused(ErrorCode.STALE, "session_id: there is no such session, or it is over")
        return session

    def _remember(self, session: str, request: str, answer: Envelope) -> None:
        self._answered[session, request] = answer
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)


def _settings(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how a client joins chunks: behind one another, or aligned by its cursors."""
    settings, required = body.get("chunk_settings", _APPEND), body.get("required_capabilities", [])
    if not isinstance(settings, dict) or set(settings) != set(_APPEND):
        raise Refused(ErrorCode.INCOMPATIBLE, f"chunk_settings: expected {', '.join(_APPEND)}")
    merge = settings["chunk_merge"]
    if merge not in ("append", "aligned"):
        raise Refused(ErrorCode.INCOMPATIBLE, "chunk_merge: expected append or aligned")
    if settings["blend_steps"] != 0 or settings["blend_components"] != []:
        raise Refused(ErrorCode.INCOMPATIBLE, "this deployment names no components that may be blended")
    if not isinstance(required, list) or not all(one == ALIGNMENT for one in required):
        raise Refused(ErrorCode.UNSUPPORTED, f"required_capabilities: only {ALIGNMENT} is known")
    if required != ([ALIGNMENT] if merge == "aligned" else []):
        raise Refused(ErrorCode.INCOMPATIBLE, "required_capabilities are not those of chunk_settings")
    if merge == "aligned" and body.get("mode") != Mode.CHUNK:
        raise Refused(ErrorCode.INCOMPATIBLE, "aligned chunks need the mode chunk")
    return settings


def _checked(body: Mapping[str, Any], artifact: str) -> int:
    """Checks who an observation says that it is; returns its number."""
    for name in ("sequence", "task_version"):
        if not is_natural(body.get(name), _MOST):
            raise Refused(ErrorCode.MALFORMED, f"{name}: expected a whole number from 0")
    if body.get("artifact_identity") != artifact:
        raise Refused(ErrorCode.INCOMPATIBLE, "artifact_identity: another checkpoint answers here")
    for name in ("task", "observation_id"):
        if not isinstance(body.get(name), str) or (name != "task" and not body[name]):
            raise Refused(ErrorCode.MALFORMED, f"{name}: expected a text")
    captured = body.get("capture_time")
    if isinstance(captured, bool) or not isinstance(captured, int | float) or not math.isfinite(captured):
        raise Refused(ErrorCode.MALFORMED, "capture_time: expected a number")
    return body["sequence"]


def _check_cursors(body: Mapping[str, Any]) -> None:
    if not all(is_natural(body.get(name), _MOST) for name in _CURSORS):
        raise Refused(ErrorCode.MALFORMED, "aligned chunks need observation_cursor and cursor")
    if body["cursor"] < body["observation_cursor"]:
        raise Refused(ErrorCode.MALFORMED, "cursor: it is before the observation's")


def _continued(ask: Ask, body: Mapping[str, Any], offer: Offer) -> Ask:
    """Adds what the client still plays; the model's numbers are the robot's here, and say nothing new."""
    delay = body.get("delay")
    if not is_natural(delay, offer.horizon + 1):
        raise Refused(ErrorCode.MALFORMED, f"delay: expected 0 to {offer.horizon} actions")
    model, left = (offer.left_over(body.get(f"{kind}_continuation")) for kind in ("model", "canonical"))
    if model is not None and (left is None or len(model) != len(left)):
        raise Refused(ErrorCode.MALFORMED, "the two continuations are not of the same steps")
    if left is None:
        return ask
    return ask._replace(prev_chunk_left_over=left, inference_delay=min(delay, len(left)))


def _actions(answered: Answered, mode: Mode, offer: Offer) -> dict[str, Any]:
    steps = offer.play if mode is Mode.CHUNK else offer.horizon
    actions = np.ascontiguousarray(answered.prediction.actions[:steps], np.float32)
    return {
        "canonical_actions": actions,
        "model_actions": None if mode is Mode.CHUNK else actions,
        "execution_steps": steps,
    }
