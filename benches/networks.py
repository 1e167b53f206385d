"""Random networks, what they see, and rows of a table: compiled, called and timed in turns."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pioxide.models import GemmaConfig, Observation, Pi0, Pi0Config, Pi0Fast, Pi0FastConfig
from timing import load, machine, no_garbage_collection

STEPS = 10
# H and D of π0-FAST's chunks, and its longest answer.
FAST_HORIZON, FAST_DIM, FAST_ROOM = 16, 14, 256

# The last row's name: the one measure that changes the answer.
INEXACT = "+ matrices in 8 bits (opt-in, other actions)"

NAMES = {"pi05": "π0.5", "pi0": "π0", "pi0_fast": "π0-FAST"}
KINDS = tuple(NAMES)
SIZES = ("tiny", "small", "so400m-dummy", "full")
# Ids of a prompt: π0 has no state in it.
TEXT = {"pi05": 60, "pi0": 20, "pi0_fast": 60}

Config = Pi0Config | Pi0FastConfig
Model = Pi0 | Pi0Fast


def device_dtype() -> Any:
    """What a policy computes in on this device."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16


def device_facts() -> dict[str, str]:
    """What figures are measured on, which is printed as well."""
    facts = machine() | {"jax": jax.__version__, "device": jax.devices()[0].device_kind, "load": load()}
    print(", ".join(f"{key} {facts[key]}" for key in ("cpu", "cores", "device", "jax", "load")))
    return facts


def config(kind: str, size: str) -> Config:
    """A model in a size that a laptop, a small server or a GPU can hold."""
    if size not in SIZES:  # anything else would be the full one, which takes 17 GB
        raise ValueError(f"size {size!r}: expected one of {', '.join(SIZES)}")
    made = _fast_config(size) if kind == "pi0_fast" else _flow_config(size, pi05=kind == "pi05")
    return replace(made, dtype=device_dtype(), param_dtype=device_dtype())


def _flow_config(size: str, *, pi05: bool) -> Pi0Config:
    if size == "tiny":
        made = replace(Pi0Config.tiny(pi05=pi05), text_len=200 if pi05 else 48, action_dim=14)
        return replace(made, language=replace(made.language, vocab=4096))
    if size == "small":
        return Pi0Config.small(pi05=pi05)
    if size == "so400m-dummy":
        dummy = GemmaConfig.dummy()
        return Pi0Config(language=dummy, action=dummy, pi05=pi05, text_len=200 if pi05 else 48)
    return Pi0Config.pi05_base() if pi05 else Pi0Config.pi0()


def _fast_config(size: str) -> Pi0FastConfig:
    if size == "tiny":
        made = replace(Pi0FastConfig.tiny(), text_len=250)
        made = replace(made, language=replace(made.language, vocab=4096))
    elif size == "small":
        made = Pi0FastConfig.small()
    elif size == "so400m-dummy":
        made = Pi0FastConfig(language=GemmaConfig.dummy())
    else:
        made = Pi0FastConfig.pi0_fast()
    return replace(made, action_horizon=FAST_HORIZON, action_dim=FAST_DIM)


def random_model(c: Config) -> Any:
    """Weights that matter, made leaf by leaf."""
    make = Pi0 if isinstance(c, Pi0Config) else Pi0Fast
    graph, state = nnx.split(nnx.eval_shape(lambda: make(c, nnx.Rngs(0))))
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> jax.Array:
        scale = (leaf.shape[-2] if len(leaf.shape) > 1 else 25) ** -0.5
        if leaf.shape[:1] == (c.language.vocab,):
            # The embedding: tokens that still matter beside all that layers add to them.
            scale = 4 * leaf.shape[-1] ** -0.5
        # A block of numbers again and again: billions of draws would take longer than the bench. It is no
        # multiple of a width, so that no two tokens or layers are the same.
        block = rng.standard_normal(min(leaf.size, (1 << 20) + 7), np.float32) * np.float32(scale)
        return jnp.asarray(np.resize(block, leaf.shape), leaf.dtype)

    return nnx.merge(graph, jax.tree.map(draw, state))


def observed(c: Config, cameras: int, text: int, real: int, *, absent: bool) -> Observation:
    """What the first `cameras` see; the others are left out, or `absent`: black and masked."""
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
    reads_state = isinstance(c, Pi0Config) and not c.pi05
    state = rng.standard_normal((1, c.action_dim), np.float32) if reads_state else None
    return Observation(images, masks, tokens, np.arange(text)[None] < real, state)


