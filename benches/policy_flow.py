"""π0 and π0.5: what each measure buys over the plain computation of a chunk, and what continuing one costs.

Plain is what a model's own sampler does with all three cameras, the absent ones masked, text padded to its
full length, and layers by scan. Every row's answer is compared with the model's equations, written once more
in `tests/support/oracle.py`, where every step computes everything anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

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
from pioxide.policy import FlowSampler, RTCConfig
from pioxide.sampling import pad_prev_chunk_left_over, sample_actions, step_times
from support.oracle import Oracle


def rows(model: Pi0, cameras: int, real: int) -> dict[str, Row]:
    """Each adds one measure to the row above."""
    c, noise = model.config, drawn(model.config)
    short = bucket(real, text_buckets(c.text_len))
    whole = observed(c, cameras, c.text_len, real, absent=True)
    present = observed(c, cameras, c.text_len, real, absent=False)
    padded = observed(c, cameras, short, real, absent=False)
    prepared = prepare(model, step_times(STEPS))
    conditions = prepared.conditions
    stacked, own = apart(model), apart(prepared.model)
    rounded = apart(prepare(model, quantize="int8").model)

    def row(parts: Apart, observation: Observation, conditions: Any, *, scan_layers: bool) -> Row:
        def function(weights, o, n):
            leaves, conditions = weights
            return sample_actions(
                parts.merge(leaves), o, n, num_steps=STEPS, conditions=conditions, scan_layers=scan_layers
            )

        return Row(function, (parts.leaves, conditions), (observation, noise))

    return {
        "plain": row(stacked, whole, None, scan_layers=True),
        "+ only the cameras that are there": row(stacked, present, None, scan_layers=True),
        f"+ text padded to {short}, not {c.text_len}": row(stacked, padded, None, scan_layers=True),
        "+ what depends on flow times computed beforehand": row(
            stacked, padded, conditions, scan_layers=True
        ),
        "+ layers unrolled, the last one's prefix to keys and values": row(
            stacked, padded, conditions, scan_layers=False
        ),
        "+ weights laid out (pioxide)": row(own, padded, conditions, scan_layers=False),
        INEXACT: row(rounded, padded, conditions, scan_layers=False),
    }


def drawn(c: Pi0Config) -> np.ndarray:
    """The noise that every row begins with."""
    return np.random.default_rng(2).standard_normal((1, c.action_horizon, c.action_dim), np.float32)


def by_equations(model: Pi0, cameras: int, real: int) -> np.ndarray:
    """The chunk that the model's equations give."""
    seen, parts = observed(model.config, cameras, real, real, absent=False), apart(model)

    @jax.jit
    def velocity(leaves, seen, x_t, time):
        images = {name: image[0] for name, image in seen.images.items()}
        state = None if seen.state is None else seen.state[0]
        return Oracle(parts.merge(leaves), jnp).velocity(images, seen.tokens[0], state, x_t, time)

    x_t = drawn(model.config)[0]
    for step in range(STEPS):
        x_t = x_t - np.asarray(velocity(parts.leaves, seen, x_t, 1.0 - step / STEPS)) / STEPS
    return x_t


def flow_rows(model: Pi0, cameras: int, real: int, seconds: float) -> dict[str, Any]:
    """The rows compared and timed, and the floor below them."""
    c = model.config
    programs = {name: compiled(row) for name, row in rows(model, cameras, real).items()}
    expected = by_equations(model, cameras, real)
    scale = float(np.abs(expected).max())
    apart_by = {
        name: float(np.abs(np.asarray(program.call())[0] - expected).max()) / scale
        for name, program in programs.items()
    }
    limit = 1e-3 if device_dtype() == jnp.float32 else 0.1
    exact = [distance for name, distance in apart_by.items() if name != INEXACT]
    assert max(exact) < limit, f"rows disagree: {apart_by}"
    measured = timed({name: program.call for name, program in programs.items()}, seconds)
    for name in measured:
        measured[name] |= {"compile": programs[name].seconds, "apart": apart_by[name]}
    return {**floor(phases(c, cameras, real)), "rows": measured}


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
    noise = drawn(c)
    before = np.random.default_rng(3).standard_normal(noise.shape, np.float32)
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
