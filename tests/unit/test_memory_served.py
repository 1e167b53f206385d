"""A policy with memory behind a server answers as in the robot's own process, or says why it can't."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from pioxide.contract import Memory
from pioxide.control import ActionQueue, OnEmpty, Request, Runner, Showing, ThreadWorker
from pioxide.errors import ContractError, InputError, ServerError
from pioxide.serve import AsyncClient, Client, ServeConfig
from pioxide.serve.lerobot.offer import ZenohConfig
from pioxide.serve.messages import Ask, write_ask
from pioxide.serve.record import Recording
from pioxide.serve.replay import compare
from pioxide.serve.server import Server
from pioxide.serve.wire import Dialect
from support.loading import make_pictured
from support.remembering import observation, small
from support.servers import serving

SEED = 7
PERIOD = 0.05  # seconds of a tick


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_pictured(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def policy(world):
    return small(world)


def uri(server):
    return f"ws://127.0.0.1:{server.port}"


def played(robot, ticks=range(24)):
    """What a robot is answered that asks each fifth tick, and shows the others."""
    answers = []
    for tick in ticks:
        seen, at = observation(tick), 100 + tick * PERIOD
        if tick % 5:
            robot.observe(seen, at=at)
        else:
            answers.append(robot(seen, at=at))
    return answers


class Local:
    """A policy in the robot's own process, asked as a client is."""

    def __init__(self, policy):
        self.policy, self.session = policy, policy.new_session(SEED)

    def __call__(self, seen, *, at):
        return self.policy(seen, session=self.session, at=at)

    def observe(self, seen, *, at):
        self.policy.observe(seen, [self.session], at=[at])


def test_served_answers_are_the_local_ones_and_are_replayed(policy, tmp_path):
    local = played(Local(policy))
    with (
        serving(policy, ServeConfig(port=0, record=tmp_path / "REC")) as server,
        Client(uri(server)) as robot,
    ):
        assert robot.metadata["pioxide"]["memory"] == {"frames": 3, "stride": 0.5}
        for _ in range(2):  # the next episode sees nothing of the one before
            robot.reset(SEED)
            remote = played(robot)
            for one, other in zip(remote, local, strict=True):
                np.testing.assert_array_equal(one.actions, other.actions)
            seen = [one.memory_frames for one in remote]
            assert seen == [one.memory_frames for one in local] == [1, 1, 2, 2, 3]
    recording = Recording(tmp_path / "REC")
    assert len(list(recording.entries())) == 10
    found = compare(recording, policy)
    assert (found.answers, found.same) == (10, 10)
    with pytest.raises(ContractError, match="memory"):
        compare(recording, retold(policy, replace(policy.contract, memory=Memory(3, 1.0, 2))))


def retold(policy, contract):
    """A policy that says another contract of itself."""
    other = object.__new__(type(policy))
    other.__dict__ = {**policy.__dict__, "contract": contract}
    return other


def test_a_program_on_asyncio_is_answered_alike(policy):
    local = played(Local(policy), range(11))

    async def remote(where):
        async with AsyncClient(where) as robot:
            robot.reset(SEED)
            answers = []
            for tick in range(11):
                seen, at = observation(tick), 100 + tick * PERIOD
                if tick % 5:
                    await robot.observe(seen, at=at)
                else:
                    answers.append(await robot(seen, at=at))
            return answers

    with serving(policy) as server:
        for one, other in zip(asyncio.run(remote(uri(server))), local, strict=True):
            np.testing.assert_array_equal(one.actions, other.actions)


def test_a_swap_keeps_what_robots_were_shown(world, policy):
    with serving(policy) as server, Client(uri(server)) as robot:
        robot.reset(SEED)
        assert played(robot, range(21))[-1].memory_frames == 3
        server.swap(policy)
        after = robot(observation(21), at=100 + 21 * PERIOD)
        assert (after.policy, after.memory_frames) == (2, 3)
        for memory in (Memory(3, 1.0, 2), Memory(3, 0.5, 4), None):
            with pytest.raises(ContractError, match="memory"):
                server.check(retold(policy, replace(policy.contract, memory=memory)))


def test_a_connection_that_was_not_shown_the_episode_refuses_instead_of_seeing_nothing(policy):
    with serving(policy) as server, Client(uri(server)) as robot:
        played(robot, range(16))
        robot._line._drop()
        with pytest.raises(ServerError, match=r"no frame of 1 s ago") as raised:
            robot(observation(20), at=101.0)
        assert raised.value.code == "invalid"
        robot.reset()  # an episode begins, and its first moments have no past
        assert robot(observation(21), at=101.05).memory_frames == 1


def test_who_shows_nothing_is_refused_and_told_so(policy):
    from websockets.sync.client import connect

    with serving(policy) as server:
        with connect(uri(server)) as plain:  # openpi's client
            plain.recv()
            plain.send(write_ask(Ask(observation(0), Dialect.OPENPI)))
            assert "memory: this policy sees the past, and this client does not show it" in plain.recv()
        with Client(uri(server)) as robot:
            robot.observe({}, at=1.0)
            with pytest.raises(ServerError, match="a frame that was shown before could not be taken"):
                robot(observation(0), at=1.05)
            assert robot(observation(1), at=1.1).memory_frames == 1
    with pytest.raises(InputError, match="LeRobot's protocol has no message for a frame"):
        Server(policy, ServeConfig(port=0, zenoh=ZenohConfig("arms")))


def test_a_runner_shows_what_the_policy_needs_and_no_more():
    """A worker is given every tick and shows so many that none is more than a tenth of a stride off."""
    for hz in (5, 10, 13, 20, 50):
        shown, asked = [], []

        def take(observation, at, shown=shown):
            return lambda: shown.append(at)

        def answer(request, asked=asked):
            asked.append(request.at)
            return np.zeros((4, 1))

        with Runner(
            ThreadWorker(answer, showing=Showing(take, 1.0)), ActionQueue(OnEmpty.HOLD), replan_below=2
        ) as runner:
            for tick in range(3 * hz):
                runner.step({}, at=tick / hz)
                while runner.worker._frames or runner.worker._request:
                    time.sleep(0.001)
        moments = sorted({*shown, *asked})
        assert np.diff(moments).max() <= 0.2 + 1e-9  # so the nearest is at most a tenth off
        assert len(shown) <= 3 * min(hz, 8)


def test_a_runner_feeds_a_policy_here_and_behind_a_server_by_itself(policy):
    def run(worker, ready):
        with Runner(worker, ActionQueue(OnEmpty.HOLD), replan_below=0) as runner:
            runner.reset()
            for tick in range(60):
                runner.step(observation(tick % 20), at=tick * PERIOD)
                while not ready(worker):
                    time.sleep(0.001)
            assert runner.last_error is None, runner.last_error
            return runner.inferences

    def ready(worker):
        return not worker._frames and (not worker._busy or worker._answer is not None)

    assert run(policy.worker(policy.new_session(SEED)), ready) > 5
    with serving(policy) as server:
        from pioxide.serve import RemoteWorker

        assert run(RemoteWorker(Client(uri(server))), ready) > 5


def test_a_frame_that_can_not_be_shown_is_the_next_answer():
    def take(observation, at):
        return lambda: (_ for _ in ()).throw(InputError("no such camera"))

    worker = ThreadWorker(lambda request: np.zeros((2, 1)), showing=Showing(take, 1.0))
    worker.observe({}, 0.0)
    worker.start(Request({}, np.zeros((0, 1)), 0, at=0.1), 0)
    while (answer := worker.collect()) is None:
        time.sleep(0.001)
    worker.close()
    assert str(answer.error) == "no such camera"
