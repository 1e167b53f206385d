"""π0 and π0.5: what each measure buys over the plain computation of a chunk, and what continuing one costs.

Plain is openpi's way, computed with the same modules: all three cameras with the absent ones masked, text
padded to its full length, layers by scan, a while loop with a float predicate, whatever depends on the flow
time in every step (π0's for every action), the prefix's keys and values copied with room for the suffix in
every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from networks import (
    INEXACT,
    STEPS,
    Apart,
    Row,
    apart,
    compiled,
    device_dtype,
    floor,
    observed,
    pass_phase,
    prefix_phase,
    timed,
    vision_phase,
)
from pioxide.engine import Engine, Inputs
from pioxide.engine.prepare import prepare
from pioxide.engine.shape import bucket, text_buckets
from pioxide.models import Observation, Pi0, Pi0Config
from pioxide.models.masks import block_mask, positions
from pioxide.models.pi0 import Condition, PrefixCache
from pioxide.policy import FlowSampler, RTCConfig
from pioxide.sampling import pad_prev_chunk_left_over, sample_actions, step_times
from pioxide.sampling.flow import of_step


def whole_prefill(
    model: Pi0, observation: Observation, *, room: int, scan_layers: bool
) -> tuple[jax.Array, PrefixCache]:
    """The prefix through all of every layer: what comes out behind the last one, and keys and values."""
    prefix = model.embed_prefix(observation, scan_layers=scan_layers)
    batch, length = prefix.valid.shape
    cache = model.language.empty_cache(batch, length + room, scan_layers=scan_layers)
    mask = jnp.pad(block_mask(prefix.valid, prefix.ar_mask), ((0, 0), (0, 0), (0, room)))
    (out, _), cache = model.language(
        (prefix.tokens, None), positions(prefix.valid), mask, cache=cache, scan_layers=scan_layers
    )
    return out, PrefixCache(cache, prefix.valid)


def denoise(
    model: Pi0,
    observation: Observation,
    noise: jax.Array,
    *,
    fixed: bool = False,
    in_place: bool = False,
    conditions: Condition | None = None,
    scan_layers: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """A chunk, plainly but for the measures that are named, and what comes out behind the prefix."""
    c = model.config
    suffix = c.action_horizon + (0 if c.pi05 else 1)
    out, prefix = whole_prefill(model, observation, room=suffix if in_place else 0, scan_layers=scan_layers)
    dt = -1.0 / STEPS

    def body(index, carry):
        x_t, t, prefix = carry
        if conditions is None:
            times = jnp.broadcast_to(t, (1,) if c.pi05 else (1, c.action_horizon))
            condition = model.condition(times)
        else:
            condition = of_step(conditions, index)
        room = prefix if in_place else with_room(prefix, suffix)
        velocity, written = model.cached_velocity(room, observation, x_t, condition)
        return x_t + dt * velocity, t + dt, written if in_place else prefix

    start = (noise.astype(jnp.float32), jnp.float32(1.0), prefix)
    if fixed:
        return jax.lax.fori_loop(0, STEPS, body, start)[0], out
    return jax.lax.while_loop(lambda carry: carry[1] >= -dt / 2, lambda carry: body(0, carry), start)[0], out


def with_room(prefix: PrefixCache, room: int) -> PrefixCache:
    """A copy of scanned layers' keys and values with slots behind them."""
    longer = jax.tree.map(lambda a: jnp.pad(a, ((0, 0), (0, 0), (0, room), (0, 0), (0, 0))), prefix.cache)
    return PrefixCache(longer, prefix.valid)


