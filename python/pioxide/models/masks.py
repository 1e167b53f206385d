"""Who sees whom: blocks of tokens in which all see each other and everything before."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def block_mask(valid: Bool[Array, "batch tokens"], starts: Int[Array, "..."]) -> Bool[Array, "batch q k"]:
    """The attention mask of tokens that come in blocks.

    A token sees another if that one is in its own block or an earlier one and both are valid. `starts` is 1
    where a new block begins. With all tokens valid:

        starts 0 0 0 0    one block, all see all
        starts 0 1 1 1    causal
        starts 0 0 1 0    two blocks of two: the second sees the first, not the other way round

    Args:
        valid: Which tokens are real.
        starts: [batch, tokens] or [tokens].
    """
    block = jnp.cumsum(jnp.broadcast_to(starts, valid.shape).astype(jnp.int32), axis=1)
    sees = block[:, None, :] <= block[:, :, None]
    return sees & valid[:, None, :] & valid[:, :, None]


def positions(valid: Bool[Array, "batch tokens"]) -> Int[Array, "batch tokens"]:
    """Each token's position: how many valid ones stand before it. Absent cameras and padding take none."""
    return jnp.cumsum(valid.astype(jnp.int32), axis=1) - 1


def block_starts(*blocks: tuple[int, bool]) -> Int[Array, " tokens"]:
    """Starts from runs: (length, whether its first token begins a block)."""
    runs = [jnp.zeros(length, jnp.int32).at[:1].set(int(begins)) for length, begins in blocks]
    return jax.lax.concatenate(runs, 0)
