"""Embeds the flow time as sines and cosines of log-spaced periods."""

import jax.numpy as jnp
from jaxtyping import Array, Float

MIN_PERIOD, MAX_PERIOD = 4e-3, 4.0


def embed_time(time: Float[Array, "*batch"], width: int) -> Float[Array, "*batch width"]:
    """Returns `[sin | cos]` of `2 pi t / period` for width / 2 periods between 0.004 and 4, in float32.

    The periods suit times in [0, 1]; π0 (arXiv 2410.24164), appendix B.
    """
    fraction = jnp.linspace(0.0, 1.0, width // 2, dtype=jnp.float32)
    period = MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** fraction
    angle = time.astype(jnp.float32)[..., None] * (2 * jnp.pi / period)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
