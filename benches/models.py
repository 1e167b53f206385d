"""Time compiling and running one step of each model, in training and in inference, against the plain way.

Training is the loss and the gradient of every parameter. The plain way is openpi's: all three cameras with
the absent one masked, text padded to its full length, layers by scan and computed again on the way back, and
for π0-FAST cross entropy from one-hot targets over the whole vocabulary at every position of the text. Each
row adds one measure to the row above. Losses and gradients are compared with the plain ones before anything
is timed. What is printed is Markdown, for docs/models.md.

    python benches/models.py                             # what fits the device
    python benches/models.py --model full --only pi05
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pioxide.models import GemmaConfig, Observation, Pi0, Pi0Config, Pi0Fast, Pi0FastConfig
from pioxide.models.masks import block_mask
from pioxide.models.prefix import embed_prefix
from pioxide.policy.compile import bucket, buckets
from pioxide.policy.prepare import prepare
from pioxide.sampling import sample_actions, step_times
from policy import timed
from timing import load, machine

Config = Pi0Config | Pi0FastConfig
NAMES = {"pi0": "π0", "pi05": "π0.5", "pi0_fast": "π0-FAST"}
# Ids of the prompt; π0's has no state in it. An answer of π0-FAST is as long as a G1's chunk of 16 steps.
PROMPT = {"pi0": 20, "pi05": 60, "pi0_fast": 60}
ANSWER, LOSS_TOKENS = 58, 64


class Row(NamedTuple):
    """A function of weights and inputs, and its arguments."""

    function: Callable[..., Any]
    weights: tuple[jax.Array, ...]
    inputs: tuple[Any, ...]


class Weights(NamedTuple):
    """A model's parameters as plain leaves (or their shapes), and what makes a model of them."""

    leaves: tuple[Any, ...]
    structure: Any
    graph: Any

    def model(self, leaves: tuple[Any, ...]) -> Any:
        return nnx.merge(self.graph, jax.tree.unflatten(self.structure, leaves))


def config(kind: str, size: str) -> Config:
    """A model in the sizes that a test, a laptop, a small server and a GPU can hold."""
    flow = {"pi05": kind == "pi05"}
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    made: Config
    if size == "tiny":
        made = Pi0FastConfig.tiny() if kind == "pi0_fast" else Pi0Config.tiny(**flow)
        made = replace(made, text_len={"pi0": 48, "pi05": 200, "pi0_fast": 250}[kind])
    elif size == "laptop":
        made = Pi0FastConfig.laptop() if kind == "pi0_fast" else Pi0Config.laptop(**flow)
    else:
        released = {"pi0": Pi0Config.pi0, "pi05": Pi0Config.pi05_base, "pi0_fast": Pi0FastConfig.pi0_fast}
        made = released[kind]()
        if size == "so400m-dummy":
            small = {"language": GemmaConfig.dummy()}
            made = replace(made, **(small | ({"action": GemmaConfig.dummy()} if kind != "pi0_fast" else {})))
    # Parameters are float32 in training, whatever layers compute in.
    return replace(made, dtype=dtype, param_dtype=jnp.float32)


def deep(c: Config, layers: int) -> Config:
    """The same with so many layers in every stack."""
    stacks = ("vision", "language", *(("action",) if isinstance(c, Pi0Config) else ()))
    return replace(c, **{name: replace(getattr(c, name), depth=layers) for name in stacks})


def shapes(c: Config) -> Weights:
    make = Pi0 if isinstance(c, Pi0Config) else Pi0Fast
    graph, state = nnx.split(nnx.eval_shape(lambda: make(c, nnx.Rngs(0))))
    leaves, structure = jax.tree.flatten(state)
    return Weights(tuple(leaves), structure, graph)


def random(c: Config) -> Weights:
    """Weights that matter."""
    # A block of numbers again and again: billions of draws would take longer than the bench.
    block = np.random.default_rng(0).standard_normal(1 << 20, np.float32)

    def draw(leaf: Any) -> jax.Array:
        scale = np.float32((leaf.shape[-2] if len(leaf.shape) > 1 else 25) ** -0.5)
        return jnp.asarray(np.resize(block * scale, leaf.shape), leaf.dtype)

    weights = shapes(c)
    return weights._replace(leaves=tuple(draw(leaf) for leaf in weights.leaves))


