"""Time a policy's call by stage, and its network against the plain computation, measure by measure.

The plain way is openpi's: all three cameras with the absent one masked, text padded to its full length,
layers by scan, a while loop with a float predicate, conditions computed in every step, keys and values of the
prefix copied beside those of the suffix in each layer of each step. Every row's actions are compared with the
plain ones before anything is timed.

    python benches/policy.py                         # what fits the device
    python benches/policy.py --model full --cameras 3
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from pioxide.codec import TextTokenizer
from pioxide.models import GemmaConfig, Observation, Pi0, Pi0Config
from pioxide.models.masks import block_mask, positions
from pioxide.models.pi0 import PrefixCache
from pioxide.policy import Guidance, Policy, PolicyOptions
from pioxide.policy.prepare import prepare
from pioxide.robots import Camera, RobotSpec, StatePart
from pioxide.sampling import pad_leftover, sample_actions, step_times
from support.text_model import write_text_model
from timing import load, machine, no_garbage_collection

STEPS = 10
# A prompt of the length that PERFORMANCE's figures are for: about 60 ids of 200.
WORDS = "pick up the bottle and put it on the table"


def config(name: str, dtype: Any) -> Pi0Config:
    """π0.5 in the sizes that a laptop, a small server and a GPU can hold."""
    if name == "tiny":
        made = replace(Pi0Config.tiny(pi05=True), text_len=200, action_dim=14)
        made = replace(made, language=replace(made.language, vocab=4096))
    elif name == "laptop":
        made = Pi0Config.laptop(pi05=True)
    elif name == "so400m-dummy":
        made = Pi0Config(language=GemmaConfig.dummy(), action=GemmaConfig.dummy(), pi05=True, text_len=200)
    else:
        made = Pi0Config.pi05_base()
    return replace(made, dtype=dtype, param_dtype=dtype)


def random_model(c: Pi0Config) -> Pi0:
    """Weights that matter, made leaf by leaf."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Pi0(c, nnx.Rngs(0))))
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> jax.Array:
        scale = (leaf.shape[-2] if len(leaf.shape) > 1 else 25) ** -0.5
        # A block of numbers again and again: billions of draws would take longer than the bench.
        block = rng.standard_normal(min(leaf.size, 1 << 20), np.float32) * np.float32(scale)
        return jnp.asarray(np.resize(block, leaf.shape), leaf.dtype)

    return nnx.merge(graph, jax.tree.map(draw, state))


def plain(model: Pi0, observation: Observation, noise: jax.Array) -> jax.Array:
    """The plain computation."""
    prefix = model.embed_prefix(observation)
    batch, length = prefix.valid.shape
    cache = model.language.empty_cache(batch, length, unroll=False)
    mask = block_mask(prefix.valid, prefix.starts)
    _, cache = model.language((prefix.tokens, None), positions(prefix.valid), mask, cache=cache)
    room = model.config.action_horizon + (0 if model.config.pi05 else 1)
    dt = -1.0 / STEPS

    def body(carry):
        x_t, t = carry
        longer = jax.tree.map(lambda a: jnp.pad(a, ((0, 0), (0, 0), (0, room), (0, 0), (0, 0))), cache)
        times = jnp.broadcast_to(t, (batch,))
        condition = model.condition(times)
        velocity, _ = model.cached_velocity(PrefixCache(longer, prefix.valid), observation, x_t, condition)
        return x_t + dt * velocity, t + dt

    start = (noise.astype(jnp.float32), jnp.float32(1.0))
    return jax.lax.while_loop(lambda carry: carry[1] >= -dt / 2, body, start)[0]


def observed(c: Pi0Config, cameras: int, text: int, real: int, *, absent: bool) -> Observation:
    size, rng = c.vision.image_size, np.random.default_rng(1)
    names = c.cameras if absent else c.cameras[:cameras]
    images = {
        name: rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8)
        if name in c.cameras[:cameras]
        else np.zeros((1, size, size, 3), np.uint8)
        for name in names
    }
    tokens = np.zeros((1, text), np.int32)
    tokens[0, :real] = rng.integers(3, 500, real)
    masks = {name: np.array([name in c.cameras[:cameras]]) for name in names}
    return Observation(images, masks, tokens, np.arange(text)[None] < real, None)


