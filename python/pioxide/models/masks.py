"""Attention masks and positions of tokens that come in blocks."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def block_mask(valid: Bool[Array, "batch tokens"], ar_mask: Int[Array, "..."]) -> Bool[Array, "batch q k"]:
    """Returns the attention mask of tokens that come in blocks.

    A token sees another if that one is in its own block or an earlier one and both are valid. `ar_mask` is 1
    where a new block begins. With all tokens valid:

        ar_mask 0 0 0 0    one block, all see all
        ar_mask 0 1 1 1    causal
        ar_mask 0 0 1 0    two blocks of two: the second sees the first, not the other way round

    Args:
        valid: Which tokens are real.
        ar_mask: [batch, tokens] or [tokens].
    """
    block = jnp.cumsum(jnp.broadcast_to(ar_mask, valid.shape).astype(jnp.int32), axis=1)
    sees = block[:, None, :] <= block[:, :, None]
    return sees & valid[:, None, :] & valid[:, :, None]


def positions(valid: Bool[Array, "batch tokens"]) -> Int[Array, "batch tokens"]:
    """Returns each token's position: the valid tokens before it. Absent cameras and padding take none."""
    return jnp.cumsum(valid.astype(jnp.int32), axis=1) - 1
