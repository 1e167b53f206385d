"""What this device is tuned to, after its fused attention was tried against the plain one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from pioxide.models import typed
from pioxide.models.attention import attend, fused_attend
from pioxide.models.tuning import Tuning

# bfloat16 has 8 bits: outputs of about 1 agree to a few hundredths; a wrong mask or scale is off by tenths.
CLOSE = 0.05


def tuning_here(*, gradients: bool = False) -> Tuning:
    """Returns the tuning of JAX's first device, without fused attention where that gives other numbers.

    Fused attention was compiled for GPUs that it was never run on here, so each device is asked once.

    Args:
        gradients: Whether its gradients have to be right, too.
    """
    found = Tuning.here()
    if not found.fused_attention or fused_attention_agrees(fused_attend, gradients=gradients):
        return found
    warnings.warn(
        "cuDNN's attention fails on this device, or gives other numbers than the plain computation, which is "
        "used in its place; what comes out is right, and takes longer",
        stacklevel=2,
    )
    return replace(found, fused_attention=False)


def fused_attention_agrees(fused: Callable[..., jax.Array], *, gradients: bool = False) -> bool:
    """Returns whether a fused attention gives what `attend` gives, on random numbers with a mask of rows.

    Args:
        fused: Takes queries, keys, values and a mask as `attend` does.
        gradients: Whether to compare gradients of the three, too, where some queries see nothing.
    """
    rng = np.random.default_rng(0)
    batch, tokens, slots, heads, width = 2, 128, 256, 8, 256

    def draw(*shape: int) -> jax.Array:
        return typed.asarray(rng.normal(0, width**-0.25, shape), jnp.bfloat16)

    query, key = draw(batch, tokens, heads, width), draw(batch, slots, 1, width)
    value = typed.asarray(rng.normal(size=(batch, slots, 1, width)), jnp.bfloat16)
    seen = rng.integers(1, slots, (batch, tokens, 1))
    mask = typed.asarray(np.arange(slots) < seen)
    try:
        ours = typed.jit(fused)(query, key, value, mask)
    except Exception:  # a missing library, or a shape it does not take, may raise anything
        return False
    apart = jnp.abs(ours.astype(jnp.float32) - attend(query, key, value, mask).astype(jnp.float32))
    if not bool((apart < CLOSE).all()):  # a maximum may pass over NaN
        return False
    if not gradients:
        return True
    # As in training: padding sees nothing, nothing is learnt from what comes out there, and π0's number of
    # tokens is odd.
    padding = np.arange(tokens - 1)[None, :, None] >= tokens - 16
    query, key, value = (x[:, :-1] for x in (query, key, value))
    mask = typed.asarray((np.arange(slots - 1) < seen[:, :-1]) & ~padding)
    pull = jnp.where(typed.asarray(padding)[..., None], 0, draw(*query.shape))

    def pulled(attention: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, ...]]:
        def gradients_of(*qkv: jax.Array) -> tuple[jax.Array, ...]:
            return typed.vjp(lambda *qkv: attention(*qkv, mask), *qkv)[1](pull)

        return typed.jit(gradients_of)

    try:
        ours = pulled(fused)(query, key, value)
    except Exception:
        return False
    plain = pulled(attend)(query, key, value)
    return all(_close(a, b) for a, b in zip(ours, plain, strict=True))


def _close(ours: jax.Array, plain: jax.Array) -> bool:
    """Returns whether gradients differ by no more than rounding, relative to their size."""
    a, b = ours.astype(jnp.float32), plain.astype(jnp.float32)
    most = CLOSE * jnp.maximum(jnp.sqrt(jnp.mean(b * b)), jnp.abs(b))
    return bool((jnp.abs(a - b) <= most).all())
