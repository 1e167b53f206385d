"""The slowest of many calls from Python: encode, decode, prompt, queue and safety, and their page faults.

    python benches/realtime.py            # a million calls of each; --calls N for another number

Prints one line of JSON a function; times are wall time in microseconds. Allocations are not counted: every
call from Python allocates its result. The chunks are those of `realtime.cpp`.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import time
from collections.abc import Callable

import numpy as np

from pioxide.codec import FastCodec, Pi05Prompts, TextTokenizer
from pioxide.control import ActionQueue, Limits, OnEmpty, SafetyFilter
from pioxide.demo import text_model_path

HORIZON, DIM, MANY = 50, 14, 256


def make_chunks() -> np.ndarray:
    step = np.arange(HORIZON)[:, None] + 3.0 * np.arange(MANY)[:, None, None]
    joint = np.arange(DIM, dtype=float)
    return 0.8 * np.sin(step / (15 + joint) + joint) + 0.02 * np.sin(step * 12.9898 + joint * 78.233)


def page_faults() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt


def measure(name: str, calls: int, call: Callable[[int], object]) -> None:
    times = np.ones(calls)
    for at in range(1000):
        call(at)
    gc.collect()
    before = page_faults()
    for at in range(calls):
        began = time.perf_counter_ns()
        call(at)
        times[at] = time.perf_counter_ns() - began
    faults = page_faults() - before
    p50, p999, p9999, slowest = np.quantile(times / 1000, [0.5, 0.999, 0.9999, 1.0], method="lower")
    row = {"p50": p50, "p99.9": p999, "p99.99": p9999, "max": slowest}
    rounded = {key: round(float(value), 3) for key, value in row.items()}
    print(
        json.dumps({"from": "Python", "call": name, "calls": calls, **rounded, "faults": faults}), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    calls = parser.parse_args().calls
    chunks = make_chunks()
    codec = FastCodec.fit(list(chunks), vocab_size=1024)
    measure("encode", calls, lambda at: codec.encode(chunks[at % MANY]))
    ids = [codec.encode(chunk).ids for chunk in chunks]
    measure("decode", calls, lambda at: codec.decode(ids[at % MANY], horizon=HORIZON, dim=DIM))
    prompts = Pi05Prompts(TextTokenizer.load(text_model_path()))
    measure("prompt", calls, lambda at: prompts.encode("Fold the towel", chunks[at % MANY, 0]))
    queue = ActionQueue(OnEmpty.HOLD)

    def tick(at: int) -> None:
        if at % 25 == 0:
            queue.put(chunks[at % MANY], queue.snapshot().consumed)
        queue.take()

    measure("queue", calls, tick)
    safety = SafetyFilter(Limits(low=-1.0, high=1.0, velocity=2.0, acceleration=20.0), DIM, 1000.0)
    safety.reset(np.zeros(DIM))
    measure("safety", calls, lambda at: safety(chunks[at % MANY, 0]))


if __name__ == "__main__":
    main()
