"""Time a policy server with one robot and with many, batching on and off, beside openpi's way to serve.

Robots are processes of their own. The policy is a stand-in whose batch takes a fixed time whatever its size,
as small batches do on a GPU, so that what is measured is the server; `--network mini` puts a π0 of a million
parameters there. The peer is openpi's own server where `--openpi` names a checkout of it, and else one of the
same behaviour: it answers inside its event loop, one request after another. All servers take turns, and the
median of the rounds counts.

    python benches/serve.py --rounds 5                  # the tables of docs/benchmarks.md
    python benches/serve.py --rounds 5 --network mini
    python benches/serve.py --requests 100000           # clients that vanish, restart and send garbage
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from websockets.sync.client import connect

from pioxide.errors import ServerError, WireError
from pioxide.serve import BatchConfig, Client, ClientConfig, ServeConfig
from pioxide.serve.wire import decode, encode
from tables import Table
from timing import load, machine

# Milliseconds that the stand-in's batch takes: what is predicted for π0.5 on one H100 is half of it.
NETWORK = 30
SIDE = 224


@dataclass(frozen=True)
class Served:
    """What is served, and how.

    Attributes:
        server: "pioxide", "peer" or "chaos": ours without a pause.
        batch: Robots in a batch at most.
        network: "sleep", the stand-in, or "mini".
        openpi: A checkout of openpi, whose own server is the peer then.
    """

    server: str
    batch: int
    network: str = "sleep"
    openpi: Path | None = None

    def command(self) -> list[str]:
        """Starts a process that serves it."""
        command = [sys.executable, __file__, "--serve", self.server, "--batch", str(self.batch)]
        command += ["--network", self.network]
        return command if self.openpi is None else [*command, "--openpi", str(self.openpi)]


def observation(value: float, side: int = SIDE) -> dict[str, Any]:
    """What a robot sees: an image as openpi's clients send them, and a state that no other robot has."""
    image = np.zeros((side, side, 3), np.uint8)
    return {"image": image, "state": np.full(3, value), "prompt": "lift it"}


def robot(port: int, number: int, seconds: float, echoes: bool, together: Any, results: Any) -> None:
    """Asks for `seconds`, one request after another; puts each one's latency."""
    with Client(f"ws://127.0.0.1:{port}", config=ClientConfig(timeout=60.0)) as client:
        client(observation(0.0))
        together.wait(120)
        taken, until, i = [], time.perf_counter() + seconds, 0
        while time.perf_counter() < until:
            value = number * 10.0 + (i % 1000) / 1000
            begun = time.perf_counter()
            actions = client(observation(value)).actions
            taken.append(time.perf_counter() - begun)
            assert not echoes or actions[0, 0] == value, "another robot's answer"
            i += 1
    results.put(taken)


def measured(served: Served, robots: int, seconds: float) -> dict[str, float]:
    """Throughput, latency and fairness of one server under so many robots."""
    with serving(served) as (port, _):
        context = multiprocessing.get_context("spawn")
        results, together = context.Queue(), context.Barrier(robots)
        echoes = served.network == "sleep"
        started = [
            context.Process(target=robot, args=(port, number, seconds, echoes, together, results))
            for number in range(1, robots + 1)
        ]
        for one in started:
            one.start()
        taken = [results.get(timeout=seconds + 120) for _ in started]
        for one in started:
            one.join(30)
    every = np.concatenate(taken) * 1e3
    counts = [len(one) for one in taken]
    return {
        "per_second": len(every) / seconds,
        "p50": float(np.percentile(every, 50)),
        "p99": float(np.percentile(every, 99)),
        "fairness": min(counts) / max(counts),
    }