def rows(model: Pi0, c: Pi0Config, cameras: int, real: int) -> dict[str, tuple[Any, tuple]]:
    """Each adds one measure to the row above: a function of weights and inputs, and its arguments."""
    from pioxide.policy.compile import bucket, buckets

    noise = np.random.default_rng(2).standard_normal((1, c.action_horizon, c.action_dim), np.float32)
    graph, state = nnx.split(model)
    short = bucket(real, buckets(c.text_len))
    whole = observed(c, cameras, c.text_len, real, absent=True)
    present = observed(c, cameras, c.text_len, real, absent=False)
    padded = observed(c, cameras, short, real, absent=False)
    prepared = prepare(model, step_times(STEPS))
    own_graph, own = nnx.split(prepared.model)
    own_leaves, own_tree = jax.tree.flatten(own)
    leaves, tree = jax.tree.flatten(state)

    def merged(values):
        return nnx.merge(graph, jax.tree.unflatten(tree, values))

    def plainly(weights, o, n):
        return plain(merged(weights), o, n)

    def stepped(weights, o, n):
        return sample_actions(merged(weights), o, n, num_steps=STEPS, unroll=False)

    def unrolled(weights, o, n):
        return sample_actions(merged(weights), o, n, num_steps=STEPS, unroll=True)

    def laid_out(weights, o, n):
        values, conditions = weights
        mine = nnx.merge(own_graph, jax.tree.unflatten(own_tree, values))
        return sample_actions(mine, o, n, num_steps=STEPS, conditions=conditions)

    leaves, own_leaves = tuple(leaves), tuple(own_leaves)
    return {
        "plain, as openpi computes it": (plainly, (leaves, whole, noise)),
        "+ only the cameras that are there": (plainly, (leaves, present, noise)),
        f"+ text padded to {short}, not {c.text_len}": (plainly, (leaves, padded, noise)),
        "+ conditions once, cache in place, fixed steps": (stepped, (leaves, padded, noise)),
        "+ layers unrolled": (unrolled, (leaves, padded, noise)),
        "+ weights laid out (pioxide)": (laid_out, ((own_leaves, prepared.conditions), padded, noise)),
    }


