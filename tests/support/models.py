"""Models and observations of NumPy's numbers: no time goes into compiling their initialisers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pioxide.models import Observation, Pi0, Pi0Config, Pi0Fast, Pi0FastConfig
from pioxide.policy import FlowSampler, PolicyOptions, TokenSampler


def random_model(config: Pi0Config | Pi0FastConfig, seed: int = 0) -> Any:
    """A model whose every parameter matters: gates are open, biases and norm scales not zero."""
    make = Pi0 if isinstance(config, Pi0Config) else Pi0Fast
    graph, state = nnx.split(nnx.eval_shape(lambda: make(config, nnx.Rngs(0))))
    rng = np.random.default_rng(seed)

    def draw(leaf: Any) -> jax.Array:
        fan_in = leaf.shape[-2] if len(leaf.shape) > 1 else 25
        values = rng.standard_normal(leaf.shape, np.float32) / np.float32(fan_in**0.5)
        return jnp.asarray(values, leaf.dtype)

    return nnx.merge(graph, jax.tree.map(draw, state))


def observe(config: Pi0Config | Pi0FastConfig, batch: int = 4) -> Observation:
    """Moments seen by the first camera alone, every text slot in use."""
    rng = np.random.default_rng(0)
    size = config.vision.image_size
    return Observation(
        {config.cameras[0]: jnp.asarray(rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8))},
        {},
        jnp.asarray(rng.integers(3, 500, (batch, config.text_len)), jnp.int32),
        jnp.ones((batch, config.text_len), bool),
        jnp.asarray(rng.normal(size=(batch, config.action_dim)), jnp.float32),
    )


def policy_options(kind: str, **fields: Any) -> PolicyOptions:
    """Options of a policy of a kind, whose sampler gets the fields that are its own."""
    make = TokenSampler if kind == "pi0_fast" else FlowSampler
    own = {name: fields.pop(name) for name in make.__dataclass_fields__ if name in fields}
    return PolicyOptions(sampler=make(**own), **fields)
