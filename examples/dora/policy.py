"""A dora node that plays a policy server's chunks: pictures and joints in, one action a tick out.

Runs on the robot's computer, without JAX: the action queue, the runner and the safety filter of
`pioxide.control`, in front of a `pioxide.serve.Client`. See dora-node.yml for its inputs and outputs.
"""

import os

import numpy as np
import pyarrow as pa
from dora import Node

from pioxide.control import ActionQueue, Limits, OnEmpty, Runner, SafetyFilter
from pioxide.serve import Client, RemoteWorker


def main() -> None:
    """Ticks with the joints; ends with the dataflow."""
    node = Node()
    with Client(os.environ.get("SERVER", "ws://127.0.0.1:8000")) as client:
        told = client.metadata["pioxide"]
        schema = told["observation"]["properties"]
        keys = [key for key, what in schema.items() if "slot" in what]
        cameras = {key.replace("/", ".").split(".")[-1]: key for key in keys}
        needed = set(keys) & set(told["observation"]["required"])
        parts = [(key, what["shape"][0]) for key, what in schema.items() if "names" in what]
        (words,) = (key for key, what in schema.items() if what["type"] == "string")
        seen = {words: os.environ["PROMPT"]} if "PROMPT" in os.environ else {}
        limits = Limits(velocity=float(os.environ.get("VELOCITY", "1.0")))
        dim = told["answer"]["actions"]["shape"][1]
        safety = SafetyFilter(limits, dim, told["hz"])
        worker, queue = RemoteWorker(client), ActionQueue(OnEmpty.HOLD)
        with Runner(worker, queue, told["horizon"] // 2, safety, starvation_grace=50) as runner:
            started = False
            for event in node:
                if event["type"] != "INPUT":
                    continue
                if (key := cameras.get(event["id"])) is not None:
                    seen[key] = picture(event)
                    continue
                if event["id"] != "joints":
                    continue
                joints = event["value"].to_numpy().astype(np.float64)
                first = 0
                for key, size in parts:
                    seen[key] = joints[first : first + size]
                    first += size
                if not needed <= seen.keys():
                    continue  # a camera has not said anything yet
                if not started:
                    runner.reset(joints[:dim])
                    started = True
                action, _ = runner.step(dict(seen))
                client.limits = safety.counts
                if action is not None:
                    node.send_output("action", pa.array(action), {"state": runner.state.value})


def picture(event) -> np.ndarray:
    """Returns [h, w, 3] uint8 RGB of an image as dora's nodes send it: flat, its size and order beside it."""
    about = event["metadata"]
    encoding = about.get("encoding", "rgb8")
    if encoding not in ("rgb8", "bgr8"):
        raise ValueError(f"{event['id']}: encoding {encoding!r}; this node reads rgb8 and bgr8")
    pixels = event["value"].to_numpy().reshape(about["height"], about["width"], 3)
    return np.ascontiguousarray(pixels[..., ::-1] if encoding == "bgr8" else pixels)


if __name__ == "__main__":
    main()
