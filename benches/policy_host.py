"""What surrounds the network: a call by stage, the upload, and the start with and without kept programs.

python benches/policy_host.py pi05 small --cameras 2 --keep FOLDER    # one start, as JSON
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import jax
import numpy as np

from networks import KINDS, SIZES, STEPS, Config, Model, config, observed, random_model, timed
from pioxide.codec import TextTokenizer
from pioxide.models import Pi0Fast, Pi0FastConfig
from pioxide.models.observation import to_float
from pioxide.policy import FlowSampler, Policy, PolicyOptions, agree, keep_programs, model_contract
from pioxide.robots import Camera, RobotSpec, StatePart
from pioxide.transforms import NormRule
from policy_fast import fitted_codec
from support.text_model import write_text_model

WORDS = "pick up the bottle and put it on the table"


def made_policy(model: Model, cameras: int) -> Policy:
    """A policy of a model, for a robot that has `cameras` at least."""
    c = model.config
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = TextTokenizer.load(write_text_model(Path(folder) / "text.model", c.language.vocab))
    robot = RobotSpec(
        "bench",
        tuple(Camera(f"image_{i}", slot, required=i < cameras) for i, slot in enumerate(c.cameras)),
        (StatePart("state", 14),),
        14,
        delta_mask=(),
    )
    identity = NormRule.openpi("identity")
    base = model_contract(c)
    base = replace(
        base,
        state_norm=identity,
        action_norm=identity,
        state_in_text=not c.family.state_is_vector,
    )
    codec = fitted_codec() if isinstance(model, Pi0Fast) else None
    options = None if codec else PolicyOptions(sampler=FlowSampler(STEPS))
    return Policy(model, agree(base, robot), tokenizer, codec=codec, options=options)


def call_stages(model: Model, cameras: int, seconds: float) -> dict[str, Any]:
    """A whole call, from 480 x 640 images and numbers to actions, by stage."""
    policy, rng = made_policy(model, cameras), np.random.default_rng(3)
    compiled = policy.warm_up([WORDS], cameras=[model.config.cameras[:cameras]])

    def observe() -> dict[str, Any]:
        # A joint's bin is one digit of text or three, so that the text has another length in every call.
        state = np.where(rng.random(14) < rng.random(), -1.0, rng.uniform(0, 1, 14))
        images = {f"image_{i}": rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for i in range(cameras)}
        return {**images, "state": state, "prompt": WORDS}

    policy(observe())
    shapes = policy.engine.shapes
    stages: list[Any] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(stages) < 5:
        stages.append(policy(observe()).timing)
    assert policy.engine.shapes == shapes, "a call had to compile"
    table = np.array(stages)
    total = table.sum(1)
    return {
        "calls": len(stages),
        "compile": {str(shape.text): seconds for shape, seconds in compiled.items()},
        "p50": float(np.median(total)),
        "p99": float(np.quantile(total, 0.99)),
        "stages": {
            name: {"p50": float(np.median(column)), "p99": float(np.quantile(column, 0.99))}
            for name, column in zip(stages[0]._fields, table.T, strict=True)
        },
    }


def uploads(c: Config, cameras: int, text: int) -> dict[str, Callable[[], Any]]:
    """A call's inputs to the device, from fitted images: each adds one measure to the one above."""
    fast, rng = isinstance(c, Pi0FastConfig), np.random.default_rng(2)
    seen = observed(c, cameras, text, text, absent=fast)
    random = rng.integers(0, 1 << 32, 2, np.uint32)
    if not fast:
        random = rng.standard_normal((1, c.action_horizon, c.action_dim), np.float32)

    def one_by_one(images: dict[str, Any]) -> Any:
        return jax.tree.map(jax.device_put, (seen._replace(images=images), random))

    def floats() -> Any:
        return one_by_one({k: image.astype(np.float32) / 255 * 2 - 1 for k, image in seen.images.items()})

    ways = {
        "float32 images, one array after another": floats,
        "+ uint8 images": lambda: one_by_one(seen.images),
        "+ one upload (pioxide)": lambda: jax.device_put((seen, random)),
    }
    plain, *others = (jax.tree.map(to_float, way()[0].images) for way in ways.values())
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), plain, other)
    return ways


def uploaded(c: Config, cameras: int, text: int, seconds: float) -> dict[str, Any]:
    return timed(uploads(c, cameras, text), seconds)


def starts(kind: str, size: str, cameras: int) -> dict[str, dict[str, float]]:
    """Seconds of a process's start: nothing kept, keeping its programs, and finding them kept."""
    with tempfile.TemporaryDirectory() as folder:
        keep = ["--keep", folder]
        return {
            "no programs kept": _start(kind, size, cameras, []),
            "first start with keep_programs": _start(kind, size, cameras, keep),
            "every later one": _start(kind, size, cameras, keep),
        }


def _start(kind: str, size: str, cameras: int, options: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, kind, size, "--cameras", str(cameras), *options]
    # Beside the bench's own process, which has most of a GPU's memory.
    beside = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=beside)
    if done.returncode:
        raise RuntimeError(f"a start failed: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def start(kind: str, size: str, cameras: int) -> dict[str, float]:
    """Lays out a random model's weights, and compiles all lengths of the bench's prompt."""
    model = random_model(config(kind, size))
    begin = time.perf_counter()
    policy = made_policy(model, cameras)
    laid_out = time.perf_counter()
    shapes = policy.warm_up([WORDS], cameras=[model.config.cameras[:cameras]])
    return {
        "weights": laid_out - begin,
        "compile": time.perf_counter() - laid_out,
        "shapes": len(shapes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("model", choices=SIZES)
    parser.add_argument("--cameras", type=int, default=2, choices=[1, 2, 3])
    parser.add_argument("--keep", type=Path, help="folder of kept programs")
    arguments = parser.parse_args()
    if arguments.keep:
        keep_programs(arguments.keep)
    print(json.dumps(start(arguments.kind, arguments.model, arguments.cameras)))


if __name__ == "__main__":
    main()
