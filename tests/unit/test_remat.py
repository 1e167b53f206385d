"""What the backward pass computes again, and what is kept by its name, changes no gradient."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pioxide.models import Gemma, GemmaConfig
from pioxide.models.gemma import ATTENDED

TOKENS = 5


def gradient(*, remat, keep=()):
    """The gradient of all parameters, and how many products its program has."""
    config = replace(GemmaConfig.dummy(), vocab=16, depth=2)
    made = Gemma(nnx.Rngs(0), config, param_dtype=jnp.float32, dtype=jnp.float32, remat=remat)
    made.keep = keep
    graph, state = nnx.split(made)
    x = jax.random.normal(jax.random.key(1), (1, TOKENS, 64))
    mask = jnp.ones((1, TOKENS, TOKENS), bool)

    def loss(state):
        (out,), _ = nnx.merge(graph, state)((x,), jnp.arange(TOKENS)[None], mask)
        return jnp.square(out).sum()

    program = jax.jit(jax.grad(loss))
    return program(state), str(program.trace(state).jaxpr).count("dot_general")


def test_remat_changes_no_gradient_and_computes_less_again_where_attention_is_kept():
    expected, least = gradient(remat=False)
    again, most = gradient(remat=True)
    by_name, some = gradient(remat=True, keep=(ATTENDED,))
    assert least < some < most
    for found in (again, by_name):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