def moments(
    c: Config, cameras: int, text: int, prompt: int, batch: int, *, absent: str, answer: int = 0
) -> Observation:
    """A batch of moments of `cameras` cameras.

    `absent` says what became of the others: "masked" or "seen", and black, or "left out".
    """
    size, rng = c.vision.image_size, np.random.default_rng(1)
    there = c.cameras[:cameras]
    named = there if absent == "left out" else c.cameras
    black = np.zeros((batch, size, size, 3), np.uint8)
    images = {n: rng.integers(0, 256, black.shape, dtype=np.uint8) if n in there else black for n in named}
    masks = {n: np.full(batch, n in there or absent == "seen") for n in named}
    slots = np.arange(text)[None].repeat(batch, 0)
    valid = slots < prompt + answer
    tokens = np.zeros((batch, text), np.int32)
    tokens[:, : prompt + answer] = rng.integers(3, 500, (batch, prompt + answer))
    state = rng.standard_normal((batch, c.action_dim), np.float32)
    answers = valid & (slots >= prompt)
    causal = (answers.astype(np.int32), answers) if isinstance(c, Pi0FastConfig) else (None, None)
    return Observation(images, masks, tokens, valid, state, *causal)


def one_hot_loss(model: Pi0Fast, observation: Observation) -> jax.Array:
    """π0-FAST's loss the plain way: one-hot over the whole vocabulary, at every position of the text."""
    assert observation.token_loss is not None
    prefix = embed_prefix(model.vision, model.language, observation, model.config.cameras)
    mask = block_mask(prefix.valid, prefix.starts)[:, :-1, :-1]
    slots = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape[:2])
    (out,), _ = model.language((prefix.tokens[:, :-1],), slots, mask)
    targets = jax.nn.one_hot(observation.tokens[:, 1:], model.language.config.vocab)
    scores = jax.nn.log_softmax(model.language.logits(out[:, -targets.shape[1] :]), axis=-1)
    carries = observation.token_loss[:, 1:]
    return -jnp.sum(jnp.sum(targets * scores, axis=-1) * carries, axis=-1) / jnp.sum(carries, axis=-1)


def training(kind: str, c: Config, weights: Weights, cameras: int, batch: int) -> dict[str, Row]:
    """Loss and gradients; each row adds one measure to the row above."""
    answer = ANSWER if kind == "pi0_fast" else 0
    prompt, real = PROMPT[kind], PROMPT[kind] + answer
    short = bucket(real, buckets(c.text_len))
    padded = f"+ text padded to {short}, not {c.text_len}"
    again, kept = shapes(replace(c, remat=True)), shapes(replace(c, remat=False))

    def observed(text: int, absent: str) -> Observation:
        return moments(c, cameras, text, prompt, batch, absent=absent, answer=answer)

    def step(how: Weights, loss: Callable[..., jax.Array]) -> Callable[..., Any]:
        return jax.value_and_grad(lambda leaves, *inputs: loss(how.model(leaves), *inputs).mean())

    if isinstance(c, Pi0FastConfig):
        # Positions count every slot here, so a camera can't be left out: the absent one is seen, and black.
        whole, text = (observed(length, "seen") for length in (c.text_len, short))

        def gathered(model: Pi0Fast, observation: Observation) -> jax.Array:
            return model.loss(observation, loss_tokens=LOSS_TOKENS)

        return {
            "plain, as openpi computes it": Row(step(again, one_hot_loss), weights.leaves, (whole,)),
            padded: Row(step(again, one_hot_loss), weights.leaves, (text,)),
            "+ the target's score looked up, not one-hot": Row(
                step(again, Pi0Fast.loss), weights.leaves, (text,)
            ),
            f"+ scores at {LOSS_TOKENS} positions with loss alone": Row(
                step(again, gathered), weights.leaves, (text,)
            ),
            "+ activations kept, not computed again": Row(step(kept, gathered), weights.leaves, (text,)),
        }

    rng = np.random.default_rng(2)
    shape = (batch, c.action_horizon, c.action_dim)
    flow = (
        *(rng.standard_normal(shape, np.float32) for _ in range(2)),
        np.linspace(0.2, 0.9, batch, dtype=np.float32),
    )

    def matching(model: Pi0, observation: Observation, actions: Any, noise: Any, times: Any) -> jax.Array:
        return model.loss(observation, actions, noise=noise, time=times)

    whole, present = observed(c.text_len, "masked"), observed(c.text_len, "left out")
    text = observed(short, "left out")
    return {
        "plain, as openpi computes it": Row(step(again, matching), weights.leaves, (whole, *flow)),
        "+ only the cameras that are there": Row(step(again, matching), weights.leaves, (present, *flow)),
        padded: Row(step(again, matching), weights.leaves, (text, *flow)),
        "+ activations kept, not computed again": Row(step(kept, matching), weights.leaves, (text, *flow)),
    }


