"""Both clients against a server: what they send, what they make of what comes, and when they give up."""

import asyncio
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from pioxide.errors import InputError, ServerError, WireError
from pioxide.serve import AsyncClient, Client, ClientConfig, ServeConfig
from pioxide.serve.conversation import Conversation
from pioxide.serve.describe import metadata
from pioxide.serve.messages import KEY
from pioxide.serve.wire import Dialect, WireLimits, decode, encode
from support.servers import DIM, HORIZON, Echo, seen, serving

STEPS = np.tile(0.01 * np.arange(HORIZON)[:, None], DIM)
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def server():
    with serving(Echo()) as running:
        yield running


def address(server):
    return f"ws://127.0.0.1:{server.port}"


def test_an_async_client_is_answered_as_a_client_is(server):
    async def asked():
        async with AsyncClient(address(server)) as client:
            with pytest.raises(ServerError, match="state") as caught:
                await client({**seen(1.0), "state": np.zeros(2)})
            assert caught.value.code == "invalid"
            client.reset(seed=3)
            return client.metadata, await client(seen(2.0))

    told, answer = asyncio.run(asked())
    with Client(address(server)) as client:
        assert told == client.metadata
        other = client(seen(2.0))
    assert np.array_equal(answer.actions, other.actions)
    assert answer.policy_timing.keys() == other.policy_timing.keys()
    assert answer.round_trip > 0


def test_calls_of_one_async_client_wait_for_one_another_and_each_gets_its_own_answer(server):
    async def asked():
        client = AsyncClient(address(server))  # the first call connects
        answers = await asyncio.gather(*(client(seen(float(i))) for i in range(20)))
        await client.close()
        return [answer.actions for answer in answers]

    assert np.array_equal(asyncio.run(asked()), [i + STEPS for i in range(20)])


def test_a_cancelled_call_leaves_no_answer_for_the_next():
    policy = Echo()
    begun, go_on = threading.Event(), threading.Event()
    batch = policy.batch

    def slow(*arguments, **named):
        begun.set()
        go_on.wait(10)
        return batch(*arguments, **named)

    policy.batch = slow

    async def asked(uri):
        async with AsyncClient(uri) as client:
            first = asyncio.create_task(client(seen(1.0)))
            await asyncio.to_thread(begun.wait, 10)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            go_on.set()
            return (await client(seen(2.0))).actions[0, 0]

    with serving(policy) as server:
        assert asyncio.run(asked(address(server))) == 2.0


def test_an_async_client_gives_up_comes_back_and_sends_jpeg_as_it_was_told():
    pytest.importorskip("PIL")
    policy = Echo(seconds=0.5)
    images = []
    batch = policy.batch
    policy.batch = lambda seen, *a, **k: images.append(seen.images[0]["image"]) or batch(seen, *a, **k)
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)

    async def asked(uri):
        async with AsyncClient(uri, config=ClientConfig(timeout=0.1, jpeg_quality=50)) as client:
            with pytest.raises(ServerError) as caught:
                await client(seen(1.0))
            assert caught.value.code == "timeout"
            client.config = ClientConfig(timeout=10.0, jpeg_quality=50)
            answer = await client({**seen(2.0), "image": picture})
            client.reset()
            late = asyncio.create_task(client(seen(3.0)))
            await asyncio.sleep(0.1)
            client.reset()
            with pytest.raises(ServerError, match="new episode"):
                await late
            return answer

    with serving(policy) as server:
        assert asyncio.run(asked(address(server))).actions[0, 0] == 2.0
    assert images[1].shape == picture.shape
    assert not np.array_equal(images[1], picture)


def test_a_state_that_is_not_finite_is_refused_as_the_robots_fault_and_the_next_call_is_answered(server):
    with Client(address(server)) as client:
        for _ in range(3):
            with pytest.raises(ServerError, match="not finite") as caught:
                client(seen(float("nan")))
            assert caught.value.code == "invalid"
            assert client(seen(2.0)).actions[0, 0] == 2.0


