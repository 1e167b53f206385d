"""Simulates `pioxide tokenize` on DROID, and on a thousand times as much, from rates that were measured.

Shards are given to cores as they become free; a node's cores share its network, and all share the requests
a second that the store takes. Nothing is run: what a frame costs is in `Rates` (docs/benchmarks.md), and what
was not measured is in `Cloud`. It prints the table of docs/scale.md.

    python benches/scale_tokens.py
"""

import heapq
from dataclasses import dataclass

DROID_FRAMES, SHARD_FRAMES = 27_000_000, 65_536


@dataclass(frozen=True)
class Rates:
    """What was measured: pi0_fast, chunks of 50 x 26, on one busy core of an EPYC."""

    core_seconds_a_frame: float = 30e-6  # 25 to 33
    data_bytes_a_frame: float = 252.0  # Parquet with state and actions of 26 joints, and the index columns
    token_bytes_a_row: float = 142.2
    # To start, and to open a dataset of 92,000 episodes four times: resolved, planned, checked, made.
    begin_seconds: float = 5.0
    puts_a_shard: int = 2  # the shard and its record
    # Of a thread's time, during which others of its process wait: two threads were 1.68 times as fast as one.
    alone: float = 2 / 1.68 - 1


@dataclass(frozen=True)
class Cloud:
    """What is assumed of machines and of a store; prices as published."""

    cores: int = 64
    network_bytes_a_second: float = 12.5e9 / 8
    request_seconds: float = 0.05
    puts_a_second: float = 3_500.0  # under one prefix
    ray_seconds: float = 15.0  # for Ray to start its workers
    dollars_a_core_hour: float = 0.045
    dollars_a_put: float = 0.005 / 1000


RATES, CLOUD = Rates(), Cloud()


def job(frames: int, nodes: int, ray: bool) -> dict[str, float]:
    """Returns the seconds of one job, by stage: threads of one process on a node, or processes of Ray."""
    shards = -(-frames // SHARD_FRAMES)
    copy = frames * RATES.data_bytes_a_frame / CLOUD.network_bytes_a_second  # all of it, to every node
    begin = RATES.begin_seconds + CLOUD.ray_seconds * ray
    make = SHARD_FRAMES * RATES.core_seconds_a_frame
    if not ray:
        make *= RATES.alone * CLOUD.cores + 1 - RATES.alone
    send = SHARD_FRAMES * RATES.token_bytes_a_row * CLOUD.cores / CLOUD.network_bytes_a_second
    send += RATES.puts_a_shard * CLOUD.request_seconds
    free = [copy + begin] * min(nodes * CLOUD.cores, shards)
    end = 0.0
    for number in range(shards):
        done = heapq.heappop(free) + make + send
        heapq.heappush(free, done)
        end = max(end, done, (number + 1) * RATES.puts_a_shard / CLOUD.puts_a_second)
    return {"all": end, "copy": copy, "begin": begin, "make": end - copy - begin, "shards": shards}


def main() -> None:
    print("| what | nodes | seconds | copying | beginning | making | $ of machines | $ of requests |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    rows = [("DROID, threads", 1, 1, False)]
    rows += [("DROID, Ray", 1, nodes, True) for nodes in (1, 4, 16)]
    rows += [("1,000 of that size, one a node at a time, Ray", 1000, nodes, True) for nodes in (1, 16, 256)]
    for what, jobs, nodes, ray in rows:
        one = job(DROID_FRAMES, 1 if jobs > 1 else nodes, ray)
        turns = -(-jobs // nodes) if jobs > 1 else 1
        seconds = one["all"] * turns
        machines = seconds / 3600 * nodes * CLOUD.cores * CLOUD.dollars_a_core_hour
        requests = jobs * one["shards"] * RATES.puts_a_shard * CLOUD.dollars_a_put
        stages = " | ".join(f"{one[stage] * turns:,.0f}" for stage in ("copy", "begin", "make"))
        print(f"| {what} | {nodes} | {seconds:,.0f} | {stages} | {machines:,.2f} | {requests:,.3f} |")


if __name__ == "__main__":
    main()
