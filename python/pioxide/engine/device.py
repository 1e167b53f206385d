"""What this device is tuned to, after its fused attention was tried against the plain one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from pioxide.models.attention import attend, fused_attend
from pioxide.models.tuning import Tuning

# bfloat16 has 8 bits: outputs of about 1 agree to a few hundredths; a wrong mask or scale is off by tenths.
CLOSE = 0.05


def tuning_here() -> Tuning:
    """Returns the tuning of JAX's first device, without fused attention where that gives other numbers.

    Fused attention was compiled for GPUs that it was never run on here, so each device is asked once.
    """
    found = Tuning.here()
    if not found.fused_attention or fused_attention_agrees(fused_attend):
        return found
    warnings.warn(
        "cuDNN's attention fails on this device, or gives other numbers than the plain computation, which is "
        "used in its place; actions are right, and take longer",
        stacklevel=2,
    )
    return replace(found, fused_attention=False)


def fused_attention_agrees(fused: Callable[..., jax.Array]) -> bool:
    """Returns whether a fused attention gives what `attend` gives, on random numbers with a mask of rows.

    Args:
        fused: Takes queries, keys, values and a mask as `attend` does.
    """
    rng = np.random.default_rng(0)
    batch, tokens, slots, heads, width = 2, 128, 256, 8, 256

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(0, width**-0.25, shape), jnp.bfloat16)

    query, key = draw(batch, tokens, heads, width), draw(batch, slots, 1, width)
    value = jnp.asarray(rng.normal(size=(batch, slots, 1, width)), jnp.bfloat16)
    mask = jnp.asarray(np.arange(slots) < rng.integers(1, slots, (batch, tokens, 1)))
    try:
        ours = jax.jit(fused)(query, key, value, mask)
    except Exception:  # a missing library, or a shape it does not take, may raise anything
        return False
    apart = jnp.abs(ours.astype(jnp.float32) - attend(query, key, value, mask).astype(jnp.float32))
    return bool((apart < CLOSE).all())  # a maximum may pass over NaN