def inference(kind: str, c: Config, weights: Weights, cameras: int) -> dict[str, Row]:
    """The prefix and one velocity, or the prompt and one token: the same weights in three layouts."""
    text = bucket(PROMPT[kind], buckets(c.text_len))
    observation = moments(c, cameras, text, PROMPT[kind], 1, absent="left out")
    leaves = tuple(leaf.astype(c.dtype) for leaf in weights.leaves)
    model = weights.model(leaves)
    if isinstance(model, Pi0):
        noise = np.random.default_rng(2).standard_normal((1, c.action_horizon, c.action_dim), np.float32)
        inputs, prepared = (observation, noise), prepare(model, step_times(1))

        def answer(model, observation, noise, conditions=None, *, unroll):
            return sample_actions(
                model, observation, noise, num_steps=1, unroll=unroll, conditions=conditions
            )
    else:
        inputs, prepared = (observation, np.full((1, 1), 7, np.int32)), prepare(model)

        def answer(model, observation, token, conditions=None, *, unroll):
            first, decoding = model.prefill(observation, 1, unroll=unroll)
            return jnp.stack([first, model.decode(token, decoding)[0][:, 0]])

    own_graph, own = nnx.split(prepared.model)
    own_leaves, own_structure = jax.tree.flatten((own, prepared.conditions))

    def laid_out(leaves, *inputs):
        state, conditions = jax.tree.unflatten(own_structure, leaves)
        return answer(nnx.merge(own_graph, state), *inputs, conditions, unroll=True)

    return {
        "layers by scan": Row(lambda w, *i: answer(weights.model(w), *i, unroll=False), leaves, inputs),
        "layers unrolled": Row(lambda w, *i: answer(weights.model(w), *i, unroll=True), leaves, inputs),
        "weights laid out, unrolled (a policy's)": Row(laid_out, tuple(own_leaves), inputs),
    }


class Compiled(NamedTuple):
    """A program, and the seconds from the function to it: tracing, lowering and compiling."""

    program: Any
    clock: float
    processor: float


def compiled(row: Row) -> Compiled:
    # As in a new process: parts that an earlier row traced would be there already.
    jax.clear_caches()
    begin, busy = time.perf_counter(), time.process_time()
    program = jax.jit(row.function).lower(row.weights, *row.inputs).compile()
    return Compiled(program, time.perf_counter() - begin, time.process_time() - busy)


@jax.jit
def distance(a: Any, b: Any) -> jax.Array:
    """Of two trees as vectors, over the length of the second."""

    def squares(tree: Any) -> jax.Array:
        return jnp.sum(jnp.stack([jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)]))

    return jnp.sqrt(squares(jax.tree.map(jnp.subtract, a, b)) / squares(b))


def measure(rows: dict[str, Row], limit: float, seconds: float) -> dict[str, dict[str, Any]]:
    """Each row's time, after all of a row's answers were found within `limit` of the first row's."""
    calls, about = {}, {}
    first: Any = None
    for name, row in rows.items():
        made = compiled(row)
        memory = made.program.memory_analysis()

        def call(program=made.program, row=row):
            return program(row.weights, *jax.device_put(row.inputs))

        answer = call()
        first = answer if first is None else first
        # A loss beside its gradients would not be seen: each part is compared with its own.
        parts = zip(answer, first, strict=True) if isinstance(answer, tuple) else [(answer, first)]
        apart = max(float(distance(*part)) for part in parts)
        assert apart < limit, f"{name!r} is {apart} from the plain answer, over its size"
        calls[name] = call
        about[name] = {
            "compile": made.clock,
            "compile_processor": made.processor,
            "apart": apart,
            "scratch": getattr(memory, "temp_size_in_bytes", 0),
        }
    del first, answer
    measured = timed(calls, seconds)
    return {name: row | about[name] for name, row in measured.items()}


def by_depth(kind: str, c: Config, cameras: int, depths: list[int]) -> dict[str, dict[str, Any]]:
    """Seconds to compile (clock, processor) by layers in each stack, from shapes alone.

    Of π0 and π0.5 it is the gradient of the loss, of π0-FAST the prompt and its first scores.
    """
    c = replace(c, remat=False)
    text = bucket(PROMPT[kind], buckets(c.text_len))
    observation = moments(c, cameras, text, PROMPT[kind], 1, absent="left out")
    actions = np.zeros((1, c.action_horizon, c.action_dim), np.float32)
    found: dict[str, dict[str, Any]] = {"scan": {}, "unrolled": {}}
    for layers in depths:
        deeper = deep(c, layers)
        weights = shapes(deeper)
        for way, unroll in (("scan", False), ("unrolled", True)):

            def error(leaves, observation, actions, weights=weights, unroll=unroll):
                times = jnp.full(1, 0.5)
                velocity = weights.model(leaves).velocity(observation, actions, times, unroll=unroll)
                return jnp.mean(jnp.square(velocity))

            def scores(leaves, observation, _, weights=weights, unroll=unroll):
                return weights.model(leaves).prefill(observation, 1, unroll=unroll)

            function = scores if kind == "pi0_fast" else jax.grad(error)
            made = compiled(Row(function, weights.leaves, (observation, actions)))
            found[way][str(layers)] = (made.clock, made.processor)
    return found


