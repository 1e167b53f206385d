"""LeRobot's protocol 1 over a real Zenoh session on loopback: who is let in, and whose answer is whose."""

import socket
import time
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest

pytest.importorskip("zenoh")

from pioxide.errors import InputError
from pioxide.serve import BatchConfig, Client, ServeConfig
from pioxide.serve.lerobot import ZenohConfig
from pioxide.serve.lerobot.values import Envelope, MessageType, encode
from support.lerobot_client import Robot
from support.servers import DIM, HORIZON, Echo, seen, serving

STEPS = 0.01 * np.arange(HORIZON)[:, None]
NAME = "arms"


def door(**changes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = ZenohConfig(NAME, f"tcp/127.0.0.1:{port}", image=(8, 8), **changes)
    return ServeConfig(port=0, zenoh=said)


def met(server):
    return Robot(server.config.zenoh.listen, NAME)


def refused(answer):
    assert answer.kind is MessageType.ERROR, answer
    return answer.body["code"]


@pytest.fixture(scope="module")
def policy():
    made = Echo()
    made.seconds = 0.0
    return made


@pytest.fixture(scope="module")
def server(policy):
    with serving(policy, door()) as one:
        yield one


@pytest.fixture
def robot(server):
    with met(server) as one:
        yield one
        if one.session:
            one.control("close", 0)


def test_a_robot_finds_the_deployment_and_is_answered_with_its_own_chunk(robot):
    capabilities = robot.told["capabilities"]
    state, camera = capabilities["features"]
    assert (state["name"], state["names"]) == ("observation.state", ["lift.pos", "turn.pos", "grip.pos"])
    assert (camera["name"], camera["shape"], camera["kind"]) == ("observation.images.image", [8, 8, 3], "rgb")
    assert (capabilities["prediction_steps"], capabilities["action_interval"]) == (HORIZON, 0.02)
    assert robot.opened().kind is MessageType.ACCEPTED
    for value in (1.0, 2.5):
        body = robot.body(value)
        answer = robot.ask(body)
        assert answer.kind is MessageType.ACTION
        actions = answer.body["canonical_actions"]
        assert actions.dtype == np.float32
        assert np.array_equal(actions, (value + np.tile(STEPS, DIM)).astype(np.float32))
        assert answer.body["model_actions"] is None
        assert all(answer.body[key] == body[key] for key in ("observation_id", "capture_time", "task"))


def test_robots_of_both_protocols_share_batches_and_none_gets_anothers_answer(policy):
    policy.batches.clear()
    slow = door()
    with serving(policy, replace(slow, batch=BatchConfig(size=4, wait=2.0))) as server:
        uri = f"ws://127.0.0.1:{server.port}"
        with met(server) as one, met(server) as other, Client(uri) as plain:
            one.opened()
            other.opened()
            sent = [one.send(one.body(1.0)), other.send(other.body(2.0))]
            assert plain(seen(3.0)).actions[0, 0] == 3.0
            got = [r.received(asked).body for r, asked in zip((one, other), sent, strict=True)]
            assert [float(body["canonical_actions"][0, 0]) for body in got] == [1.0, 2.0]
    assert policy.batches == [3]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"semantics": "another arm's"}, "incompatible"),
        ({"action_interval": 0.1}, "incompatible"),
        ({"expected_artifact": "another"}, "incompatible"),
        ({"features": []}, "incompatible"),
        ({"mode": "rtc_guided"}, "unsupported"),
        ({"encoding": "png"}, "unsupported"),
        ({"required_capabilities": ["time_travel_v1"]}, "unsupported"),
        ({"required_capabilities": ["chunk_alignment_v1"]}, "incompatible"),
    ],
)
def test_a_client_that_expects_something_else_is_not_let_in(robot, changes, code):
    assert refused(robot.opened(**changes)) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"artifact_identity": "another"}, "incompatible"),
        ({"features": {}}, "incompatible"),
        ({"features": {"observation.state": np.zeros(DIM + 1, np.float32)}}, "incompatible"),
        ({"task": " "}, "incompatible"),
        ({"task": 7}, "malformed"),
        ({"sequence": -1}, "malformed"),
        ({"observation_id": ""}, "malformed"),
        ({"capture_time": "now"}, "malformed"),
    ],
)
def test_an_observation_that_is_not_what_was_agreed_on_is_refused_and_the_session_lives(robot, change, code):
    robot.opened()
    assert refused(robot.ask(robot.body(1.0, **change))) == code
    assert robot.ask(robot.body(2.0)).body["canonical_actions"][0, 0] == 2.0


