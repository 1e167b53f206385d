"""A runner whose policy is behind a network: whatever comes by the wire, only good actions are played."""

import signal
import threading
import time

import numpy as np
import pytest

from pioxide.control import ActionQueue, Limits, OnEmpty, Runner, RunState, SafetyFilter
from pioxide.errors import InputError, ServerError, WireError
from pioxide.serve import Client, ClientConfig, RemoteWorker
from pioxide.serve.messages import KEY
from pioxide.serve.wire import encode
from support.network import Proxy, looping, process, scripted
from support.servers import DIM, HORIZON, Echo, seen, serving

BAD = 666.0
CONFIG = ClientConfig(timeout=5.0)


@pytest.fixture(scope="module")
def server():
    with scripted() as running:
        yield running


@pytest.fixture(scope="module")
def plain():
    with scripted(plain=True) as running:
        yield running


def chunk(ask, value=1.0, shape=(HORIZON, DIM), dtype=float, **told):
    """An answer of equal actions, as a good server gives it but for what is said."""
    answer = {"actions": np.full(shape, value, dtype), "policy_timing": {}, "server_timing": {}}
    if ask.extended:
        answer[KEY] = {"request": ask.request, "generation": ask.generation, **told}
    return encode(answer)


def running(port, config=CONFIG, **more):
    client = Client(f"ws://127.0.0.1:{port}", config=config)
    return Runner(RemoteWorker(client), ActionQueue(OnEmpty.HOLD), replan_below=0, **more)


def ticked(runner, until, observation=None, seconds=30.0):
    """Ticks until something holds; returns the actions that were played meanwhile."""
    played, end = [], time.monotonic() + seconds
    observation = observation or seen(1.0)
    while True:
        step = runner.step(observation)
        if step.action is not None:
            played.append(step.action)
        if until(step):
            return np.array(played)
        assert time.monotonic() < end, (runner.state, runner.last_error)
        time.sleep(0.002)