def rows(model: Pi0, cameras: int, real: int) -> dict[str, Row]:
    """Each adds one measure to the row above."""
    c = model.config
    noise = np.random.default_rng(2).standard_normal((1, c.action_horizon, c.action_dim), np.float32)
    short = bucket(real, text_buckets(c.text_len))
    whole = observed(c, cameras, c.text_len, real, absent=True)
    present = observed(c, cameras, c.text_len, real, absent=False)
    padded = observed(c, cameras, short, real, absent=False)
    prepared = prepare(model, step_times(STEPS))
    own, conditions = apart(prepared.model), prepared.conditions
    rounded = apart(prepare(model, quantize="int8").model)
    stacked = apart(model)

    def plain(observation: Observation, **measures: bool) -> Row:
        def function(leaves, o, n):
            return denoise(stacked.merge(leaves), o, n, **measures)[0]

        return Row(function, stacked.leaves, (observation, noise))

    def conditioned(weights, o, n):
        leaves, conditions = weights
        return denoise(stacked.merge(leaves), o, n, fixed=True, in_place=True, conditions=conditions)[0]

    def unrolled(parts: Apart) -> Row:
        # What comes out behind the prefix is part of the answer, or the compiler would drop its last layer.
        def function(weights, o, n):
            leaves, conditions = weights
            measures = {"fixed": True, "in_place": True, "scan_layers": False}
            return denoise(parts.merge(leaves), o, n, conditions=conditions, **measures)

        return Row(function, (parts.leaves, conditions), (padded, noise))

    def sampled(parts: Apart) -> Row:
        def function(weights, o, n):
            leaves, conditions = weights
            return sample_actions(parts.merge(leaves), o, n, num_steps=STEPS, conditions=conditions)

        return Row(function, (parts.leaves, conditions), (padded, noise))

    return {
        "plain, as openpi computes it": plain(whole),
        "+ only the cameras that are there": plain(present),
        f"+ text padded to {short}, not {c.text_len}": plain(padded),
        "+ fixed number of steps": plain(padded, fixed=True),
        "+ cache allocated once, written in place": plain(padded, fixed=True, in_place=True),
        "+ what depends on flow times computed once": Row(
            conditioned, (stacked.leaves, conditions), (padded, noise)
        ),
        "+ layers unrolled": unrolled(stacked),
        "+ weights laid out": unrolled(own),
        "+ last layer's prefix: keys and values alone (pioxide)": sampled(own),
        INEXACT: sampled(rounded),
    }


def flow_rows(model: Pi0, cameras: int, real: int, seconds: float) -> dict[str, Any]:
    """The rows compared and timed, and the floor below them."""
    c = model.config
    programs = {name: compiled(row) for name, row in rows(model, cameras, real).items()}
    answers = {name: _actions(program.call()) for name, program in programs.items()}
    first = next(iter(answers.values()))
    scale = float(np.abs(first).max())
    apart_by = {name: float(np.abs(answer - first).max()) / scale for name, answer in answers.items()}
    limit = 1e-3 if device_dtype() == jnp.float32 else 0.1
    exact = [distance for name, distance in apart_by.items() if name != INEXACT]
    assert max(exact) < limit, f"rows disagree: {apart_by}"
    measured = timed({name: program.call for name, program in programs.items()}, seconds)
    for name in measured:
        measured[name] |= {"compile": programs[name].seconds, "apart": apart_by[name]}
    return {**floor(phases(c, cameras, real)), "rows": measured}


def _actions(answer: Any) -> np.ndarray:
    return np.asarray(answer[0] if isinstance(answer, tuple) else answer)


def phases(c: Pi0Config, cameras: int, text: int) -> dict[str, Any]:
    """What a chunk takes at least."""
    prefix, tokens = cameras * c.vision.tokens + text, c.action_horizon + (0 if c.pi05 else 1)
    ends = 2 * c.action_dim * c.action.experts[0].width
    return {
        "vision": vision_phase(c, cameras),
        "prefix": prefix_phase(c, cameras, text),
        "steps": pass_phase(c, c.action, tokens, prefix, ends, STEPS),
    }


def continued(model: Pi0, cameras: int, real: int) -> dict[str, Callable[[], Any]]:
    """A chunk on its own, and one that continues half a chunk."""
    c = model.config
    observation = observed(c, cameras, bucket(real, text_buckets(c.text_len)), real, absent=False)
    rng = np.random.default_rng(2)
    noise, before = (rng.standard_normal((1, c.action_horizon, c.action_dim), np.float32) for _ in range(2))
    left = pad_prev_chunk_left_over(
        before[0, c.action_horizon // 2 :], 4, horizon=c.action_horizon, dim=c.action_dim
    )
    calls = {}
    for name, realtime in (("on its own", None), ("guided", RTCConfig()), ("as trained", "trained")):
        engine = Engine(model, FlowSampler(STEPS, realtime))
        length = np.array([real], np.int32)
        inputs = Inputs(observation.images, observation.tokens, length, observation.state, noise)
        if realtime is not None:
            inputs = inputs._replace(prev_chunk_left_over=left)
        calls[name] = lambda e=engine, i=inputs: e.run(i)
    return calls