def test_generations_and_sequences_that_are_over_are_stale(robot):
    robot.opened()
    assert robot.control("reset", 3).body == {"operation": "reset", "applied_generation": 3}
    assert refused(robot.ask(robot.body(1.0), generation=0)) == "stale"
    assert refused(robot.control("reset", 2)) == "stale"
    assert refused(robot.control("status", 9)) == "stale"
    assert robot.control("status", 3).body["session"]["inference_pending"] is False
    assert robot.ask(robot.body(1.0), generation=3).kind is MessageType.ACTION
    assert refused(robot.ask(robot.body(1.0, sequence=1), generation=3)) == "stale"
    assert refused(robot.control("dance", 3)) == "malformed"
    assert refused(robot.say()) == "unsupported"
    closed = robot.control("close", 3, request="the-last")
    assert closed.kind is MessageType.ACK
    # An answer that was lost on its way is given again.
    assert robot.control("close", 3, request="the-last") == closed
    assert refused(robot.ask(robot.body(1.0), generation=3)) == "stale"
    robot.session = ""


def test_an_answer_that_comes_after_a_reset_is_stale():
    with serving(Echo(seconds=0.3), door()) as server, met(server) as robot:
        robot.opened()
        sent = robot.send(robot.body(1.0))
        time.sleep(0.1)
        assert robot.control("invalidate", 1).body["applied_generation"] == 1
        assert refused(robot.received(sent)) == "stale"
        assert robot.ask(robot.body(2.0), generation=1).body["canonical_actions"][0, 0] == 2.0


def test_a_second_observation_while_one_is_under_way_is_told_busy_and_a_failure_ends_the_session():
    with serving(Echo(seconds=0.3), door()) as server, met(server) as robot:
        robot.opened()
        first = robot.send(robot.body(1.0))
        time.sleep(0.1)
        second = robot.send(robot.body(2.0))
        assert refused(robot.received(second)) == "busy"
        assert robot.received(first).kind is MessageType.ACTION
        assert refused(robot.ask(robot.body(2000.0))) == "execution"  # the network's NaN
        assert refused(robot.ask(robot.body(1.0))) == "stale"


def test_aligned_chunks_carry_their_cursors(robot):
    settings = {"chunk_merge": "aligned", "blend_steps": 0, "blend_weight": 0.5, "blend_components": []}
    accepted = robot.opened(chunk_settings=settings, required_capabilities=["chunk_alignment_v1"])
    assert accepted.body["chunk_settings"] == settings
    assert refused(robot.ask(robot.body(1.0))) == "malformed"
    answer = robot.ask(robot.body(1.0, cursor=7, observation_cursor=5))
    assert (answer.body["cursor"], answer.body["observation_cursor"]) == (7, 5)


def test_what_is_left_to_play_goes_to_a_policy_that_continues_chunks():
    policy = Echo(continues=True)
    with serving(policy, door()) as server, met(server) as robot:
        assert robot.told["capabilities"]["modes"] == ["chunk", "rtc_guided"]
        robot.opened(mode="rtc_guided")
        left = np.arange(2 * DIM, dtype=np.float32).reshape(2, DIM)
        answer = robot.ask(robot.body(1.0, delay=1, model_continuation=left, canonical_continuation=left))
        assert np.array_equal(answer.body["model_actions"], answer.body["canonical_actions"])
        assert np.array_equal(policy.left_over[-1].prev_chunk_left_over, left)
        assert policy.left_over[-1].inference_delay == 1
        assert refused(robot.ask(robot.body(1.0, delay=99))) == "malformed"
        assert refused(robot.ask(robot.body(1.0, canonical_continuation=left[:, :1]))) == "malformed"


def test_a_client_that_vanishes_frees_its_place():
    with serving(Echo(), replace(door(absence=0.2), connections=1)) as server:
        robot = met(server)
        robot.opened()
        with met(server) as other:
            assert other.told["available"] is False
            assert refused(other.opened()) == "busy"
            robot.close()
            until = time.monotonic() + 10
            while other.opened().kind is not MessageType.ACCEPTED:
                assert time.monotonic() < until
                time.sleep(0.05)


def test_what_is_no_message_is_dropped_and_a_message_of_another_kind_is_refused(server, robot):
    robot.opened()
    for garbage in (b"", b"\xc1", b"cos\nsystem\n(S'true'\ntR.", msgpack.packb({"version": 1})):
        robot.network.put(f"{robot.key}/obs", garbage)
    odd = Envelope(MessageType.ACK, robot.told["instance_id"], robot.session, 0, "odd", {})
    robot.network.put(f"{robot.key}/obs", encode(odd))
    assert refused(robot.received(odd)) == "malformed"
    assert robot.ask(robot.body(4.0)).body["canonical_actions"][0, 0] == 4.0


def test_an_address_beyond_this_machine_needs_a_word():
    with pytest.raises(InputError, match="knows no keys"):
        ServeConfig(zenoh=ZenohConfig(NAME, "tcp/0.0.0.0:7447"))
    ServeConfig(zenoh=ZenohConfig(NAME, "tcp/0.0.0.0:7447"), without_key=True)
    ServeConfig(zenoh=ZenohConfig(NAME, "tls/0.0.0.0:7447", file=Path("zenoh.json5")))
    with pytest.raises(InputError, match="deployment"):
        ZenohConfig("a/b")
