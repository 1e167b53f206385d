"""Short visual memory as in MEM (arXiv 2603.03596): a camera's last frames through SigLIP as it is.

Each `every`-th layer of the tower lets a patch gather the values of its own past, under a causal mask, before
the layer attends within each frame; see `Siglip.over_time`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


@dataclass(frozen=True)
class MemoryConfig:
    """What a model remembers of what it saw.

    Attributes:
        frames: T, frames of each camera, the newest among them.
        every: Layers of the vision tower from one that attends over time to the next.
    """

    frames: int = 6
    every: int = 4

    def __post_init__(self) -> None:
        """Refuses what is no memory.

        Raises:
            ValueError: A single frame, or no layer.
        """
        if self.frames < 2 or self.every < 1:
            raise ValueError(f"expected 2 frames or more and every 1 or more, got {self}")


def time_embedding(frames: int, width: int) -> Float[Array, "t w"]:
    """Returns what is added to each frame's patches, float32; to those of the newest, zeros.

    Positions are 1 - T to 0, at wavelengths up to 10,000: sines in even dimensions, cosines less 1 in odd
    ones.

    Args:
        frames: T.
        width: Of the tower; even.
    """
    at = jnp.arange(1 - frames, 1, dtype=jnp.float32)[:, None]
    rates = jnp.exp(jnp.arange(0, width, 2, dtype=jnp.float32) * (-jnp.log(10_000.0) / width))
    angles = at * rates
    return jnp.stack([jnp.sin(angles), jnp.cos(angles) - 1], axis=-1).reshape(frames, width)


def frames_seen(there: Bool[Array, "b t"]) -> Bool[Array, "b t t"]:
    """Returns which frames (last axis) each frame gathers from: itself, and those before it, if there."""
    frames = there.shape[1]
    before = jnp.tril(jnp.ones((frames, frames), bool))
    return (before & there[:, None, :]) | jnp.eye(frames, dtype=bool)


def mix_frames(
    query: Float[Array, "b t p n h"],
    key: Float[Array, "b t p n h"],
    value: Float[Array, "b t p n h"],
    seen: Bool[Array, "b t t"],
) -> Float[Array, "b t p n h"]:
    """Returns each patch's values, gathered over frames with a softmax in float32; queries are scaled."""
    logits = jnp.einsum("bqpnh,bkpnh->bpnqk", query, key, preferred_element_type=jnp.float32)
    logits = jnp.where(seen[:, None, None], logits, -jnp.inf)
    probabilities = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bpnqk,bkpnh->bqpnh", probabilities, value)
