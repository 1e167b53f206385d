"""Time a policy server with one robot and with many, batching on and off, beside openpi's way to serve.

Robots are processes of their own. The policy is a stand-in whose batch takes a fixed time whatever its size,
as small batches do on a GPU, so that what is measured is the server. The peer answers inside its event loop,
one request after another, as openpi's server does.

    python benches/serve.py                     # the table of docs/benchmarks.md
    python benches/serve.py --requests 100000   # clients that vanish, restart and send garbage
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from pioxide.errors import ServerError, WireError
from pioxide.serve import BatchConfig, Client, ClientConfig, ServeConfig
from pioxide.serve.wire import decode, encode
from tables import Table
from timing import load, machine

# Milliseconds that the stand-in's batch takes: what is predicted for π0.5 on one H100 is half of it.
NETWORK = 30
SIDE = 224


def observation(value: float, side: int = SIDE) -> dict[str, Any]:
    """What a robot sees: an image as openpi's clients send them, and a state that no other robot has."""
    image = np.zeros((side, side, 3), np.uint8)
    return {"image": image, "state": np.full(3, value), "prompt": "lift it"}


def robot(port: int, number: int, seconds: float, together: Any, results: Any) -> None:
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
            assert actions[0, 0] == value, "another robot's answer"
            i += 1
    results.put(taken)


def measured(server: str, robots: int, batch: int, seconds: float) -> dict[str, float]:
    """Throughput, latency and fairness of one server under so many robots."""
    with serving(server, batch) as (port, _):
        context = multiprocessing.get_context("spawn")
        results, together = context.Queue(), context.Barrier(robots)
        started = [
            context.Process(target=robot, args=(port, number, seconds, together, results))
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
def serving(server: str, batch: int) -> Iterator[tuple[int, int]]:
    """A server in a process of its own; its port and process id."""
    command = [sys.executable, __file__, "--serve", server, "--batch", str(batch)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.match(r"port (\d+)", process.stdout.readline())
        if found is None:
            raise RuntimeError(f"the server {server} did not start")
        yield int(found[1]), process.pid
    finally:
        process.terminate()
        process.wait(30)


def serve(server: str, batch: int) -> None:
    """Runs a server until it is terminated."""
    from support.servers import Echo

    policy = Echo(NETWORK / 1e3 if server != "chaos" else 0.0)
    if server == "peer":
        asyncio.run(_peer(policy))
        return
    from pioxide.serve.server import Server, run

    made = Server(policy, ServeConfig(port=0, connections=256, batch=BatchConfig(size=batch, queue=256)))
    run(made, lambda: print("port", made.port, flush=True))


async def _peer(policy: Any) -> None:
    """openpi's behaviour: one request at a time, computed where connections are served."""
    from websockets.asyncio.server import serve

    session = policy.new_session()

    async def handler(connection: Any) -> None:
        await connection.send(encode({}))
        async for message in connection:
            seen = decode(message).value
            answer = policy.batch([seen], [session], left_over=[None])[0]
            await connection.send(encode({"actions": answer.actions}))

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
        connection: Any = client._connection
        if draw < 0.01:  # gone without a word, with a request on its way
            connection.send(encode(observation(value, 8)))
            connection.socket.close()
            client, vanished = None, vanished + 1
        elif draw < 0.02:
            connection.send(rng.randbytes(rng.randint(0, 200)))
            with contextlib.suppress(Exception):
                connection.recv(30)
            client.close()
            client, garbage = None, garbage + 1
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


def survived(requests: int, robots: int = 8) -> dict[str, float]:
    """What became of so many requests, and of the server's memory."""
    with serving("chaos", 8) as (port, process):
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
    parser.add_argument("--robots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--requests", type=int, default=0, help="the run with clients that misbehave")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--serve", choices=("pioxide", "peer", "chaos"), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=8, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.batch)
        return
    facts = machine() | {"load": load()}
    print(", ".join(f"{key} {facts[key]}" for key in ("cpu", "cores", "load")))
    if arguments.requests:
        result: dict[str, Any] = {"survived": survived(arguments.requests)}
        print(", ".join(f"{name} {value:,.0f}" for name, value in result["survived"].items()))
    else:
        rows = [
            ("openpi's way", "peer", 1),
            ("pioxide, one at a time", "pioxide", 1),
            ("pioxide", "pioxide", 16),
        ]
        result = {
            f"{name}, {robots} robots": measured(server, robots, batch, arguments.seconds)
            for robots in arguments.robots
            for name, server, batch in rows
        }
        table = Table(
            f"a policy server, {NETWORK} ms a batch",
            ("answers a second", "p50, ms", "p99, ms", "slowest robot's share"),
            {
                name: (f"{r['per_second']:.1f}", f"{r['p50']:.1f}", f"{r['p99']:.1f}", f"{r['fairness']:.2f}")
                for name, r in result.items()
            },
        )
        print(table.markdown() if arguments.markdown else table.text())
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": facts, "results": result}, indent=2))


if __name__ == "__main__":
    main()
