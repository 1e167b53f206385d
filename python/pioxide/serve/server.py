"""One policy behind a WebSocket: many robots, one engine, openpi's protocol and ours on one address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from pioxide.contract import refuse_differences
from pioxide.control.rerun import Moment, RerunLog
from pioxide.errors import ContractError, InputError, PioxideError, ServerError, WireError
from pioxide.serve.batcher import Batcher, refusal
from pioxide.serve.bounded import Bounds, bounded
from pioxide.serve.config import ServeConfig
from pioxide.serve.describe import metadata
from pioxide.serve.http import respond
from pioxide.serve.jobs import Answered, Job, Serving, answer_all
from pioxide.serve.messages import (
    KEY,
    PROMISED,
    Ask,
    ServerTiming,
    error_code,
    read_ask,
    sentence,
    write_answer,
    write_ask,
    write_error,
)
from pioxide.serve.metrics import Metrics
from pioxide.serve.record import Entry, Recorder
from pioxide.serve.status import Watched, figures, left_to_play
from pioxide.serve.wire import encode

if TYPE_CHECKING:
    from pioxide.policy import Policy, Session
    from pioxide.serve.lerobot.door import Door

log = logging.getLogger("pioxide.serve")

# Answers of one robot that may be under way: one computed, one that waits, and refusals of those overtaken.
_UNDER_WAY = 8
# Seconds that a peer has to agree to an end.
_GOODBYE = 1.0


@dataclass
class Robot:
    """One robot's state: of a connection, or of a session by another protocol."""

    session: Session
    watched: Watched
    number: int
    generation: int = 0
    total_before: float | None = None
    unshown: Exception | None = None
    showing: set[asyncio.Future[None]] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Server:
    """Serves a policy until it is stopped.

    The event loop never waits for the network: health, metrics and other robots are answered meanwhile.

    Attributes:
        config: What was chosen.
        metrics: What was counted.
        keys: Whom it lets in.
        is_closing: Whether it lets nobody in any more.
    """

    def __init__(self, policy: Policy, config: ServeConfig | None = None) -> None:
        """Prepares; `start` listens.

        Args:
            policy: Warmed up for the batches of the config, see `batch_sizes`.
            config: See `ServeConfig`.

        Raises:
            InputError: The config would open the server to everybody without a word; or it lets LeRobot's
                clients in, which have no way of showing a policy with memory what it needs.
        """
        self.config = config or ServeConfig()
        if policy.remembers and self.config.zenoh is not None:
            raise InputError(
                "memory: this policy sees the past, and LeRobot's protocol has no message for a frame "
                "between two requests; serve it without --zenoh"
            )
        self.keys = self.config.keys()
        self._serving, self._seeds = Serving(policy, 1), 0
        self._robots: dict[Hashable, Robot] = {}
        self._batcher = Batcher[Job, Answered](self._compute, self.config.batch)
        self._recorder: Recorder | None = None
        self._rerun: RerunLog | None = None
        self.metrics = Metrics(
            waiting=lambda: self._batcher.waiting,
            connections=lambda: len(self._robots),
            compiled=lambda: len(self.policy.engine.shapes),
        )
        self._listening: WebSocketServer | None = None
        self._batching: asyncio.Task[None] | None = None
        self._door: Door | None = None
        self.is_closing = False
        self._bounds = Bounds(self.config.connections, self.config.message_timeout, self._bitten)
        self._logged = set[str]()

    @property
    def port(self) -> int:
        """Returns the port that it listens on."""
        assert self._listening is not None, "start first"
        return next(iter(self._listening.sockets)).getsockname()[1]

    @property
    def policy(self) -> Policy:
        """Returns what answers now."""
        return self._serving.policy

    def status(self) -> dict[str, Any]:
        """Returns what the page shows, as JSON values."""
        return figures(
            self.policy,
            [robot.watched for robot in self._robots.values()],
            number=self._serving.number,
            waiting=self._batcher.waiting,
            batches=self._batcher.batches,
        )

    def check(self, policy: Policy) -> None:
        """Refuses a policy that robots would have to be told of.

        Raises:
            ContractError: It expects other observations, or gives other actions, than what clients were told.
        """
        told, new = (metadata(one, self.config.limits)[KEY] for one in (self.policy, policy))
        if apart := [name for name in PROMISED if told[name] != new[name]]:
            said = "; ".join(f"{name} is {new[name]!r}, was {told[name]!r}" for name in apart)
            raise ContractError(
                f"the new policy is not what connected robots were told; start another server for it: {said}"
            )
        if policy.remembers:  # it goes on with the frames that the old one was shown
            only = ("memory", "cameras", "absent_camera", "image_size", "resize")
            refuse_differences(self.policy.contract, policy.contract, names=("the old", "the new"), only=only)

    def swap(self, policy: Policy) -> None:
        """Answers with another policy from the next request on; what was accepted before has the old one.

        Args:
            policy: Warmed up.

        Raises:
            ContractError: As `check`.
        """
        self.check(policy)
        self._serving = Serving(policy, self._serving.number + 1)
        # All robots at once, so that none that is silent holds the old policy's memory.
        for robot in list(self._robots.values()):
            history = robot.session.history
            robot.session = self._new_session()
            robot.session.history = history  # an episode's past is the robot's, whatever answers
        self.metrics.swapped(self._serving.number)
        log.info("policy swapped number=%d source=%s", self._serving.number, policy.contract.source)

    def _new_session(self) -> Session:
        """Returns a session whose noise no robot here has had."""
        self._seeds += 1
        return self.policy.new_session(self._seeds)

    async def start(self) -> None:
        """Listens.

        Raises:
            InputError: The address is taken or not this machine's, or a certificate can't be read.
        """
        config = self.config
        try:
            self._listening = await serve(
                self._connected,
                config.host,
                config.port,
                process_request=self._http,
                ssl=_tls(config),
                compression=None,
                # A browser sends an Origin; a page that a person looks at has no business with a robot.
                origins=[None],
                max_size=config.limits.message_bytes,
                max_queue=1,
                open_timeout=config.message_timeout,
                close_timeout=_GOODBYE,
                ping_interval=config.ping,
                ping_timeout=config.ping,
                create_connection=bounded(self._bounds),
                server_header=None,
            )
        except OSError as error:
            raise InputError(f"{config.host}:{config.port}: can't listen there: {error}") from error
        if config.record is not None:
            try:
                self._recorder = Recorder(config.record, self.policy, config.record_bytes)
            except BaseException:
                self._listening.close()
                raise
        if config.rerun is not None:
            robot = self.policy.robot
            joints = robot.joint_names or [f"action {d}" for d in range(robot.action_dim)]
            try:
                self._rerun = RerunLog(config.rerun, hz=robot.hz, joints=joints)
            except BaseException:
                await self.stop()
                raise
        self._batching = asyncio.create_task(self._batcher.run())
        if config.zenoh is not None:
            from pioxide.serve.lerobot.door import Door

            try:
                door = Door(self, config.zenoh)
                await door.start()
            except BaseException:
                await self.stop()
                raise
            self._door = door
        log.info("listening host=%s port=%d tls=%s", config.host, self.port, bool(config.tls_certificate))

    async def stop(self) -> None:
        """Lets nobody in any more, finishes the batch under way, tells every robot, and ends."""
        self.is_closing = True
        if self._listening is None:
            return
        self._listening.close(close_connections=False)
        if self._door is not None:
            await self._door.stop()
        pending = [task for robot in self._robots.values() for task in robot.tasks]
        if pending:
            await asyncio.wait(pending, timeout=self.config.send_timeout)
        if self._batching is not None:
            self._batching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._batching
        open_ones = [one for one in self._robots if isinstance(one, ServerConnection)]
        await asyncio.gather(*(one.close(CloseCode.GOING_AWAY, "the server closes") for one in open_ones))
        for one in tuple(self._bounds.open):  # whoever still knocks
            one.transport.abort()
        await self._listening.wait_closed()
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.close)
            log.info("recorded entries=%d left_out=%d", self._recorder.written, self._recorder.dropped)
        if self._rerun is not None:
            await asyncio.to_thread(self._rerun.close)
            log.info("shown in rerun left_out=%d", self._rerun.dropped)
        log.info("stopped")

    def _compute(self, jobs: Sequence[Job]) -> list[Answered | Exception]:
        """Answers a batch, in the inference thread."""
        self.metrics.batch.observe(len(jobs))
        return answer_all(jobs, with_states=self._recorder is not None)

    @property
    def has_room(self) -> bool:
        """Returns whether one more robot is taken."""
        return not self.is_closing and len(self._robots) < self.config.connections

    def join(self, owner: Hashable, name: str) -> Robot:
        """Takes a robot in, from whatever protocol; see `has_room`.

        Args:
            owner: What it is known by.
            name: What people read.
        """
        robot = Robot(self._new_session(), Watched(name), self._seeds)
        self._robots[owner] = robot
        self._batcher.owners = len(self._robots)
        log.info("robot joined robot=%s robots=%d", name, len(self._robots))
        return robot

    def leave(self, owner: Hashable) -> None:
        """Frees what a robot held, and drops what it still waits for."""
        robot = self._robots.pop(owner, None)
        self._batcher.owners = len(self._robots)
        self._batcher.forget(owner)
        if robot is None:
            return
        for task in robot.tasks:
            task.cancel()
        watched = robot.watched
        log.info(
            "robot left robot=%s answers=%d refused=%d seconds=%.0f",
            watched.name,
            watched.answers,
            sum(watched.refused.values()),
            time.time() - watched.since,
        )

    async def answer(self, owner: Hashable, robot: Robot, ask: Ask) -> tuple[Answered, float]:
        """Answers a robot of another protocol; returns the answer, and the seconds that it waited.

        Raises:
            ServerError: As `Batcher.ask`, or a generation that is over.
            InputError: The observation is not what the policy reads.
            PolicyError: The network gave no action chunk.
        """
        arrived = time.perf_counter()
        try:
            job = self._accepted(robot, ask)
            answered, waited = await self._batcher.ask(owner, job, ask.deadline)
        except Exception as error:
            self._refused(robot, error)
            raise
        robot.total_before = time.perf_counter() - arrived
        # A recording holds requests as our own clients write them.
        message = write_ask(ask._replace(extended=True)) if self._recorder is not None else b""
        self._count(robot, ask, answered, waited, ask.age + robot.total_before, message)
        return answered, waited

    async def _connected(self, connection: ServerConnection) -> None:
        if not self.has_room:  # many knocked at once
            await connection.close(CloseCode.TRY_AGAIN_LATER, "it takes no more robots; ask again later")
            return
        robot = self.join(connection, _name(connection))
        try:
            await self._send(connection, encode(metadata(self.policy, self.config.limits)))
            while True:
                message = await asyncio.wait_for(connection.recv(), self.config.idle)
                arrived = time.perf_counter()
                task = asyncio.create_task(self._answer(connection, robot, message, arrived))
                robot.tasks.add(task)
                task.add_done_callback(robot.tasks.discard)
                while len(robot.tasks) >= _UNDER_WAY:  # one that asks and does not read waits for itself
                    await asyncio.wait(robot.tasks, return_when=asyncio.FIRST_COMPLETED)
        except ConnectionClosed:
            pass
        except TimeoutError:
            await connection.close(CloseCode.GOING_AWAY, f"no request in {self.config.idle:g} s")
        finally:
            self.leave(connection)

    async def _answer(
        self, connection: ServerConnection, robot: Robot, message: bytes | str, arrived: float
    ) -> None:
        ask: Ask | None = None
        try:
            ask = read_ask(message, self.config.limits)
            if ask.frame:
                await self._shown(robot, ask, message)
                return
            job = self._accepted(robot, ask)
            if robot.showing:  # what came before it, it may have to see
                await asyncio.wait(robot.showing)
            unshown, robot.unshown = robot.unshown, None
            if unshown is not None:
                raise InputError(f"a frame that was shown before could not be taken: {unshown}") from unshown
            answered, waited = await self._batcher.ask(connection, job, ask.deadline)
            prediction = answered.prediction
            done = time.perf_counter()
            age = ask.age + done - arrived
            timing = ServerTiming(done - arrived, waited, robot.total_before)
            number = answered.serving.number
            await self._send(connection, write_answer(ask, prediction, timing, age=age, policy=number))
            robot.total_before = time.perf_counter() - arrived
            assert isinstance(message, bytes)  # text was refused
            self._count(robot, ask, answered, waited, age, message)
        except ConnectionClosed:
            return
        except Exception as error:  # the client hears one sentence, the log all of it
            self._refused(robot, error)
            if ask is not None and ask.frame:  # which is not answered: the next request is
                robot.unshown = error
                return
            await self._send(connection, write_error(ask, error))
            if isinstance(error, WireError) and ask is None:
                # What can't be read may be anything; the sender's next bytes are no better.
                await connection.close(CloseCode.POLICY_VIOLATION, "a message that is not of the protocol")

    def _count(
        self, robot: Robot, ask: Ask, answered: Answered, waited: float, age: float, message: bytes
    ) -> None:
        """Counts an answer, shows it, and records it with its request."""
        total = robot.total_before or 0.0
        self.metrics.answered(answered.prediction, waited, total, age)
        robot.watched.answered(ask, answered.prediction, total, age)
        if ask.limits:
            self.metrics.bitten(robot.watched.bitten(ask.limits))
        if self._rerun is not None:
            seen = {**ask.observation, **robot.watched.images}
            left, limits = left_to_play(ask), dict(robot.watched.limits)
            asked, actions = self._rerun.now() - age, answered.prediction.actions
            episode, name = ask.generation, robot.watched.name
            self._rerun.take(Moment(name, asked, seen, actions, left, limits, episode))
        if self._recorder is not None:
            _, session, rows, row, serving = answered
            entry = Entry(
                robot.number,
                ask.generation,
                time.time(),
                message,
                session,
                rows,
                row,
                answered.prediction.actions,
                serving.policy.contract.source,
            )
            self._recorder.take(entry)

    def _refused(self, robot: Robot, error: Exception) -> None:
        """Counts a refusal, and logs it."""
        code = error.code if isinstance(error, ServerError) else error_code(error)
        self.metrics.refused(code)
        first = code not in robot.watched.refused
        robot.watched.refuse(code)
        if isinstance(error, PioxideError):
            # A robot that goes on being refused must not fill a disk.
            level = logging.WARNING if first else logging.DEBUG
            log.log(level, "refused robot=%s code=%s reason=%s", robot.watched.name, code, sentence(error))
        else:
            log.exception("a request failed robot=%s", robot.watched.name, exc_info=error)

    def _bitten(self, bound: str, connection: ServerConnection) -> None:
        """Counts a connection that a bound ended, and logs the first of each."""
        level = logging.DEBUG if bound in self._logged else logging.WARNING
        self._logged.add(bound)
        self.metrics.refused(bound)
        log.log(level, "connection ended robot=%s bound=%s", _name(connection), bound)

    def _accepted(self, robot: Robot, ask: Ask) -> Job:
        """Reads and checks a request before it waits, so that nobody waits for what can't be answered.

        Raises:
            ServerError: It belongs to an episode that is over.
            InputError: The observation is not what the policy reads.
        """
        if self.is_closing:
            raise refusal("closed", "the server closes")
        if ask.generation < robot.generation:
            raise refusal(
                "stale",
                f"generation {ask.generation} is over: this connection has sent {robot.generation} already",
            )
        serving, began = self._serving, time.perf_counter()
        _check_moment(serving.policy, ask)
        frames = serving.policy.pipeline.read(ask.observation)
        reading = time.perf_counter() - began
        robot.watched.saw(frames.images[0], frames.prompts[0])
        self._follow(robot, ask)
        return Job(ask, robot.session, serving, frames, reading)

    def _follow(self, robot: Robot, ask: Ask) -> None:
        """Begins the episode that a message is of, where it is new, and tells its memory when that was."""
        policy = self.policy
        if ask.generation > robot.generation:
            robot.generation, robot.unshown = ask.generation, None
            if ask.seed is None:
                robot.session.forget()
            else:
                robot.session = policy.new_session(ask.seed)
        memory = policy.contract.memory
        if memory and ask.began is not None:
            # What this connection was not shown of the episode is missing, and not before its beginning.
            robot.session.remembering(memory).begin(ask.began)

    async def _shown(self, robot: Robot, ask: Ask, message: bytes | str) -> None:
        """Keeps a frame, which is not answered.

        Raises:
            InputError: The policy has no memory, or the frame is not what its robot sees.
        """
        policy = self.policy
        if self.is_closing or ask.generation < robot.generation:
            return  # of an episode that is over
        memory, at = policy.contract.memory, ask.at
        if not memory:
            raise InputError("this policy has no memory, and sees no frames between requests")
        _check_moment(policy, ask)
        assert at is not None, "checked above"
        self._follow(robot, ask)
        history = robot.session.remembering(memory)  # of this episode, should the next begin meanwhile

        def keep() -> None:
            history.add(policy.seen(ask.observation, at))

        # Beside the event loop: resizing takes milliseconds.
        kept = asyncio.ensure_future(asyncio.to_thread(keep))
        robot.showing.add(kept)
        kept.add_done_callback(robot.showing.discard)
        await kept
        if self._recorder is not None:
            assert isinstance(message, bytes)  # text was refused
            nothing = np.zeros((0, policy.robot.action_dim))
            source = policy.contract.source
            self._recorder.take(
                Entry(robot.number, ask.generation, time.time(), message, "", 0, 0, nothing, source)
            )

    async def _send(self, connection: ServerConnection, message: bytes | str) -> None:
        """Sends, and lets a client go that does not read."""
        try:
            await asyncio.wait_for(connection.send(message), self.config.send_timeout)
        except TimeoutError:
            self._bitten("slow_reader", connection)
            connection.transport.abort()
        except ConnectionClosed:
            pass

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        return respond(self, request)


def _check_moment(policy: Policy, ask: Ask) -> None:
    """Refuses a message that does not say when it is of, to a policy that finds the past by that.

    Raises:
        InputError: It does not.
    """
    if policy.remembers and (ask.at is None or ask.began is None):
        raise InputError(
            "memory: this policy sees the past, and this client does not show it: openpi's protocol has no "
            "message for a frame between two requests; ask with pioxide.serve.Client"
        )


def _name(connection: ServerConnection) -> str:
    """Returns where a connection comes from."""
    address = connection.remote_address
    return ":".join(map(str, address[:2])) if address else "a socket"


def batch_sizes(most: int) -> list[int]:
    """Returns the batches that a server with `BatchConfig(size=most)` asks a policy for, to be warmed up."""
    sizes = [1]
    while sizes[-1] < most:
        sizes.append(sizes[-1] * 2)
    return sizes


def _tls(config: ServeConfig) -> ssl.SSLContext | None:
    if config.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{config.tls_certificate}: no certificate with its key: {error}") from error
    return context
