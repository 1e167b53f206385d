"""Attention, plain and as one kernel of cuDNN: what `gemma` and `siglip` compute between their projections.

B batch, T query tokens, S key slots, N heads, K key heads, G heads a key head, H head width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MASKED = -2.3819763e38


def attend(
    query: Float[Array, "b t n h"],
    key: Float[Array, "b s k h"],
    value: Float[Array, "b s k h"],
    mask: Bool[Array, "b t s"],
) -> Float[Array, "b t n h"]:
    """Attends with shared key heads; logits and softmax in float32, the rest in the values' dtype.

    Queries come scaled. The heads of a key head are rows of one matrix [T * G, S], so that scores are one
    product and their softmax one pass over rows.
    """
    batch, tokens, heads, width = query.shape
    shared, slots = key.shape[2], key.shape[1]
    group = heads // shared
    rows = query.reshape(batch, tokens, shared, group, width).swapaxes(1, 2)
    rows = rows.reshape(batch, shared, tokens * group, width)
    logits = jnp.einsum("bkrh,bskh->bkrs", rows, key.astype(rows.dtype), preferred_element_type=jnp.float32)
    logits = logits.reshape(batch, shared, tokens, group, slots)
    logits = jnp.where(mask[:, None, :, None], logits, MASKED)
    probabilities = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    probabilities = probabilities.reshape(batch, shared, tokens * group, slots)
    out = jnp.einsum("bkrs,bskh->bkrh", probabilities, value)
    return out.reshape(batch, shared, tokens, group, width).swapaxes(1, 2).reshape(query.shape)


def fused_attend(
    query: Float[Array, "b t n h"],
    key: Float[Array, "b s k h"],
    value: Float[Array, "b s k h"],
    mask: Bool[Array, "b t s"] | None = None,
) -> Float[Array, "b t n h"]:
    """Attends as `attend` does, in one kernel that keeps no scores: cuDNN's, which runs on a GPU only.

    Queries come scaled; all three are bfloat16 or float16. What a token that sees nothing gets may differ.
    The kernel's backward pass takes even numbers of tokens and slots alone: odd ones get one more, unseen.
    """
    tokens, slots = query.shape[1], key.shape[1]
    if tokens % 2 or slots % 2:
        mask = jnp.ones((len(query), tokens, slots), bool) if mask is None else mask
        mask = jnp.pad(mask, ((0, 0), (0, tokens % 2), (0, slots % 2)))
        query = jnp.pad(query, ((0, 0), (0, tokens % 2), (0, 0), (0, 0)))
        key, value = (jnp.pad(x, ((0, 0), (0, slots % 2), (0, 0), (0, 0))) for x in (key, value))
    seen = None if mask is None else mask[:, None]
    out = jax.nn.dot_product_attention(query, key, value, mask=seen, scale=1.0, implementation="cudnn")
    return out[:, :tokens]
