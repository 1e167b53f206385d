"""A server and its clients on loopback: whose answer is whose, who waits, who is refused, who is let in."""

import asyncio
import base64
import gc
import http.client
import json
import re
import shutil
import ssl
import subprocess
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pioxide.control import ActionQueue, Limits, OnEmpty, Runner, RunState, SafetyFilter, ThreadWorker
from pioxide.errors import CheckpointError, ContractError, InputError, ServerError, WireError
from pioxide.serve import BatchConfig, Client, ClientConfig, RemoteAnswer, ServeConfig, process
from pioxide.serve.swap import Swapper
from pioxide.serve.wire import Dialect, decode, encode
from pioxide.transforms import Stats
from support.servers import DIM, HORIZON, ROBOT, Echo, seen, serving

STEPS = 0.01 * np.arange(HORIZON)[:, None]
KEY = "a-key-of-a-robot-1"


def address(server, scheme="ws"):
    return f"{scheme}://127.0.0.1:{server.port}"


def asked(server, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_a_client_gets_the_actions_and_is_told_what_the_server_expects():
    with serving(Echo()) as server, Client(address(server)) as client:
        told = client.metadata["pioxide"]
        assert told["answer"]["actions"]["shape"] == [HORIZON, DIM]
        assert told["answer"]["actions"]["units"] == ["m", "rad", ""]
        assert told["observation"]["required"] == ["image", "state", "prompt"]
        assert told["observation"]["properties"]["state"]["names"] == list(ROBOT.state_names)
        answer = client(seen(3.0))
        assert np.array_equal(answer.actions, 3.0 + np.tile(STEPS, DIM))
        assert answer.policy_timing["infer_ms"] > 0
        assert answer.server_timing["infer_ms"] >= answer.server_timing["waited_ms"] >= 0
        assert "prev_total_ms" not in answer.server_timing
        assert client(seen(4.0)).server_timing["prev_total_ms"] > 0


def test_an_observation_is_read_once():
    policy = Echo()
    read, times = policy.pipeline.read, []
    policy.pipeline.read = lambda seen: times.append(1) or read(seen)
    with serving(policy) as server, Client(address(server)) as client:
        client(seen(1.0))
    assert len(times) == 1


@pytest.mark.parametrize("dialect", Dialect)
def test_a_plain_client_is_answered_in_its_own_dialect_and_with_nothing_of_ours(dialect):
    with serving(Echo()) as server, connect(address(server), compression=None) as plain:
        decode(plain.recv())
        plain.send(encode(seen(1.0), dialect))
        value, found = decode(plain.recv())
        assert found is dialect
        assert sorted(value) == ["actions", "policy_timing", "server_timing"]
        assert value["actions"][0, 0] == 1.0


# websockets would rather have its connections entered as contexts.
@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_openpis_own_client_and_broker_run_unchanged():
    broker = pytest.importorskip("openpi_client.action_chunk_broker")
    websocket = pytest.importorskip("openpi_client.websocket_client_policy")
    with serving(Echo()) as server:
        policy = websocket.WebsocketClientPolicy("127.0.0.1", server.port, api_key="whatever it has")
        assert policy.get_server_metadata()["pioxide"]["robot"] == "arm"
        chunks = broker.ActionChunkBroker(policy, HORIZON)
        played = [chunks.infer(seen(2.0))["actions"] for _ in range(HORIZON)]
        assert np.array_equal(played, 2.0 + np.tile(STEPS, DIM))
        with pytest.raises(RuntimeError, match="state"):
            policy.infer({**seen(2.0), "state": np.zeros(DIM + 1)})
        assert policy.infer(seen(5.0))["actions"][0, 0] == 5.0


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_openpis_own_client_is_let_in_by_its_key_and_waits_for_a_server_that_is_not_there_yet(tmp_path):
    websocket = pytest.importorskip("openpi_client.websocket_client_policy")
    (tmp_path / "keys").write_text(KEY)
    with serving(Echo(), ServeConfig(port=0, key_file=tmp_path / "keys")) as server:
        policy = websocket.WebsocketClientPolicy("127.0.0.1", server.port, api_key=KEY)
        assert policy.infer(seen(2.0))["actions"][0, 0] == 2.0
        with pytest.raises(InvalidStatus, match="401"):
            websocket.WebsocketClientPolicy("127.0.0.1", server.port, api_key="another-key-of-a-robot")
        port = server.port
    with pytest.raises(ConnectionClosed):  # it does not reconnect by itself; a new one does
        policy.infer(seen(2.0))
    with serving(Echo(), ServeConfig(port=port)):
        again = websocket.WebsocketClientPolicy("127.0.0.1", port)
        assert again.infer(seen(3.0))["actions"][0, 0] == 3.0


def test_an_observation_that_is_not_the_robots_is_refused_with_the_key_and_the_connection_lives():
    with serving(Echo()) as server, Client(address(server)) as client:
        for change, named in (
            ({"state": np.zeros(2)}, "state"),
            ({"wrist": np.zeros((2, 2, 3), np.uint8)}, "wrist"),
            ({"image": np.zeros((2, 2), np.uint8)}, "image"),
            ({"prompt": " "}, "prompt"),
        ):
            with pytest.raises(ServerError, match=named) as caught:
                client({**seen(1.0), **change})
            assert caught.value.code == "invalid"
        assert client(seen(1.0)).actions[0, 0] == 1.0


def test_robots_that_ask_together_share_batches_and_none_gets_anothers_answer():
    policy = Echo(seconds=0.005)
    config = ServeConfig(port=0, batch=BatchConfig(size=4, wait=0.05))
    wrong: list[tuple[float, float]] = []

    def robot(number, server):
        with Client(address(server)) as client:
            for i in range(25):
                value = number * 100.0 + i
                got = client(seen(value)).actions
                if not np.array_equal(got, value + np.tile(STEPS, DIM)):
                    wrong.append((value, float(got[0, 0])))

    with serving(policy, config) as server:
        robots = [threading.Thread(target=robot, args=(n, server)) for n in range(6)]
        for one in robots:
            one.start()
        for one in robots:
            one.join(60)
    assert not wrong
    assert sum(policy.batches) == 150
    assert max(policy.batches) == 4


def test_an_observation_that_breaks_a_batch_is_told_to_its_robot_alone():
    config = ServeConfig(port=0, batch=BatchConfig(size=2, wait=5.0))
    with serving(Echo(), config) as server, Client(address(server)) as good, Client(address(server)) as bad:
        failed: list[ServerError] = []

        def broken():
            try:
                bad(seen(2000.0))
            except ServerError as error:
                failed.append(error)

        thread = threading.Thread(target=broken)
        thread.start()
        assert good(seen(1.0)).actions[0, 0] == 1.0
        thread.join(10)
        assert failed
        assert failed[0].code == "failed"
        assert "nan" in str(failed[0])


def test_the_newest_observation_of_a_robot_that_overruns_wins():
    policy = Echo(seconds=0.2)
    with serving(policy) as server, connect(address(server), compression=None) as plain:
        plain.recv()
        for value in (1.0, 2.0, 3.0, 4.0):
            plain.send(encode(seen(value)))
            time.sleep(0.02)
        answers = [plain.recv(5) for _ in range(4)]
        texts = [one for one in answers if isinstance(one, str)]
        values = [decode(one).value["actions"][0, 0] for one in answers if isinstance(one, bytes)]
    assert values == [1.0, 4.0]
    assert len(texts) == 2
    assert all("newer observation" in one for one in texts)


def test_a_full_queue_says_busy_and_a_passed_deadline_late():
    policy = Echo(seconds=0.3)
    config = ServeConfig(port=0, batch=BatchConfig(size=1, queue=1))
    with serving(policy, config) as server:
        clients = [Client(address(server), config=ClientConfig(deadline=0.2)) for _ in range(3)]
        codes: list[str] = []

        def ask(client):
            try:
                client(seen(1.0))
                codes.append("answered")
            except ServerError as error:
                codes.append(error.code)

        threads = [threading.Thread(target=ask, args=(one,)) for one in clients]
        for one in threads:
            one.start()
            time.sleep(0.05)
        for one in threads:
            one.join(10)
        assert sorted(codes) == ["answered", "busy", "late"]
        for one in clients:
            one.close()


def test_health_answers_while_a_robot_is_answered():
    with serving(Echo(seconds=1.0)) as server, Client(address(server)) as client:
        thread = threading.Thread(target=client, args=(seen(1.0),))
        thread.start()
        time.sleep(0.1)
        begun = time.monotonic()
        assert asked(server, "/healthz") == (200, b"OK\n")
        assert asked(server, "/readyz")[0] == 200
        busy = thread.is_alive()
        assert busy or time.monotonic() - begun > 0.8
        thread.join(10)


def test_metadata_and_metrics_are_there_for_people_and_prometheus():
    with serving(Echo()) as server, Client(address(server)) as client:
        client(seen(1.0))
        status, body = asked(server, "/v1/metadata")
        assert status == 200
        assert json.loads(body)["pioxide"]["contract_json"]["action_horizon"] == HORIZON
        status, body = asked(server, "/metrics")
        assert status == 200
        assert b'pioxide_requests_total{outcome="answered"} 1.0' in body
        assert b"pioxide_connections 1.0" in body
        assert b"pioxide_compiled_programs 1.0" in body
        assert asked(server, "/etc/passwd")[0] == 404


def test_what_a_robots_safety_filter_changed_is_counted_without_a_word_of_its_program():
    def counted(server):
        text = asked(server, "/metrics")[1].decode()
        return {kind: float(n) for kind, n in re.findall(r'limits_bitten_total{limit="(.+)"} (.+)', text)}

    def becomes(server, **expected):
        until = time.monotonic() + 10
        while {kind: n for kind, n in counted(server).items() if n} != expected:
            assert time.monotonic() < until, counted(server)
            time.sleep(0.01)

    with serving(Echo()) as server, Client(address(server)) as client:
        safety = SafetyFilter(Limits(velocity=1.0), DIM, hz=10.0)
        safety.reset(np.zeros(DIM))
        with Runner(ThreadWorker(client.chunk), ActionQueue(OnEmpty.HOLD), 0, safety) as runner:
            ticked(runner, lambda _: counted(server).get("velocity", 0) >= 2)
    with serving(Echo()) as server, Client(address(server)) as client:
        # A count that falls is the next episode's filter; what is no limit's name has no counter of its own.
        for told in ({"velocity": 3}, {"velocity": 4, "whim": 2}, {"velocity": 1, "mood": 1}):
            client.limits = told
            client(seen(1.0))
        becomes(server, velocity=3 + 1 + 1, other=2 + 1)


def test_a_key_is_asked_for_and_read_again_when_its_file_changes(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# robots\n{KEY}\n")
    with serving(Echo(), ServeConfig(port=0, key_file=file)) as server:
        for key in (None, "a-key-of-a-robot-2", KEY + "x", "é" * 20):
            with pytest.raises(ServerError, match="key") as caught:
                Client(address(server), key=key)
            assert caught.value.code == "refused"
        assert asked(server, "/metrics")[0] == asked(server, "/v1/metadata")[0] == 401
        assert asked(server, "/healthz")[0] == 200
        with Client(address(server), key=KEY) as client:
            assert client(seen(1.0)).actions[0, 0] == 1.0
        file.write_text("a-key-of-a-robot-2\n")
        with pytest.raises(ServerError, match="key"):
            Client(address(server), key=KEY)
        Client(address(server), key="a-key-of-a-robot-2").close()


def test_a_server_with_a_certificate_speaks_tls_to_those_who_trust_it_and_to_nobody_else(tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    certificate, secret = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    command = [*made.split(), "subjectAltName=DNS:localhost", "-out", certificate, "-keyout", secret]
    subprocess.run(command, check=True, capture_output=True)
    with serving(Echo(), ServeConfig(port=0, tls_certificate=certificate, tls_key=secret)) as server:
        uri = f"wss://localhost:{server.port}"
        trusted = ssl.create_default_context(cafile=str(certificate))
        with Client(uri, tls=trusted) as client:
            assert client(seen(1.0)).actions[0, 0] == 1.0
        with pytest.raises(ServerError, match="certificate"):
            Client(uri)
        with pytest.raises(InputError, match="wss"):
            Client(address(server), tls=trusted)
        with pytest.raises(ServerError, match="no policy server answers"):
            Client(address(server), config=ClientConfig(connect_timeout=5.0))
    wrong = ServeConfig(port=0, tls_certificate=tmp_path / "nothing.pem")
    with pytest.raises(InputError, match="no certificate"), serving(Echo(), wrong):
        pass


def test_a_server_that_others_reach_needs_a_key_or_a_word(tmp_path, monkeypatch):
    monkeypatch.delenv("PIOXIDE_SERVE_KEYS", raising=False)
    for host in ("0.0.0.0", "::", "192.168.1.5", "robot.example"):
        with pytest.raises(InputError, match="no key"):
            ServeConfig(host=host).keys()
    assert not ServeConfig(host="0.0.0.0", without_key=True).keys()
    monkeypatch.setenv("PIOXIDE_SERVE_KEYS", f"{KEY},")
    assert ServeConfig(host="0.0.0.0").keys().admit(f"Bearer {KEY}")
    (tmp_path / "short").write_text("short\n")
    with pytest.raises(InputError, match="16"):
        ServeConfig(key_file=tmp_path / "short").keys()


def test_a_page_in_a_browser_is_not_let_in():
    with (
        serving(Echo()) as server,
        pytest.raises(InvalidStatus, match="403"),
        connect(address(server), origin="http://evil.example"),  # type: ignore[arg-type]
    ):
        pass


def test_garbage_ends_its_own_connection_with_a_sentence_and_no_other():
    with serving(Echo()) as server, Client(address(server)) as client:
        for garbage in (b"\xc1", b"\xff" * 100, encode([1, 2]), "text", b"\x91" * 40):
            with connect(address(server), compression=None) as bad:
                bad.recv()
                bad.send(garbage)
                said = bad.recv(5)
                assert isinstance(said, str)
                assert "Traceback" not in said
                with pytest.raises(ConnectionClosed):
                    bad.recv(5)
        assert client(seen(1.0)).actions[0, 0] == 1.0


def test_a_fault_of_the_server_is_not_told_to_a_client():
    policy = Echo()
    policy.batch = lambda *_, **__: 1 / 0
    with serving(policy) as server, Client(address(server)) as client:
        with pytest.raises(ServerError, match="its log says why") as caught:
            client(seen(1.0))
        assert "division" not in str(caught.value)


def test_an_older_episode_is_refused_on_both_sides():
    with serving(Echo(seconds=0.2)) as server:
        client = Client(address(server))
        stale: list[str] = []

        def ask():
            try:
                client(seen(1.0))
            except ServerError as error:
                stale.append(error.code)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.05)
        client.reset()
        thread.join(10)
        assert stale == ["stale"]
        assert client(seen(2.0)).actions[0, 0] == 2.0
        client.generation = 0
        with pytest.raises(ServerError, match="generation 0 is over"):
            client(seen(2.0))
        client.close()


def test_what_is_left_to_play_reaches_a_policy_that_continues_and_no_other():
    for continues in (True, False):
        policy = Echo(continues=continues)
        with serving(policy) as server, Client(address(server)) as client:
            client(seen(1.0), prev_chunk_left_over=np.ones((2, DIM)), inference_delay=1)
            (left,) = policy.left_over
            if continues:
                assert left is not None
                assert np.array_equal(left.prev_chunk_left_over, np.ones((2, DIM)))
                assert left.inference_delay == 1
            else:
                assert left is None


def test_a_runner_plays_a_servers_chunks_as_it_plays_a_policys():
    with serving(Echo()) as server, Client(address(server)) as client:
        queue = ActionQueue(OnEmpty.HOLD)
        with Runner(ThreadWorker(client.chunk), queue, replan_below=0) as runner:
            played: list[float] = []
            until = time.monotonic() + 20
            while len(played) < HORIZON and time.monotonic() < until:
                action, dry = runner.step(seen(1.0))
                if action is not None and not dry:
                    played.append(action[0])
                time.sleep(0.002)
        assert played[:HORIZON] == pytest.approx(list(1.0 + STEPS[:, 0]))


def test_a_robot_whose_server_dies_holds_then_stops_and_an_answer_of_the_last_episode_is_not_played():
    with serving(Echo()) as server:
        client = Client(address(server))
        worker = ThreadWorker(client.chunk, client.reset)
        runner = Runner(worker, ActionQueue(OnEmpty.HOLD), 0, starvation_grace=20, max_errors=1000)
        ticked(runner, lambda step: step.action is not None)
        assert runner.state is RunState.PLAYING
        generation = client.generation
        runner.reset()
        assert client.generation == generation + 1
        ticked(runner, lambda step: step.action is not None)
    ticked(runner, lambda _: runner.state is RunState.STARVED)
    ticked(runner, lambda _: runner.state is RunState.FAULT)
    assert runner.step(seen(1.0)).action is None
    assert isinstance(runner.last_error, ServerError)
    runner.close()


def ticked(runner, until, seconds=20.0):
    """Ticks until a step is as it should be."""
    end = time.monotonic() + seconds
    while not until(runner.step(seen(1.0))):
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_client_comes_back_after_its_server_did():
    client = None
    with serving(Echo()) as server:
        port = server.port
        client = Client(address(server), config=ClientConfig(reconnect=10.0))
        assert client(seen(1.0)).actions[0, 0] == 1.0
    with serving(Echo(), ServeConfig(port=port)):
        assert client(seen(2.0)).actions[0, 0] == 2.0
    impatient = client
    impatient.config = ClientConfig()
    with pytest.raises(ServerError) as caught:
        impatient(seen(3.0))
    assert caught.value.code == "closed"
    with (
        serving(Echo(continues=True), ServeConfig(port=port)),
        pytest.raises(ServerError, match="another policy"),
    ):
        client(seen(4.0))


def test_an_answer_that_does_not_come_in_time_is_given_up_with_its_connection():
    with serving(Echo(seconds=0.5)) as server:
        client = Client(address(server), config=ClientConfig(timeout=0.1))
        with pytest.raises(ServerError) as caught:
            client(seen(1.0))
        assert caught.value.code == "timeout"
        client.config = ClientConfig(timeout=5.0)
        assert client(seen(2.0)).actions[0, 0] == 2.0
        client.close()


def test_a_policy_is_swapped_while_robots_ask_and_only_for_one_of_the_same_contract():
    with serving(Echo(seconds=0.05)) as server, Client(address(server)) as client:
        assert client(seen(1.0)).actions[0, 0] == 1.0
        server.swap(Echo(offset=10.0))
        assert client(seen(1.0)).actions[0, 0] == 11.0
        with pytest.raises(ContractError, match="continues"):
            server.swap(Echo(continues=True))


def test_what_was_accepted_before_a_swap_is_answered_by_the_old_policy_which_nothing_holds_then():
    with serving(Echo()) as server, Client(address(server)) as client, Client(address(server)) as silent:
        old = Echo(seconds=0.3, offset=5.0)
        server.swap(old)
        assert client(seen(1.0)).policy == silent(seen(1.0)).policy == 2
        answers: list[RemoteAnswer] = []
        thread = threading.Thread(target=lambda: answers.append(client(seen(1.0))))
        thread.start()
        time.sleep(0.1)
        server.swap(Echo(offset=10.0))
        thread.join(10)
        assert (answers[0].policy, answers[0].actions[0, 0]) == (2, 6.0)
        answer = client(seen(1.0))
        assert (answer.policy, answer.actions[0, 0]) == (3, 11.0)
        held = weakref.ref(old)
        del old
        gc.collect()
        assert held() is None
        said = asked(server, "/metrics")[1]
        assert b'pioxide_swaps_total{outcome="swapped"} 2.0' in said
        assert b"pioxide_policy_generation 3.0" in said
        # An answer of before, should one come late, is no answer now.
        server._serving = server._serving._replace(number=2)
        with pytest.raises(ServerError, match="replaced") as caught:
            client(seen(1.0))
        assert caught.value.code == "stale"


def test_a_checkpoint_that_is_read_again_is_refused_or_takes_over_and_robots_are_answered_meanwhile():
    compiling, go_on = threading.Event(), threading.Event()
    found: list[Echo | Exception] = []

    def read():
        (one,) = found
        if isinstance(one, Exception):
            raise one
        return one

    def warm_up(_):
        compiling.set()
        go_on.wait(10)

    with serving(Echo()) as server, Client(address(server)) as client:
        swapper = Swapper(server, read, warm_up)
        loop = server._listening.get_loop()

        def swapped(outcome, times):
            until = time.monotonic() + 10
            line = f'pioxide_swaps_total{{outcome="{outcome}"}} {times}.0'.encode()
            while swapper.busy or line not in asked(server, "/metrics")[1]:
                assert time.monotonic() < until
                time.sleep(0.01)

        for bad, times in ((CheckpointError("half of it is there"), 1), (Echo(continues=True), 2)):
            found[:] = [bad]
            loop.call_soon_threadsafe(swapper.ask)
            swapped("refused", times)
            assert not compiling.is_set()
            assert client(seen(1.0)).policy == 1
        found[:] = [Echo(offset=10.0)]
        loop.call_soon_threadsafe(swapper.ask)
        assert compiling.wait(10)
        assert client(seen(1.0)).actions[0, 0] == 1.0
        found[:] = [Echo(offset=20.0)]
        loop.call_soon_threadsafe(swapper.ask)  # a newer one came while that was compiled
        go_on.set()
        swapped("swapped", 2)
        assert client(seen(1.0)).actions[0, 0] == 21.0


def test_a_terminal_that_closes_ends_a_server_and_any_other_hangup_is_a_wish(monkeypatch):
    terminal, said = [True], []
    monkeypatch.setattr(process, "_has_terminal", lambda: terminal[0])
    hangup = process._Hangup(lambda: said.append("swap"), lambda: said.append("end"))
    hangup()
    terminal[0] = False
    hangup()
    hangup()  # under nohup the server is still there, and without its terminal for good
    assert said == ["swap", "end", "swap"]


def test_a_robot_that_reconnects_after_a_swap_goes_on():
    first, second = Echo(), Echo(offset=1.0)
    wide = Stats(np.zeros(DIM), np.ones(DIM))
    second.contract = replace(second.contract, norm_stats={"state": wide, "actions": wide})
    with serving(first) as server, Client(address(server)) as client:
        client(seen(1.0))
        server.swap(second)
        client.close()
        assert client(seen(1.0)).actions[0, 0] == 2.0


def test_a_client_refuses_what_is_no_policy_server():
    with pytest.raises(ServerError, match="no policy server answers"):
        Client("ws://127.0.0.1:9")

    async def odd(first):
        from websockets.asyncio.server import serve

        async def handler(connection):
            await connection.send(first)
            await connection.wait_closed()

        return await serve(handler, "127.0.0.1", 0)

    for first, error in (
        (encode([1]), WireError),
        ("hello", WireError),
        (encode({"pioxide": {"protocol": 9}}), WireError),
    ):
        loop = asyncio.new_event_loop()
        listening = loop.run_until_complete(odd(first))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        with pytest.raises(error):
            Client(f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}")
        loop.call_soon_threadsafe(listening.close)
        asyncio.run_coroutine_threadsafe(listening.wait_closed(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_more_robots_than_allowed_are_told_so_at_the_door():
    with (
        serving(Echo(), ServeConfig(port=0, connections=1)) as server,
        Client(address(server)),
        pytest.raises(ServerError, match="no more robots"),
    ):
        Client(address(server))


def test_an_idle_robot_is_let_go():
    with (
        serving(Echo(), ServeConfig(port=0, idle=0.2)) as server,
        connect(address(server), compression=None) as plain,
    ):
        plain.recv()
        with pytest.raises(ConnectionClosed, match="no request in"):
            plain.recv(10)


def test_images_sent_as_jpeg_arrive(monkeypatch):
    pytest.importorskip("PIL")
    policy = Echo()
    arrived = []
    batch = policy.batch
    policy.batch = lambda seen, *a, **k: arrived.append(seen.images[0]["image"]) or batch(seen, *a, **k)
    image = np.full((48, 64, 3), 90, np.uint8)
    with serving(policy) as server, Client(address(server), config=ClientConfig(jpeg_quality=90)) as client:
        client({**seen(1.0), "image": image})
    assert arrived[0].shape == image.shape
    assert np.abs(arrived[0].astype(int) - 90).max() <= 2


def test_the_page_shows_robots_and_asks_nobody_else():
    pytest.importorskip("PIL")
    with serving(Echo()) as server, Client(address(server)) as client:
        status, body = asked(server, "/")
        assert status == 200
        assert b"http" not in body.replace(b"http://www.w3.org/2000/svg", b"")
        client.limits = {"velocity": 3}
        client(seen(1.0))
        client(seen(2.0), prev_chunk_left_over=np.ones((1, DIM)))
        with pytest.raises(ServerError):
            client({**seen(1.0), "state": np.zeros(1)})
        said = json.loads(asked(server, "/v1/status")[1])
        assert said["names"] == list(ROBOT.joint_names)
        assert sum(said["histogram"]) == 2
        (robot,) = said["robots"]
        assert (robot["answers"], robot["refused"]) == (2, {"invalid": 1})
        assert (robot["limits"], robot["prompt"]) == ({"velocity": 3}, "lift it")
        assert robot["chunk"][0] == [2.0] * DIM
        assert robot["before"][0] == [1.0] * DIM
        assert robot["played"] == HORIZON - 1
        assert robot["cameras"]["image"].startswith("data:image/jpeg;base64,")


@pytest.mark.slow
def test_a_browser_draws_the_page():
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium here: nothing has drawn the status page")
    with serving(Echo()) as server, Client(address(server)) as client:
        client.limits = {"velocity": 3}
        client(seen(1.0))
        client(seen(2.0), prev_chunk_left_over=np.ones((1, DIM)))
        command = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=3000",
            "--dump-dom",
        ]
        done = subprocess.run(
            [*command, address(server, "http") + "/"], capture_output=True, text=True, timeout=120
        )
    assert "π0 for arm" in done.stdout
    assert done.stdout.count("<svg") == DIM
    for words in ("lift it", f"played ({HORIZON - 1} of {HORIZON})", "velocity 3", "≤10", "action_horizon"):
        assert words in done.stdout
    assert done.stdout.count('src="data:image/jpeg') == 1


def test_the_page_asks_for_the_key_as_a_browser_can_give_it(tmp_path):
    file = tmp_path / "keys"
    file.write_text(KEY)
    with serving(Echo(), ServeConfig(port=0, key_file=file)) as server:
        assert asked(server, "/")[0] == asked(server, "/v1/status")[0] == 401
        for name, status in ((f":{KEY}", 200), (f"anybody:{KEY}", 200), ("anybody:guess", 401)):
            given = base64.b64encode(name.encode()).decode()
            assert asked(server, "/", Authorization=f"Basic {given}")[0] == status
        assert asked(server, "/", Authorization="Basic %%%")[0] == 401


def test_a_page_elsewhere_whose_name_was_made_to_lead_here_is_refused():
    with serving(Echo()) as server:
        assert asked(server, "/v1/status", Host="evil.example")[0] == 403
        assert asked(server, "/healthz", Host=f"localhost:{server.port}")[0] == 200
        assert asked(server, "/healthz", Host="[::1]")[0] == 200