def continued(model: Pi0, c: Pi0Config, cameras: int, real: int) -> dict[str, Callable[[], Any]]:
    """A chunk on its own, and one that continues half a chunk."""
    from pioxide.policy.compile import Flow, Inputs, Programs, Shape, bucket, buckets

    observation = observed(c, cameras, bucket(real, buckets(c.text_len)), real, absent=False)
    rng = np.random.default_rng(2)
    noise, before = (rng.standard_normal((1, c.action_horizon, c.action_dim), np.float32) for _ in range(2))
    left = pad_leftover(before[0, c.action_horizon // 2 :], 4, horizon=c.action_horizon, dim=c.action_dim)
    shape = Shape(tuple(observation.images), observation.tokens.shape[1])
    calls = {}
    for name, realtime in (("on its own", None), ("guided", Guidance()), ("as trained", "trained")):
        programs = Programs(model, Flow(STEPS, realtime))
        length = np.array([real], np.int32)
        inputs = Inputs(observation.images, observation.tokens, length, None, noise)
        if realtime is not None:
            inputs = inputs._replace(leftover=left)
        programs.compile(shape)
        calls[name] = lambda p=programs, i=inputs: p(shape, jax.device_put(i))
    return calls


def timed(calls: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, dict[str, Any]]:
    """Each in turn until the time is over: p50 and p99 on the clock, and median processor time."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    until = time.perf_counter() + seconds
    with no_garbage_collection():
        while time.perf_counter() < until or len(wall[next(iter(calls))]) < 3:
            for name, call in calls.items():
                begin, busy = time.perf_counter(), time.process_time()
                jax.block_until_ready(call())
                wall[name].append(time.perf_counter() - begin)
                cpu[name].append(time.process_time() - busy)
    return {
        name: {
            "p50": float(np.median(wall[name])),
            "p99": float(np.quantile(wall[name], 0.99)),
            "processor": float(np.median(cpu[name])),
            "calls": len(wall[name]),
        }
        for name in calls
    }


def floor(c: Pi0Config, cameras: int, text: int) -> dict[str, float]:
    """Operations and bytes of weights that a call can't do without, by phase."""
    v, g, e = c.vision, c.language.experts[0], c.action.experts[0]
    n, k, h, depth = c.language.heads, c.language.kv_heads, c.language.head_dim, c.language.depth
    each = v.tokens * (2 * (4 * v.width**2 + 2 * v.width * v.mlp) + 4 * v.tokens * v.width)
    vision = cameras * (v.depth * each + 2 * v.tokens * v.width * (v.patch**2 * 3 + g.width))
    prefix = cameras * v.tokens + text

    def layer(width: int, mlp: int) -> int:
        return width * h * (2 * n + 2 * k) + 3 * width * mlp

    language = (depth - 1) * (2 * prefix * layer(g.width, g.mlp) + 4 * prefix**2 * n * h)
    language += 2 * prefix * g.width * 2 * k * h
    horizon = c.action_horizon
    step = depth * (2 * horizon * layer(e.width, e.mlp) + 4 * horizon * (prefix + horizon) * n * h)
    step += 4 * horizon * c.action_dim * e.width
    size = jnp.dtype(c.param_dtype).itemsize
    weights = v.depth * (4 * v.width**2 + 2 * v.width * v.mlp)
    return {
        "vision": float(vision),
        "vision_bytes": float(size * weights),
        "language": float(language),
        "language_bytes": float(size * (depth - 1) * layer(g.width, g.mlp)),
        "steps": float(STEPS * step),
        "steps_bytes": float(size * STEPS * depth * layer(e.width, e.mlp)),
    }


def rates(dtype: Any) -> tuple[float, float]:
    """Operations and bytes a second that this device reaches, the best of several tries."""
    gpu = jax.default_backend() != "cpu"
    edge, many = (8192, 1 << 30) if gpu else (1536, 1 << 27)
    a, b = jnp.ones((edge, edge), dtype), jnp.ones((edge, edge), dtype)
    multiply, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    flat = jnp.zeros(many // 4, jnp.float32)

    def best(call: Callable[[], Any]) -> float:
        jax.block_until_ready(call())
        tries = []
        for _ in range(15):
            begin = time.perf_counter()
            jax.block_until_ready(call())
            tries.append(time.perf_counter() - begin)
        return min(tries)

    return 2 * edge**3 / best(lambda: multiply(a, b)), 2 * many / best(lambda: copy(flat))


def policy_stages(model: Pi0, c: Pi0Config, cameras: int, seconds: float, folder: Path) -> dict[str, Any]:
    """A whole call, from 480 x 640 images and numbers to actions, by stage."""
    tokenizer = TextTokenizer.load(write_text_model(folder / "text.model"))
    robot = RobotSpec(
        "bench",
        tuple(Camera(f"image_{i}", slot, required=i < cameras) for i, slot in enumerate(c.cameras)),
        (StatePart("state", 14),),
        14,
    )
    policy = Policy(model, robot, None, tokenizer, options=PolicyOptions(num_steps=STEPS))
    rng = np.random.default_rng(3)
    slots = c.cameras[:cameras]
    compiled = policy.warm_up([WORDS], cameras=[slots])

    def observe() -> dict[str, Any]:
        images = {f"image_{i}": rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for i in range(cameras)}
        return {**images, "state": rng.uniform(-1, 1, 14), "prompt": WORDS}

    policy(observe())
    shapes = policy.programs.shapes
    stages: list[Any] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(stages) < 5:
        stages.append(policy(observe()).timing)
    assert policy.programs.shapes == shapes, "a call had to compile"
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


def bench(name: str, cameras: int, real: int, seconds: float, folder: Path) -> dict[str, Any]:
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    c = config(name, dtype)
    model = random_model(c)
    multiply, copy = rates(dtype)
    calls, compiled, answers = {}, {}, {}
    for row, (function, (weights, observation, noise)) in rows(model, c, cameras, real).items():
        begin = time.perf_counter()
        program = jax.jit(function).lower(weights, observation, noise).compile()
        compiled[row] = time.perf_counter() - begin

        def call(program=program, weights=weights, observation=observation, noise=noise):
            return program(weights, *jax.device_put((observation, noise)))

        calls[row], answers[row] = call, np.asarray(call())
    first = next(iter(answers.values()))
    scale = float(np.abs(first).max())
    apart = {row: float(np.abs(answer - first).max()) / scale for row, answer in answers.items()}
    limit = 1e-3 if dtype == jnp.float32 else 0.1
    assert max(apart.values()) < limit, f"rows disagree: {apart}"
    measured = timed(calls, seconds)
    needed = floor(c, cameras, real)
    least = sum(
        max(needed[phase] / multiply, needed[f"{phase}_bytes"] / copy)
        for phase in ("vision", "language", "steps")
    )
    for row in measured:
        measured[row] |= {"compile": compiled[row], "apart": apart[row]}
    return {
        "model": name,
        "cameras": cameras,
        "text": real,
        "flop": sum(needed[p] for p in ("vision", "language", "steps")),
        "multiply": multiply,
        "copy": copy,
        "floor": least,
        "rows": measured,
        "realtime": timed(continued(model, c, cameras, real), seconds / 3),
        "policy": policy_stages(model, c, cameras, seconds / 3, folder),
    }


def show(result: dict[str, Any]) -> None:
    print(f"\nπ0.5 {result['model']}, {result['cameras']} of 3 cameras, {result['text']} ids of text")
    print(
        f"{'':50s} {'p50 ms':>9s} {'p99 ms':>9s} {'cpu ms':>9s} {'ratio':>6s} {'apart':>8s} {'compile s':>9s}"
    )
    base = next(iter(result["rows"].values()))
    for name, row in result["rows"].items():
        print(
            f"{name:50s} {row['p50'] * 1e3:9.1f} {row['p99'] * 1e3:9.1f} {row['processor'] * 1e3:9.1f} "
            f"{base['p50'] / row['p50']:5.2f}x {row['apart']:8.1e} {row['compile']:9.1f}"
        )
    print(
        f"{'floor':50s} {result['floor'] * 1e3:9.1f}   {result['flop'] / 1e9:.0f} GFLOP at "
        f"{result['multiply'] / 1e9:.0f} GFLOP/s, weights at {result['copy'] / 1e9:.0f} GB/s"
    )
    base = result["realtime"]["on its own"]
    for name, row in result["realtime"].items():
        print(
            f"a chunk {name:42s} {row['p50'] * 1e3:9.1f} {row['p99'] * 1e3:9.1f} "
            f"{row['processor'] * 1e3:9.1f} {base['p50'] / row['p50']:5.2f}x"
        )
    whole = result["policy"]
    print(
        f"a whole call ({whole['calls']}): p50 {whole['p50'] * 1e3:.1f} ms, p99 {whole['p99'] * 1e3:.1f} ms"
    )
    for stage, row in whole["stages"].items():
        print(f"  {stage:12s} {row['p50'] * 1e3:9.2f} {row['p99'] * 1e3:9.2f}")


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", choices=["tiny", "laptop", "so400m-dummy", "full"])
    parser.add_argument("--cameras", type=int, default=2, choices=[1, 2, 3])
    parser.add_argument("--text", type=int, default=60, help="ids in the prompt")
    parser.add_argument("--seconds", type=float, default=60, help="for each model")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    gpu = jax.default_backend() != "cpu"
    facts = machine() | {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "load": load(),
    }
    print(", ".join(f"{key} {facts[key]}" for key in ("cpu", "cores", "device", "jax", "load")))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.model or (["full"] if gpu else ["laptop", "so400m-dummy"]):
            result = bench(name, arguments.cameras, arguments.text, arguments.seconds, Path(folder))
            show(result)
            results.append(result)
            if arguments.json:
                arguments.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2))


if __name__ == "__main__":
    main()