GARBAGE = {
    "another horizon": lambda ask: [chunk(ask, BAD, (HORIZON + 1, DIM))],
    "another width": lambda ask: [chunk(ask, BAD, (HORIZON, DIM + 1))],
    "no rows": lambda ask: [chunk(ask, BAD, (0, DIM))],
    "NaN": lambda ask: [chunk(ask, np.nan)],
    "whole numbers": lambda ask: [chunk(ask, BAD, dtype=int)],
    "a foreign generation": lambda ask: [chunk(ask, BAD, generation=ask.generation + 1)],
    "a stale request": lambda ask: [chunk(ask, BAD, request=ask.request - 1)],
    "an answer that nobody asked for": lambda ask: [chunk(ask, BAD, request=0), chunk(ask, BAD)],
    "no MessagePack": lambda ask: [b"\xc1" + chunk(ask, BAD)],
    "half an answer": lambda ask: [chunk(ask, BAD)[:-5]],
    "a sentence": lambda ask: ["the arm is on fire"],
    "a refusal": lambda ask: [
        encode({KEY: {"request": ask.request, "generation": 0, "error": {"code": "busy"}}})
    ],
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_robot_holds_while_garbage_comes_and_goes_on_when_it_ends(server, garbage):
    server.replies = lambda ask: [chunk(ask)]
    with running(server.port) as runner:
        ticked(runner, lambda _: runner.state is RunState.PLAYING)
        server.replies = garbage
        held = ticked(runner, lambda _: runner.errors >= 3)
        assert runner.state is RunState.STARVED
        assert isinstance(runner.last_error, ServerError | WireError)
        server.replies = lambda ask: [chunk(ask, 2.0)]
        played = ticked(runner, lambda step: step.action is not None and step.action[0] == 2.0)
        assert runner.state is RunState.PLAYING
    assert set(np.unique(np.concatenate([held, played]))) <= {1.0, 2.0}


def test_garbage_without_end_stops_the_robot_until_somebody_resets_it(server):
    server.replies = lambda ask: [chunk(ask)]
    with running(server.port, max_errors=3) as runner:
        ticked(runner, lambda _: runner.state is RunState.PLAYING)
        server.replies = GARBAGE["NaN"]
        with pytest.raises(WireError, match="not finite"):
            ticked(runner, lambda _: False)
        assert runner.state is RunState.FAULT
        server.replies = lambda ask: [chunk(ask, 2.0)]
        for _ in range(20):
            assert runner.step(seen(1.0)).action is None
        runner.reset()
        ticked(runner, lambda _: runner.state is RunState.PLAYING)


def test_two_answers_from_a_plain_server_are_not_taken_for_those_of_the_next_question(plain):
    plain.replies = lambda ask: [chunk(ask), chunk(ask, BAD)]
    with running(plain.port) as runner:
        played = ticked(runner, lambda _: runner.inferences >= 3)
        assert isinstance(runner.last_error, WireError)
        assert "nobody asked" in str(runner.last_error)
    assert set(np.unique(played)) == {1.0}


def test_a_plain_server_of_another_robot_never_moves_this_one(plain):
    plain.replies = lambda ask: [chunk(ask, BAD, (HORIZON, DIM + 1))]
    safety = SafetyFilter(Limits(low=-3.0, high=3.0), dim=DIM, hz=50)
    safety.reset(np.zeros(DIM))
    with running(plain.port, safety=safety) as runner:
        assert len(ticked(runner, lambda _: runner.errors >= 3)) == 0
        assert runner.state is RunState.WAITING
        assert isinstance(runner.last_error, InputError)


def test_an_answer_that_comes_too_late_is_never_played(server):
    go_on = threading.Event()

    def late(ask):
        go_on.wait(10)
        return [chunk(ask, BAD)]

    server.replies = lambda ask: [chunk(ask)]
    with running(server.port, ClientConfig(timeout=0.1, connect_timeout=10.0)) as runner:
        ticked(runner, lambda _: runner.state is RunState.PLAYING)
        server.replies = late
        ticked(runner, lambda _: runner.errors >= 1)
        assert isinstance(runner.last_error, ServerError)
        assert runner.last_error.code == "timeout"
        server.replies = lambda ask: [chunk(ask, 2.0)]
        go_on.set()
        played = ticked(runner, lambda _: runner.inferences >= 3)
    assert BAD not in played
    assert 2.0 in played


def test_an_episode_that_begins_while_an_answer_is_on_its_way_never_plays_it(server):
    asked, go_on = threading.Event(), threading.Event()

    def slow(ask):
        asked.set()
        go_on.wait(10)
        return [chunk(ask, BAD if ask.generation == 0 else 2.0)]

    server.replies = slow
    with running(server.port) as runner:
        runner.step(seen(1.0))
        assert asked.wait(10)
        runner.reset()
        go_on.set()
        played = ticked(runner, lambda _: runner.state is RunState.PLAYING)
        assert server.asked[-1].generation == 1
    assert set(np.unique(played)) == {2.0}


def test_robots_whose_server_is_killed_and_started_again_go_on_or_stay_stopped_as_they_were_told():
    with process() as (killed, port):
        caller = Client(f"ws://127.0.0.1:{port}", config=ClientConfig(reconnect=60.0))
        patient = running(port, max_errors=1_000_000)
        strict = running(port, max_errors=1_000_000, starvation_grace=20)
        for runner in (patient, strict):
            ticked(runner, lambda _, runner=runner: runner.state is RunState.PLAYING)
        killed.send_signal(signal.SIGKILL)
        killed.wait(30)
    held = ticked(patient, lambda _: patient.state is RunState.STARVED and patient.errors >= 2)
    assert held.max() <= 1.0 + 0.01 * HORIZON
    ticked(strict, lambda _: strict.state is RunState.FAULT)
    assert isinstance(strict.last_error, ServerError)
    assert strict.last_error.code == "closed"
    answers: list[float] = []
    call = threading.Thread(target=lambda: answers.append(caller(seen(3.0)).actions[0, 0]))
    call.start()  # it waits for the server as long as it was given the time
    with process(port):
        call.join(60)
        assert answers == [3.0]
        played = ticked(patient, lambda step: step.action is not None and step.action[0] == 5.0, seen(5.0))
        assert patient.state is RunState.PLAYING
        assert not ((played > 2.0) & (played < 5.0)).any()
        assert strict.step(seen(5.0)).action is None
        strict.reset()
        ticked(strict, lambda _: strict.state is RunState.PLAYING)
        patient.close()
        strict.close()
        caller.close()


def test_a_network_that_falls_silent_starves_a_robot_and_does_not_hold_its_worker():
    config = ClientConfig(timeout=0.2, connect_timeout=0.2)
    picture = np.zeros((2000, 2000, 3), np.uint8)  # more than a silent network takes in
    with serving(Echo()) as server, looping() as run:
        proxy = Proxy(server.port)
        run(proxy.start())
        with running(proxy.port, config, max_errors=1_000_000) as runner:
            ticked(runner, lambda _: runner.state is RunState.PLAYING)
            run(proxy.silence())
            large = {**seen(2.0), "image": picture}
            held = ticked(runner, lambda _: runner.errors >= 2, large)
            assert runner.state is RunState.STARVED
            assert held.max() < 1.5
            run(proxy.resume())
            ticked(runner, lambda step: step.action is not None and step.action[0] == 2.0, seen(2.0))
            assert runner.state is RunState.PLAYING
        run(proxy.stop())


def test_a_worker_that_is_closed_does_not_wait_for_a_silent_network(server):
    server.replies = lambda ask: []
    asked = len(server.asked)
    before = set(threading.enumerate())
    runner = running(server.port, ClientConfig(timeout=600.0))
    runner.step(seen(1.0))
    while len(server.asked) == asked:
        time.sleep(0.002)
    runner.close()
    assert not [one for one in set(threading.enumerate()) - before if one.name.startswith("pioxide")]
