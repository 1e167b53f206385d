"""Time compiling and running one step of each model, in training and in inference, against the plain way.

Training is the loss and the gradient of every parameter. The plain way is openpi's: all three cameras with
the absent one masked, text padded to its full length, layers by scan and computed again on the way back, and
for π0-FAST cross entropy from one-hot targets over the whole vocabulary at every position of the text. Each
row adds one measure to the row above. Losses and gradients are compared with the plain ones before anything
is timed.

    python benches/models.py                             # what fits the device
    python benches/models.py --kind pi05 --model full
    python benches/models.py --markdown                  # tables for docs/models.md
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from networks import (
    KINDS,
    NAMES,
    SIZES,
    TEXT,
    Apart,
    Config,
    Row,
    apart,
    config,
    device_facts,
    random_model,
    timed,
)
from pioxide.engine.prepare import prepare
from pioxide.engine.shape import bucket, text_buckets
from pioxide.models import Observation, Pi0, Pi0Config, Pi0Fast, Pi0FastConfig
from pioxide.models.masks import block_mask
from pioxide.models.prefix import embed_prefix
from pioxide.sampling import sample_actions, step_times
from tables import Table
from timing import load

# An answer of π0-FAST is as long as a G1's chunk of 16 steps.
ANSWER, LOSS_TOKENS = 58, 64


def deep(c: Config, layers: int) -> Config:
    """The same with so many layers in every stack."""
    stacks = ("vision", "language", *(("action",) if isinstance(c, Pi0Config) else ()))
    return replace(c, **{name: replace(getattr(c, name), depth=layers) for name in stacks})


def shapes(c: Config) -> Apart:
    """A model of shapes alone, to compile for."""
    make = Pi0 if isinstance(c, Pi0Config) else Pi0Fast
    return apart(nnx.eval_shape(lambda: make(c, nnx.Rngs(0))))


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
    assert observation.loss_mask is not None
    prefix = embed_prefix(model.vision, model.language, observation, model.config.cameras)
    mask = block_mask(prefix.valid, prefix.ar_mask)[:, :-1, :-1]
    slots = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape[:2])
    (out,), _ = model.language((prefix.tokens[:, :-1],), slots, mask)
    targets = jax.nn.one_hot(observation.tokens[:, 1:], model.language.config.vocab)
    scores = jax.nn.log_softmax(model.language.logits(out[:, -targets.shape[1] :]), axis=-1)
    carries = observation.loss_mask[:, 1:]
    return -jnp.sum(jnp.sum(targets * scores, axis=-1) * carries, axis=-1) / jnp.sum(carries, axis=-1)


def training(kind: str, c: Config, leaves: tuple[jax.Array, ...], cameras: int, batch: int) -> dict[str, Row]:
    """Loss and gradients; each row adds one measure to the row above."""
    answer = ANSWER if kind == "pi0_fast" else 0
    prompt, real = TEXT[kind], TEXT[kind] + answer
    short = bucket(real, text_buckets(c.text_len))
    padded = f"+ text padded to {short}, not {c.text_len}"
    again, kept = shapes(replace(c, remat=True)), shapes(replace(c, remat=False))

    def observed(text: int, absent: str) -> Observation:
        return moments(c, cameras, text, prompt, batch, absent=absent, answer=answer)

    def step(how: Apart, loss: Callable[..., jax.Array]) -> Callable[..., Any]:
        return jax.value_and_grad(lambda values, *inputs: loss(how.merge(values), *inputs).mean())

    if isinstance(c, Pi0FastConfig):
        # Positions count every slot here, so a camera can't be left out: the absent one is seen, and black.
        whole, text = (observed(length, "seen") for length in (c.text_len, short))

        def gathered(model: Pi0Fast, observation: Observation) -> jax.Array:
            return model.loss(observation, loss_tokens=LOSS_TOKENS)

        return {
            "plain, as openpi computes it": Row(step(again, one_hot_loss), leaves, (whole,)),
            padded: Row(step(again, one_hot_loss), leaves, (text,)),
            "+ the target's score looked up, not one-hot": Row(step(again, Pi0Fast.loss), leaves, (text,)),
            f"+ scores at {LOSS_TOKENS} positions with loss alone": Row(
                step(again, gathered), leaves, (text,)
            ),
            "+ activations kept, not computed again": Row(step(kept, gathered), leaves, (text,)),
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
        "plain, as openpi computes it": Row(step(again, matching), leaves, (whole, *flow)),
        "+ only the cameras that are there": Row(step(again, matching), leaves, (present, *flow)),
        padded: Row(step(again, matching), leaves, (text, *flow)),
        "+ activations kept, not computed again": Row(step(kept, matching), leaves, (text, *flow)),
    }


def inference(kind: str, c: Config, leaves: tuple[jax.Array, ...], cameras: int) -> dict[str, Row]:
    """The prefix and one velocity, or the prompt and one token: the same weights in three layouts."""
    text = bucket(TEXT[kind], text_buckets(c.text_len))
    observation = moments(c, cameras, text, TEXT[kind], 1, absent="left out")
    leaves, merge = tuple(leaf.astype(c.dtype) for leaf in leaves), shapes(c).merge
    model = merge(leaves)
    if isinstance(model, Pi0):
        noise = np.random.default_rng(2).standard_normal((1, c.action_horizon, c.action_dim), np.float32)
        inputs, prepared = (observation, noise), prepare(model, step_times(1))

        def answer(model, observation, noise, conditions=None, *, scan_layers):
            return sample_actions(
                model, observation, noise, num_steps=1, scan_layers=scan_layers, conditions=conditions
            )
    else:
        inputs, prepared = (observation, np.full((1, 1), 7, np.int32)), prepare(model)

        def answer(model, observation, token, conditions=None, *, scan_layers):
            first, decoding = model.prefill(observation, 1, scan_layers=scan_layers)
            return jnp.stack([first, model.decode(token, decoding)[0][:, 0]])

    own = apart(prepared.model)

    def laid_out(weights, *inputs):
        leaves, conditions = weights
        return answer(own.merge(leaves), *inputs, conditions, scan_layers=False)

    return {
        "layers by scan": Row(lambda w, *i: answer(merge(w), *i, scan_layers=True), leaves, inputs),
        "layers unrolled": Row(lambda w, *i: answer(merge(w), *i, scan_layers=False), leaves, inputs),
        "weights laid out, unrolled (a policy's)": Row(laid_out, (own.leaves, prepared.conditions), inputs),
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
    text = bucket(TEXT[kind], text_buckets(c.text_len))
    observation = moments(c, cameras, text, TEXT[kind], 1, absent="left out")
    actions = np.zeros((1, c.action_horizon, c.action_dim), np.float32)
    found: dict[str, dict[str, Any]] = {"scan": {}, "unrolled": {}}
    for layers in depths:
        deeper = deep(c, layers)
        weights = shapes(deeper)
        for way, scan_layers in (("scan", True), ("unrolled", False)):

            def error(leaves, observation, actions, weights=weights, scan_layers=scan_layers):
                times = jnp.full(1, 0.5)
                velocity = weights.merge(leaves).velocity(
                    observation, actions, times, scan_layers=scan_layers
                )
                return jnp.mean(jnp.square(velocity))

            def scores(leaves, observation, _, weights=weights, scan_layers=scan_layers):
                return weights.merge(leaves).prefill(observation, 1, scan_layers=scan_layers)

            function = scores if kind == "pi0_fast" else jax.grad(error)
            made = compiled(Row(function, weights.leaves, (observation, actions)))
            found[way][str(layers)] = (made.clock, made.processor)
    return found


def bench(
    kind: str, size: str, cameras: int, batch: int, depths: list[int], seconds: float
) -> dict[str, Any]:
    # Parameters are float32 in training, whatever layers compute in.
    c = replace(config(kind, size), param_dtype=jnp.float32)
    limit = 1e-3 if c.dtype == jnp.float32 else 0.1
    leaves = apart(random_model(c)).leaves
    return {
        "kind": kind,
        "model": size,
        "cameras": cameras,
        "batch": batch,
        "prompt": TEXT[kind],
        "answer": ANSWER if kind == "pi0_fast" else 0,
        "parameters": sum(leaf.size for leaf in leaves),
        "training": measure(training(kind, c, leaves, cameras, batch), limit, seconds),
        "inference": measure(inference(kind, c, leaves, cameras), limit, seconds / 3),
        "depth": by_depth(kind, c, cameras, depths),
        "load": load(),
    }


def tables(result: dict[str, Any]) -> Iterator[Table]:
    """What was measured of a model."""
    fast = result["kind"] == "pi0_fast"
    name = f"{NAMES[result['kind']]}, {result['model']}"
    answer = f" and {result['answer']} of an answer" if fast else ""
    note = (
        f"load {result['load']}; {result['parameters'] / 1e6:,.1f} M parameters, "
        f"{result['cameras']} of 3 cameras, {result['prompt']} ids of text"
    )
    step = "the prompt and one token" if fast else "the prefix and one velocity"
    batch = f"batch {result['batch']}"
    yield steps_table(f"{name}, training step, {batch}", result["training"], note + answer)
    yield steps_table(f"{name}, {step}", result["inference"], note)
    depth = result["depth"]
    yield Table(
        f"{name}, seconds (processor seconds) to compile the {'prompt' if fast else 'gradient'}",
        tuple(f"{layers} layers" for layers in depth["scan"]),
        {
            way: tuple(f"{clock:.1f} ({busy:.1f})" for clock, busy in taken.values())
            for way, taken in depth.items()
        },
    )


COLUMNS = ("p50 ms", "cpu ms", "ratio (clock)", "ratio (cpu)", "apart", "compile s", "(cpu)", "scratch MB")


def steps_table(title: str, rows: dict[str, dict[str, Any]], note: str) -> Table:
    first = next(iter(rows.values()))

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return (
            *(number(row[key] * 1e3) for key in ("p50", "processor")),
            *(f"{first[key] / row[key]:.2f}" for key in ("p50", "processor")),
            f"{row['apart']:.0e}",
            *(f"{row[key]:.1f}" for key in ("compile", "compile_processor")),
            number(row["scratch"] / 1e6),
        )

    notes = (f"{note}; {first['calls']} rounds.",)
    return Table(title, COLUMNS, {name: cells(row) for name, row in rows.items()}, notes)


def number(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", action="append", choices=KINDS, help="all by default")
    parser.add_argument("--model", action="append", choices=SIZES)
    parser.add_argument("--cameras", type=int, default=2, choices=[1, 2, 3])
    parser.add_argument("--batch", type=int, default=2, help="rows of a training step")
    parser.add_argument("--depth", action="append", type=int, help="layers to compile: 6, 12 and 24")
    parser.add_argument(
        "--seconds", type=float, default=30, help="for each model's training; inference: a third"
    )
    parser.add_argument("--markdown", action="store_true", help="print tables as docs/models.md has them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    # A program that is found again would seem to compile in no time.
    jax.config.update("jax_enable_compilation_cache", False)
    facts = device_facts()
    results = []
    for size in arguments.model or ["small" if jax.default_backend() == "cpu" else "full"]:
        for kind in arguments.kind or KINDS:
            depths = arguments.depth or [6, 12, 24]
            result = bench(kind, size, arguments.cameras, arguments.batch, depths, arguments.seconds)
            for table in tables(result):
                print(f"\n{table.markdown() if arguments.markdown else table.text()}", flush=True)
            results.append(result)
            if arguments.json:
                arguments.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2))


if __name__ == "__main__":
    main()
