"""The slowest of many calls from Python: encode, decode, prompt, queue and safety, and their page faults.

    python benches/realtime.py            # a million calls of each; --calls N for another number

Each is beside what does that work in the reference stack, on the same inputs, a tenth as often: the published
FAST processor's way through transformers and SciPy, openpi's prompt through sentencepiece, openpi-client's
ActionChunkBroker, and NumPy's clip where robots have no filter. Ids, actions and prompts are compared first.

Prints one line of JSON a function; times are wall time in microseconds. Allocations are not counted: every
call from Python allocates its result. The chunks are those of `realtime.cpp`.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from material import ROOT  # noqa: F401  (tests/ can be imported from here on)
from pioxide.codec import FastCodec, Pi05Prompts, TextTokenizer
from pioxide.control import ActionQueue, Limits, OnEmpty, SafetyFilter
from pioxide.demo import text_model_path
from support.reference_stack import ReferenceFast, ReferencePrompts, TransformersBpe

try:
    from openpi_client.action_chunk_broker import ActionChunkBroker
    from openpi_client.base_policy import BasePolicy
except ImportError:  # `pip install --no-deps openpi-client`, and dm-tree
    ActionChunkBroker, BasePolicy = None, object

PYTHON, PEER = "Python", "reference"
HORIZON, DIM, MANY = 50, 14, 256


def make_chunks() -> np.ndarray:
    step = np.arange(HORIZON)[:, None] + 3.0 * np.arange(MANY)[:, None, None]
    joint = np.arange(DIM, dtype=float)
    return 0.8 * np.sin(step / (15 + joint) + joint) + 0.02 * np.sin(step * 12.9898 + joint * 78.233)


def page_faults() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt


def measure(name: str, calls: int, call: Callable[[int], object], whose: str = PYTHON) -> None:
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
    print(json.dumps({"from": whose, "call": name, "calls": calls, **rounded, "faults": faults}), flush=True)


class Planned(BasePolicy):
    """Answers the broker at once, with the chunk whose turn it is."""

    def __init__(self, chunks: np.ndarray) -> None:
        self.chunks, self.asked = chunks, 0

    def infer(self, obs: dict[str, Any]) -> dict[str, Any]:
        self.asked += 25
        return {"actions": self.chunks[(self.asked - 25) % MANY]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    calls = parser.parse_args().calls
    chunks = make_chunks()
    peer_calls = max(calls // 10, 1)
    codec = FastCodec.fit(list(chunks), vocab_size=1024)
    with tempfile.TemporaryDirectory() as folder:
        codec.save(Path(folder), horizon=HORIZON, dim=DIM)
        fast = ReferenceFast.load(Path(folder), TransformersBpe)
    ids = [codec.encode(chunk).ids for chunk in chunks]
    lists = [one.tolist() for one in ids]
    for chunk, one in zip(chunks, lists, strict=True):
        assert fast.encode(chunk) == one
        actions = codec.decode(one, horizon=HORIZON, dim=DIM).actions
        np.testing.assert_allclose(fast.decode(one, HORIZON, DIM), actions, rtol=0, atol=1e-9)
    measure("encode", calls, lambda at: codec.encode(chunks[at % MANY]))
    measure("encode", peer_calls, lambda at: fast.encode(chunks[at % MANY]), PEER)
    measure("decode", calls, lambda at: codec.decode(ids[at % MANY], horizon=HORIZON, dim=DIM))
    measure("decode", peer_calls, lambda at: fast.decode(lists[at % MANY], HORIZON, DIM), PEER)

    prompts, reference = (
        Pi05Prompts(TextTokenizer.load(text_model_path())),
        ReferencePrompts.load(text_model_path()),
    )
    task = "Fold the towel"
    for chunk in chunks:
        np.testing.assert_array_equal(
            prompts.encode(task, chunk[0]).tokens, reference.pi05(task, chunk[0]).tokens
        )
    measure("prompt", calls, lambda at: prompts.encode(task, chunks[at % MANY, 0]))
    measure("prompt", peer_calls, lambda at: reference.pi05(task, chunks[at % MANY, 0]), PEER)

    queue = ActionQueue(OnEmpty.HOLD)

    def tick(at: int) -> None:
        if at % 25 == 0:
            queue.put(chunks[at % MANY], queue.snapshot().consumed)
        queue.take()

    measure("queue", calls, tick)
    if ActionChunkBroker is None:
        print("SKIPPED: openpi-client is not here", flush=True)
    else:
        broker = ActionChunkBroker(Planned(chunks), 25)
        measure("queue", peer_calls, lambda at: broker.infer({}), PEER)

    safety = SafetyFilter(Limits(low=-1.0, high=1.0, velocity=2.0, acceleration=20.0), DIM, 1000.0)
    safety.reset(np.zeros(DIM))
    measure("safety", calls, lambda at: safety(chunks[at % MANY, 0]))
    measure("safety", peer_calls, lambda at: np.clip(chunks[at % MANY, 0], -1.0, 1.0), PEER)


if __name__ == "__main__":
    logging.getLogger("transformers").setLevel(logging.ERROR)
    main()