def test_the_async_example_of_the_page_runs(server):
    page = (DOCS / "serve.md").read_text(encoding="utf-8")
    (block,) = (one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "AsyncClient" in one)
    names = {"observation": seen(5.0)}
    exec(block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"), names)
    assert np.array_equal(names["chunks"], [5.0 + STEPS])


def test_a_closed_client_connects_again_when_it_is_asked(server):
    client = Client(address(server))
    client.close()
    assert client(seen(1.0)).actions[0, 0] == 1.0
    client.close()
    client.close()


def test_a_call_under_way_fails_when_its_client_is_closed():
    begun = threading.Event()
    policy = Echo(seconds=1.0)
    read = policy.pipeline.read
    policy.pipeline.read = lambda seen: begun.set() or read(seen)
    with serving(policy) as server:
        client = Client(address(server), config=ClientConfig(reconnect=60.0))
        codes: list[str] = []

        def ask():
            try:
                client(seen(1.0))
            except ServerError as error:
                codes.append(error.code)

        thread = threading.Thread(target=ask)
        thread.start()
        begun.wait(10)
        client.close()
        thread.join(10)
        assert codes == ["closed"]


def test_a_server_that_is_full_says_busy_and_is_tried_again_for_as_long_as_was_allowed():
    with serving(Echo(), ServeConfig(port=0, connections=1)) as server:
        first = Client(address(server))
        with pytest.raises(ServerError, match="no more robots") as caught:
            Client(address(server))
        assert caught.value.code == "busy"
        waiting = AsyncClient(address(server), config=ClientConfig(reconnect=20.0))
        waiting.metadata = first.metadata

        async def asked():
            call = asyncio.create_task(waiting(seen(4.0)))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(first.close)
            answer = await call
            await waiting.close()
            return answer.actions[0, 0]

        assert asyncio.run(asked()) == 4.0


def talk(extended=True, **changes):
    """A conversation that a server's first message was read in, and that server's metadata."""
    told = metadata(Echo(), WireLimits())
    if not extended:
        told = {"reset_pose": np.zeros(3)}
    conversation = Conversation("ws://server")
    conversation.greeted(encode({**told, **changes}))
    return conversation


GOOD = {"actions": np.ones((HORIZON, DIM)), "policy_timing": {"infer_ms": 1.0}, "server_timing": {}}
TOLD = {"request": 1, "generation": 0, "observation_age_ms": 2.0}
GARBAGE = {
    "no MessagePack": b"\xc1",
    "cut short": encode({**GOOD, KEY: TOLD})[:-1],
    "no map": encode([1]),
    "nothing of ours": encode(GOOD),
    "an addition that is no map": encode({**GOOD, KEY: [1]}),
    "another request": encode({**GOOD, KEY: {**TOLD, "request": 2}}),
    "a foreign generation": encode({**GOOD, KEY: {**TOLD, "generation": 1}}),
    "no actions": encode({KEY: TOLD}),
    "actions that are a list": encode({**GOOD, "actions": [[0.0] * DIM] * HORIZON, KEY: TOLD}),
    "whole numbers": encode({**GOOD, "actions": np.ones((HORIZON, DIM), int), KEY: TOLD}),
    "another horizon": encode({**GOOD, "actions": np.ones((HORIZON + 1, DIM)), KEY: TOLD}),
    "another width": encode({**GOOD, "actions": np.ones((HORIZON, DIM - 1)), KEY: TOLD}),
    "NaN": encode({**GOOD, "actions": np.full((HORIZON, DIM), np.nan), KEY: TOLD}),
    "a timing that is a list": encode({**GOOD, "policy_timing": [1], KEY: TOLD}),
    "an age of text": encode({**GOOD, KEY: {**TOLD, "observation_age_ms": "old"}}),
    "dimensions that are none": encode({**GOOD, KEY: {**TOLD, "out_of_range": [-1]}}),
    "an error that is no map": encode({KEY: {**TOLD, "error": "bad"}}),
}


@pytest.mark.parametrize("message", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_answer_to_the_question_is_not_handed_on(message):
    conversation = talk()
    question = conversation.question(seen(1.0))
    with pytest.raises(WireError):
        conversation.answer(question, message)


def test_an_answer_of_the_episode_before_is_stale_whatever_the_server_speaks():
    for extended in (True, False):
        conversation = talk(extended)
        question = conversation.question(seen(1.0))
        conversation.reset()
        with pytest.raises(ServerError) as caught:
            conversation.answer(question, encode({**GOOD, KEY: TOLD} if extended else GOOD))
        assert caught.value.code == "stale"


def test_a_first_message_that_promises_nothing_usable_is_refused():
    told = metadata(Echo(), WireLimits())[KEY]
    for odd in ([1], {**told, "answer": None}, {**told, "answer": {"actions": {"shape": [1, "x"]}}}):
        with pytest.raises(WireError):
            talk(**{KEY: odd})


def test_after_a_reconnect_other_weights_may_answer_and_another_horizon_may_not():
    conversation = talk()
    told = metadata(Echo(), WireLimits())[KEY]
    conversation.greeted(encode({KEY: {**told, "version": "9", "contract": {}}}))
    with pytest.raises(ServerError) as caught:
        conversation.greeted(encode({KEY: {**told, "horizon": HORIZON + 1}}))
    assert caught.value.code == "changed"
    plain = talk(extended=False)
    plain.greeted(encode({"reset_pose": np.ones(3)}))


def test_a_question_is_older_by_the_time_that_passed_before_it_was_sent():
    conversation = talk()
    conversation.config = ClientConfig(deadline=5.0)
    question = conversation.question(seen(1.0))
    waited = question._replace(asked=question.asked - 2.0)
    sent = decode(conversation.written(waited)).value[KEY]
    assert sent["age_ms"] == pytest.approx(2000, abs=500)
    assert sent["deadline_ms"] == pytest.approx(3000, abs=500)
    with pytest.raises(ServerError) as caught:
        conversation.written(question._replace(asked=question.asked - 6.0))
    assert caught.value.code == "late"


def test_a_plain_server_gets_an_observation_and_nothing_more():
    conversation = talk(extended=False)
    question = conversation.question(seen(1.0), np.ones((2, DIM)), 1)
    value, dialect = decode(conversation.written(question))
    assert dialect is Dialect.OPENPI
    assert sorted(value) == ["image", "prompt", "state"]
    assert np.array_equal(conversation.answer(question, encode(GOOD)).actions, GOOD["actions"])


def test_a_config_that_can_not_work_is_refused():
    for wrong in ({"timeout": 0}, {"connect_timeout": -1}, {"reconnect": -1}, {"deadline": 0}):
        with pytest.raises(InputError):
            ClientConfig(**wrong)