def bench(
    kind: str, size: str, cameras: int, batch: int, depths: list[int], seconds: float
) -> dict[str, Any]:
    c = config(kind, size)
    limit = 1e-3 if c.dtype == jnp.float32 else 0.1
    weights = random(c)
    return {
        "model": kind,
        "size": size,
        "cameras": cameras,
        "batch": batch,
        "prompt": PROMPT[kind],
        "answer": ANSWER if kind == "pi0_fast" else 0,
        "parameters": sum(leaf.size for leaf in weights.leaves),
        "training": measure(training(kind, c, weights, cameras, batch), limit, seconds),
        "inference": measure(inference(kind, c, weights, cameras), limit, seconds / 3),
        "depth": by_depth(kind, c, cameras, depths),
        "load": load(),
    }


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    columns = ["ms", "cpu ms", "ratio", "ratio (cpu)", "apart", "compile s", "cpu s", "scratch MB"]
    lines = [f"| {title} | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    base = next(iter(rows.values()))
    for name, row in rows.items():
        cells = [
            *(number(row[kind] * 1e3) for kind in ("p50", "processor")),
            *(f"{base[kind] / row[kind]:.2f}" for kind in ("p50", "processor")),
            f"{row['apart']:.0e}",
            *(f"{row[kind]:.1f}" for kind in ("compile", "compile_processor")),
            number(row["scratch"] / 1e6),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(result: dict[str, Any]) -> str:
    train, infer, fast = result["training"], result["inference"], result["model"] == "pi0_fast"
    facts = [
        f"{result['parameters'] / 1e6:,.1f} M parameters",
        f"{result['cameras']} of 3 cameras",
        f"{result['prompt']} ids of text" + (f" and {result['answer']} of an answer" if fast else ""),
        " and ".join(f"{next(iter(rows.values()))['calls']}" for rows in (train, infer)) + " rounds",
        f"load {result['load']}",
    ]
    depth = result["depth"]
    lines = [
        f"**{NAMES[result['model']]}, {result['size']}** ({'; '.join(facts)})",
        "",
        table(f"training step, batch {result['batch']}", train),
        "",
        table(f"inference: {'the prompt and one token' if fast else 'the prefix and one velocity'}", infer),
        "",
        f"| compile s (cpu s) of the {'prompt' if fast else 'gradient'} | "
        + " | ".join(f"{layers} layers" for layers in depth["scan"])
        + " |",
        f"|---|{'--:|' * len(depth['scan'])}",
    ]
    for way, taken in depth.items():
        lines.append(f"| {way} | {' | '.join(f'{clock:.1f} ({cpu:.1f})' for clock, cpu in taken.values())} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", choices=["tiny", "laptop", "so400m-dummy", "full"])
    parser.add_argument("--only", action="append", choices=list(NAMES), help="one of the three models")
    parser.add_argument("--cameras", type=int, default=2, choices=[1, 2, 3])
    parser.add_argument("--batch", type=int, default=2, help="rows of a training step")
    parser.add_argument("--depth", action="append", type=int, help="layers to compile: 6, 12 and 24")
    parser.add_argument(
        "--seconds", type=float, default=30, help="for each model's training; inference: a third"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    # A program that is found again would seem to compile in no time.
    jax.config.update("jax_enable_compilation_cache", False)
    facts = machine() | {"jax": jax.__version__, "device": jax.devices()[0].device_kind, "load": load()}
    print(", ".join(f"{key} {facts[key]}" for key in ("cpu", "cores", "device", "jax", "load")), "\n")
    results = []
    for size in arguments.model or ["laptop" if jax.default_backend() == "cpu" else "full"]:
        for kind in arguments.only or NAMES:
            depths = arguments.depth or [6, 12, 24]
            result = bench(kind, size, arguments.cameras, arguments.batch, depths, arguments.seconds)
            print(markdown(result), flush=True)
            results.append(result)
            if arguments.json:
                arguments.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2))


if __name__ == "__main__":
    main()
