"""Zenoh's side of LeRobot's protocol: keys, queries, publications and presence, bound to the server's loop.

Zenoh calls back from threads of its own. A call measures a message, hands it to the loop and returns; what is
more than the loop may have in hand is dropped, as the protocol's congestion control does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from pioxide.errors import InputError, PioxideError
from pioxide.serve.lerobot.offer import ZenohConfig
from pioxide.serve.lerobot.sessions import Host, Session, Sessions
from pioxide.serve.lerobot.values import (
    LIMITS,
    Envelope,
    ErrorCode,
    MessageType,
    Refused,
    decode,
    encode,
)

log = logging.getLogger("pioxide.serve")

_IN_HAND = 32
_SUBSCRIBED = 5.0
Handler = Callable[[Envelope], Awaitable[Envelope]]


class _Came(NamedTuple):
    """A message that came, who answers it, and how its sender is answered, or is not."""

    message: bytes
    handler: Handler
    reply: Callable[[bytes], None]
    drop: Callable[[], None]


class Door:
    """Lets LeRobot's clients in while it is open.

    Attributes:
        sessions: Who is in.
        prefix: The deployment's key.
    """

    def __init__(self, server: Host, config: ZenohConfig) -> None:
        """Prepares; `start` opens it.

        Raises:
            InputError: The policy can't be described to LeRobot's clients, or eclipse-zenoh is missing.
        """
        try:
            import zenoh
        except ImportError as error:
            raise InputError('zenoh: pip install "pioxide[zenoh]" (eclipse-zenoh is missing)') from error
        self._zenoh: Any = zenoh
        self._config = config
        self.sessions = Sessions(server, config)
        self.prefix = f"lerobot/inference/v1/deployments/{config.deployment}"
        self._instance = f"{self.prefix}/instances/{self.sessions.instance}"
        self._network: Any = None
        self._declared: list[Any] = []
        self._of_session: dict[str, list[Any]] = {}
        self._room = threading.BoundedSemaphore(_IN_HAND)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens.

        Raises:
            InputError: Zenoh's configuration can't be read, or its address is taken.
        """
        self._loop = asyncio.get_running_loop()
        self._network = await asyncio.to_thread(self._opened)
        self._queryable(f"{self.prefix}/describe", self._describe, self._declared)
        self._queryable(f"{self._instance}/open", self._open, self._declared)
        self._declared.append(self._network.liveliness().declare_token(f"{self._instance}/alive"))
        self._watch = asyncio.create_task(self._expire())
        log.info("zenoh listening=%s deployment=%s", self._config.listen, self._config.deployment)

    async def stop(self) -> None:
        """Closes it, and every session."""
        if self._watch is not None:
            self._watch.cancel()
        for task in list(self._tasks):
            task.cancel()
        for name in list(self._of_session):
            if (session := self.sessions.get(name)) is not None:
                self.sessions.close(session)
        if self._network is not None:
            await asyncio.to_thread(self._network.close)

    def _opened(self) -> Any:
        config, zenoh = self._config, self._zenoh
        try:
            chosen = zenoh.Config() if config.file is None else zenoh.Config.from_file(str(config.file))
            for key, value in {
                "mode": "peer",
                "listen/endpoints": [config.listen],
                "scouting/multicast/enabled": False,
                "scouting/gossip/enabled": False,
                "transport/shared_memory/enabled": False,
            }.items():
                chosen.insert_json5(key, json.dumps(value))
            return zenoh.open(chosen)
        except zenoh.ZError as error:
            raise InputError(f"zenoh can't listen on {config.listen}: {error}") from error

    def _queryable(self, key: str, handler: Handler, kept: list[Any]) -> None:
        def asked(query: Any) -> None:
            payload = query.payload
            if payload is None or not self._fits(payload):
                query.drop()
                return
            message = payload.to_bytes()

            def reply(answer: bytes) -> None:
                query.reply(str(query.key_expr), answer)
                query.drop()

            self._hand_over(_Came(message, handler, reply, query.drop))

        callback = self._zenoh.handlers.Callback(asked, indirect=False)
        kept.append(self._network.declare_queryable(key, callback, complete=True))

    def _subscribe(self, key: str, handler: Handler, answers: str, kept: list[Any]) -> None:
        def came(sample: Any) -> None:
            if self._fits(sample.payload):
                message = sample.payload.to_bytes()
                self._hand_over(
                    _Came(message, handler, lambda answer: self._publish(answers, answer), lambda: None)
                )

        callback = self._zenoh.handlers.Callback(came, indirect=False)
        kept.append(self._network.declare_subscriber(key, callback))

    def _fits(self, payload: Any) -> bool:
        return len(payload) <= LIMITS.message_bytes and self._room.acquire(blocking=False)

    def _hand_over(self, came: _Came) -> None:
        """Leaves a message to the loop; called from Zenoh's threads."""

        def begin() -> None:
            task = self._loop.create_task(self._answer(came))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:  # the loop has ended
            self._room.release()
            came.drop()

    async def _answer(self, came: _Came) -> None:
        asked: Envelope | None = None
        try:
            asked = decode(came.message)
            answer = await came.handler(asked)
        except asyncio.CancelledError:
            came.drop()
            raise
        except Refused as error:
            log.info("refused over zenoh code=%s reason=%s", error.code, error)
            if asked is None:
                # What can't be read names nobody to answer.
                came.drop()
                return
            answer = asked.error(error.code, str(error))
        except Exception:
            log.exception("a request over zenoh failed")
            if asked is None:
                came.drop()
                return
            answer = asked.error(ErrorCode.EXECUTION, "the server failed; its log says why")
        finally:
            self._room.release()
        try:
            came.reply(encode(answer))
        except self._zenoh.ZError as error:
            log.warning("an answer over zenoh was not sent: %s", error)
        except PioxideError:
            log.exception("an answer can't be written")
            came.drop()

    async def _describe(self, asked: Envelope) -> Envelope:
        _expect(asked, MessageType.DESCRIBE)
        return self.sessions.describe(asked)

    async def _open(self, asked: Envelope) -> Envelope:
        _expect(asked, MessageType.OPEN)
        accepted = self.sessions.open(asked)
        session = self.sessions.get(accepted.session)
        if session is not None and session.id not in self._of_session:
            # Its client asks there as soon as it is told.
            self._install(session)
        return accepted

    async def _control(self, asked: Envelope) -> Envelope:
        _expect(asked, MessageType.CONTROL)
        acknowledged = self.sessions.control(asked)
        operation = acknowledged.body["operation"]
        if operation == "close":
            # Not before the answer is sent: it goes by a key that is withdrawn.
            self._loop.call_later(0.5, self._withdraw, asked.session)
        elif operation == "reset" and asked.generation == 0:
            # A publication reaches only who has subscribed already.
            await asyncio.to_thread(self._subscribed, asked.session)
        return acknowledged

    async def _observe(self, asked: Envelope) -> Envelope:
        _expect(asked, MessageType.OBSERVATION)
        return await self.sessions.observe(asked)

    async def _language(self, asked: Envelope) -> Envelope:
        _expect(asked, MessageType.LANGUAGE_REQUEST)
        return self.sessions.language(asked)

    def _install(self, session: Session) -> None:
        key, kept = f"{self._instance}/sessions/{session.id}", list[Any]()
        self._queryable(f"{key}/control", self._control, kept)
        self._subscribe(f"{key}/obs", self._observe, f"{key}/act", kept)
        self._subscribe(f"{key}/language/request", self._language, f"{key}/language/result", kept)

        def changed(sample: Any) -> None:
            alive = sample.kind == self._zenoh.SampleKind.PUT
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(lambda: self.sessions.seen(session, alive=alive))

        callback = self._zenoh.handlers.Callback(changed, indirect=False)
        liveliness = self._network.liveliness()
        kept.append(liveliness.declare_subscriber(f"{key}/alive", callback, history=True))
        self._of_session[session.id] = kept

    def _withdraw(self, name: str) -> None:
        for one in self._of_session.pop(name, []):
            with contextlib.suppress(self._zenoh.ZError):
                one.undeclare()

    def _publish(self, key: str, message: bytes) -> None:
        self._network.put(key, message, congestion_control=self._zenoh.CongestionControl.DROP)

    def _subscribed(self, name: str) -> None:
        """Waits until a session's client listens for answers."""
        until = time.monotonic() + _SUBSCRIBED
        for what in ("act", "language/result"):
            with self._network.declare_publisher(f"{self._instance}/sessions/{name}/{what}") as publisher:
                while not publisher.matching_status.matching and time.monotonic() < until:
                    time.sleep(0.005)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._config.absence / 4))
            for session in self.sessions.expired():
                log.info("zenoh session=%s closed: its client has gone", session.id)
                self._withdraw(session.id)


def _expect(asked: Envelope, kind: MessageType) -> None:
    if asked.kind is not kind:
        raise Refused(ErrorCode.MALFORMED, f"message_type: this key takes {kind}, and got {asked.kind}")
