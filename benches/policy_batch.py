"""Batches: one call of the engine for several robots, whose prompts and cameras differ."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from networks import FAST_ROOM, STEPS, Model, observed
from pioxide.engine import Engine, FlowSampler, Inputs, Shape, TokenFormat, TokenSampler
from pioxide.models import Pi0Fast
from pioxide.sampling import Grammar
from policy_fast import BAR, fitted_codec

ROBOTS = (1, 4, 16)


def engine_of(model: Model) -> Engine:
    """The engine of a policy; π0-FAST's writes whole chunks."""
    if not isinstance(model, Pi0Fast):
        return Engine(model, FlowSampler(STEPS))
    first = model.config.language.vocab - 129
    grammar = Grammar.of(fitted_codec(), first_fast_id=first, end=BAR)
    return Engine(model, TokenSampler(max_tokens=FAST_ROOM), TokenFormat((BAR, 1), grammar=grammar))


def inputs_of(model: Model, robots: int, cameras: int, longest: int) -> Inputs:
    """What so many robots see: prompts of other lengths, and every third robot without its last camera."""
    c, rng, fast = model.config, np.random.default_rng(4), isinstance(model, Pi0Fast)
    seen = observed(c, cameras, longest, longest, absent=fast)
    images = {name: np.repeat(np.asarray(image), robots, 0) for name, image in seen.images.items()}
    lost = {} if fast or cameras == 1 else {c.cameras[cameras - 1]: np.arange(robots) % 3 != 2}
    chunk = (robots, c.action_horizon, c.action_dim)
    return Inputs(
        images,
        np.repeat(np.asarray(seen.tokens), robots, 0),
        np.maximum(longest - np.arange(robots, dtype=np.int32), 1),
        lost,
        state=None if seen.state is None else np.repeat(np.asarray(seen.state), robots, 0),
        noise=None if fast else rng.standard_normal(chunk, np.float32),
    )


def batches(model: Model, cameras: int, longest: int) -> dict[str, Callable[[], Any]]:
    """A call for 1, 4 and 16 robots, its program compiled."""
    engine = engine_of(model)
    names = model.config.cameras if isinstance(model, Pi0Fast) else model.config.cameras[:cameras]
    engine.warm_up(Shape(robots, names, longest) for robots in ROBOTS)

    def call(robots: int) -> Callable[[], Any]:
        inputs = inputs_of(model, robots, cameras, longest)
        return lambda: engine.run(inputs).shape

    return {name(robots): call(robots) for robots in ROBOTS}


def name(robots: int) -> str:
    return "1 robot" if robots == 1 else f"{robots} robots"