class Apart(NamedTuple):
    """A module's leaves, which a program takes as arguments, and how they become the module again."""

    leaves: tuple[jax.Array, ...]
    merge: Callable[[Any], Any]


def apart(module: nnx.Module) -> Apart:
    graph, state = nnx.split(module)
    leaves, tree = jax.tree.flatten(state)
    return Apart(tuple(leaves), lambda values: nnx.merge(graph, jax.tree.unflatten(tree, values)))


@dataclass(frozen=True)
class Row:
    """One way to compute an answer: a function of weights, which stay on the device, and of its inputs."""

    function: Callable[..., Any]
    weights: Any
    inputs: tuple[Any, ...]


class Compiled(NamedTuple):
    """A row's call from inputs on the host to an answer on the device, and the seconds to compile it."""

    call: Callable[[], Any]
    seconds: float


def compiled(row: Row) -> Compiled:
    begin = time.perf_counter()
    program = jax.jit(row.function).lower(row.weights, *row.inputs).compile()
    seconds = time.perf_counter() - begin
    return Compiled(lambda: program(row.weights, *jax.device_put(row.inputs)), seconds)


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


class Phase(NamedTuple):
    """Operations that a call can't do without, bytes of weights that it has to read, and how many times."""

    operations: float
    bytes: float
    times: int = 1


def vision_phase(c: Config, cameras: int) -> Phase:
    v, width = c.vision, c.language.experts[0].width
    each = v.tokens * (2 * (4 * v.width**2 + 2 * v.width * v.mlp) + 4 * v.tokens * v.width)
    operations = cameras * (v.depth * each + 2 * v.tokens * v.width * (v.patch**2 * 3 + width))
    return Phase(operations, _itemsize(c) * v.depth * (4 * v.width**2 + 2 * v.width * v.mlp))


def prefix_phase(c: Config, cameras: int, text: int) -> Phase:
    """All layers over the prefix; of the last one the keys and values."""
    g, expert = c.language, c.language.experts[0]
    prefix = cameras * c.vision.tokens + text
    layers = (g.depth - 1) * (
        2 * prefix * layer_weights(g) + 4 * prefix**2 * g.heads * g.head_dim
    ) + 2 * prefix * expert.width * 2 * g.kv_heads * g.head_dim
    return Phase(layers, _itemsize(c) * (g.depth - 1) * layer_weights(g))


def pass_phase(c: Config, language: GemmaConfig, tokens: int, prefix: int, ends: int, times: int) -> Phase:
    """`times` passes of some tokens behind a prefix, with `ends` weights before and behind the layers."""
    heads = language.heads * language.head_dim
    operations = language.depth * (
        2 * tokens * layer_weights(language) + 4 * tokens * (prefix + tokens) * heads
    )
    weights = language.depth * layer_weights(language) + ends
    return Phase(operations + 2 * tokens * ends, _itemsize(c) * weights, times)


def layer_weights(language: GemmaConfig) -> int:
    expert, heads = language.experts[0], 2 * language.heads + 2 * language.kv_heads
    return expert.width * language.head_dim * heads + 3 * expert.width * expert.mlp


def _itemsize(c: Config) -> int:
    return jnp.dtype(c.param_dtype).itemsize


def floor(phases: Mapping[str, Phase]) -> dict[str, float]:
    """Seconds that the phases take at this device's rates, and what they were made of."""
    multiply, read = rates(device_dtype())
    least = sum(p.times * max(p.operations / multiply, p.bytes / read) for p in phases.values())
    return {
        "floor": least,
        "flop": float(sum(p.times * p.operations for p in phases.values())),
        "multiply": multiply,
        "read": read,
    }


@functools.cache
def rates(dtype: Any) -> tuple[float, float]:
    """Operations a second, and bytes read a second, that this device reaches: the best of several tries."""
    gpu = jax.default_backend() != "cpu"
    edge, many = (8192, 1 << 30) if gpu else (1536, 1 << 28)
    square = jnp.ones((edge, edge), dtype)
    weights = jnp.ones((many // jnp.dtype(dtype).itemsize // 4096, 4096), dtype)
    multiply, add = jax.jit(jnp.matmul), jax.jit(jnp.sum)

    def best(call: Callable[[], Any]) -> float:
        jax.block_until_ready(call())
        tries = []
        for _ in range(15):
            begin = time.perf_counter()
            jax.block_until_ready(call())
            tries.append(time.perf_counter() - begin)
        return min(tries)

    reading = min(best(lambda: multiply(weights, weights[0])), best(lambda: add(weights)))
    return 2 * edge**3 / best(lambda: multiply(square, square)), many / reading