@contextlib.contextmanager
def serving(served: Served) -> Iterator[tuple[int, int]]:
    """A server in a process of its own; its port and process id."""
    process = subprocess.Popen(served.command(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.match(r"port (\d+)", process.stdout.readline())
        if found is None:
            raise RuntimeError(f"the server {served.server} did not start")
        yield int(found[1]), process.pid
    finally:
        process.terminate()
        process.wait(30)


def serve(served: Served) -> None:
    """Runs a server until it is terminated."""
    policy = _policy(served)
    if served.server == "peer":
        asyncio.run(_stand_in(policy) if served.openpi is None else _openpi(policy, served.openpi))
        return
    from pioxide.serve.process import run
    from pioxide.serve.server import Server

    batch = BatchConfig(size=served.batch, queue=256)
    made = Server(policy, ServeConfig(port=0, connections=256, batch=batch))
    run(made, lambda: print("port", made.port, flush=True))


def _policy(served: Served) -> Any:
    """What answers: the stand-in, or a network, compiled for its batches and the one instruction."""
    from support.servers import ROBOT, Echo

    if served.network == "sleep":
        return Echo(NETWORK / 1e3 if served.server != "chaos" else 0.0)
    from dataclasses import replace

    from flax import nnx

    from pioxide.codec import TextTokenizer
    from pioxide.demo import text_model_path
    from pioxide.models import Pi0, Pi0Config
    from pioxide.policy import FlowSampler, PolicyOptions
    from pioxide.serve.server import batch_sizes
    from support.policies import make_policy

    tokenizer, mini = TextTokenizer.load(text_model_path()), Pi0Config.mini()
    language = replace(mini.language, vocab=tokenizer.vocab_size)
    cameras = tuple(camera.slot for camera in ROBOT.cameras)
    model = Pi0(replace(mini, language=language, cameras=cameras, action_horizon=16), nnx.Rngs(0))
    options = PolicyOptions(FlowSampler(num_steps=10))
    policy = make_policy(model, ROBOT, None, tokenizer, options=options)
    policy.warm_up([observation(0.0)["prompt"]], batches=batch_sizes(served.batch))
    return policy


class _OneByOne:
    """A policy as openpi's server asks it."""

    def __init__(self, policy: Any) -> None:
        self._policy, self._session = policy, policy.new_session()

    def infer(self, seen: dict[str, Any]) -> dict[str, Any]:
        """Answers one observation."""
        return {"actions": self._policy.batch([seen], [self._session], left_over=[None])[0].actions}


async def _openpi(policy: Any, checkout: Path) -> None:
    """openpi's own server, from its own file."""
    from websockets.asyncio.server import serve

    file = checkout / "src" / "openpi" / "serving" / "websocket_policy_server.py"
    spec = importlib.util.spec_from_file_location("websocket_policy_server", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.WebsocketPolicyServer(_OneByOne(policy), "127.0.0.1", 0)
    # Its `run` does not tell which port it got; its handler is what is measured.
    async with serve(server._handler, "127.0.0.1", 0, compression=None, max_size=None) as listening:
        print("port", next(iter(listening.sockets)).getsockname()[1], flush=True)
        await asyncio.Future()


async def _stand_in(policy: Any) -> None:
    """openpi's behaviour: one request at a time, computed where connections are served."""
    from websockets.asyncio.server import serve

    answers = _OneByOne(policy)

    async def handler(connection: Any) -> None:
        await connection.send(encode({}))
        async for message in connection:
            await connection.send(encode(answers.infer(decode(message).value)))

    async with serve(handler, "127.0.0.1", 0, compression=None, max_size=None) as listening:
        print("port", next(iter(listening.sockets)).getsockname()[1], flush=True)
        await asyncio.Future()


def chaos(port: int, number: int, requests: int, results: Any) -> None:
    """A robot that asks, vanishes in the middle, restarts, and sends garbage."""
    rng = random.Random(number)
    answered = refused = vanished = garbage = 0
    client: Client | None = None
    while answered + refused + vanished + garbage < requests:
        if client is None:
            client = Client(f"ws://127.0.0.1:{port}", config=ClientConfig(timeout=60.0))
        value, draw = number * 10.0 + rng.random(), rng.random()
        if draw < 0.02:  # a client without manners; the robot comes back afterwards
            client.close()
            client = None
            with connect(f"ws://127.0.0.1:{port}", compression=None) as plain:
                plain.recv(30)
                if draw < 0.01:  # gone without a word, with a request on its way
                    plain.send(encode(observation(value, 8)))
                    plain.socket.close()
                    vanished += 1
                else:
                    plain.send(rng.randbytes(rng.randint(0, 200)))
                    with contextlib.suppress(Exception):
                        plain.recv(30)
                    garbage += 1
        elif draw < 0.03:
            try:
                client({**observation(value, 8), "state": np.zeros(rng.randint(0, 9))})
                answered += 1
            except (ServerError, WireError):
                refused += 1
        else:
            actions = client(observation(value, 8)).actions
            if actions[0, 0] != value:
                raise AssertionError(f"asked {value}, answered {actions[0, 0]}")
            answered += 1
    if client is not None:
        client.close()
    results.put((answered, refused, vanished, garbage))


def survived(requests: int, robots: int) -> dict[str, float]:
    """What became of so many requests, and of the server's memory."""
    with serving(Served("chaos", 8)) as (port, process):
        context = multiprocessing.get_context("spawn")
        results, memory = context.Queue(), []
        rounds = 5
        totals = np.zeros(4, int)
        for _ in range(rounds):
            started = [
                context.Process(target=chaos, args=(port, n, requests // rounds // robots, results))
                for n in range(1, robots + 1)
            ]
            for one in started:
                one.start()
            for _ in started:
                totals += results.get(timeout=3600)
            for one in started:
                one.join(60)
            memory.append(_resident(process))
        with Client(f"ws://127.0.0.1:{port}") as client:
            assert client(observation(1.0)).actions[0, 0] == 1.0
    names = ("answered", "refused", "vanished", "garbage")
    return {
        **{name: int(count) for name, count in zip(names, totals, strict=True)},
        "megabytes_after_a_fifth": memory[0],
        "megabytes_at_the_end": memory[-1],
    }


def _resident(process: int) -> float:
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robots", type=int, nargs="+", help="1, 4 and 16; of those that misbehave, 8")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--network", choices=("sleep", "mini"), default="sleep")
    parser.add_argument("--openpi", type=Path, help="a checkout of openpi, whose own server is run")
    parser.add_argument("--requests", type=int, default=0, help="the run with clients that misbehave")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--serve", choices=("pioxide", "peer", "chaos"), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=8, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Served(arguments.serve, arguments.batch, arguments.network, arguments.openpi))
        return
    facts = machine() | {"load": load()}
    print(", ".join(f"{key} {facts[key]}" for key in ("cpu", "cores", "load")))
    if arguments.requests:
        result: dict[str, Any] = {"survived": survived(arguments.requests, max(arguments.robots or [8]))}
        print(", ".join(f"{name} {value:,.0f}" for name, value in result["survived"].items()))
    else:
        openpi, network = arguments.openpi, arguments.network
        servers = {
            "openpi's server" if openpi else "openpi's way": Served("peer", 1, network, openpi),
            "pioxide, one at a time": Served("pioxide", 1, network),
            "pioxide": Served("pioxide", 16, network),
        }
        result = compared(servers, arguments.robots or [1, 4, 16], arguments.seconds, arguments.rounds)
        table = Table(
            f"a policy server, {f'{NETWORK} ms a batch' if network == 'sleep' else 'a small π0'}",
            ("answers a second", "p50, ms", "p99, ms", "slowest robot's share"),
            {
                name: (f"{r['per_second']:.1f}", f"{r['p50']:.1f}", f"{r['p99']:.1f}", f"{r['fairness']:.2f}")
                for name, r in result.items()
            },
        )
        print(table.markdown() if arguments.markdown else table.text())
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": facts, "results": result}, indent=2))


def compared(
    servers: dict[str, Served], robots: list[int], seconds: float, rounds: int
) -> dict[str, dict[str, float]]:
    """Medians over the rounds of each server under so many robots; in a round each has its turn."""
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for many in robots:
            for name, served in servers.items():
                run = measured(served, many, seconds)
                runs.setdefault(f"{name}, {many} robot{'s' if many > 1 else ''}", []).append(run)
    return {name: {key: median(one[key] for one in each) for key in each[0]} for name, each in runs.items()}


if __name__ == "__main__":
    main()
