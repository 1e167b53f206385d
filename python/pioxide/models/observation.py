"""What a model sees: images, text and state. NamedTuples, because they cross jit as trees."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Observation(NamedTuple):
    """A batch of moments.

    Attributes:
        images: By camera, [B, h, w, 3] float32 in [-1, 1], or uint8; [B, T, h, w, 3] of a model with memory,
            the newest frame last. A camera that no row has is left out.
        image_masks: By camera, [B] whether the row has it, or [B, T] which frames of it. A camera without a
            mask is there in every row and frame.
        tokens: [B, L] the prompt's ids, valid ones first.
        token_mask: [B, L] which are real.
        state: [B, S] normalised and padded to the model's width; π0 alone reads it.
        ar_mask: [B, L] 1 where a token begins a new attention block, 0 where it belongs to that of the token
            before it (π0-FAST).
        loss_mask: [B, L] which tokens carry the loss (π0-FAST).
    """

    images: dict[str, Array]
    image_masks: dict[str, Bool[Array, " b"]]
    tokens: Int[Array, "b l"]
    token_mask: Bool[Array, "b l"]
    state: Float[Array, "b s"] | None = None
    ar_mask: Int[Array, "b l"] | None = None
    loss_mask: Bool[Array, "b l"] | None = None


def to_float(image: Array) -> Float[Array, "*b h w 3"]:
    """Returns uint8 pixels as float32 in [-1, 1] by `x / 255 * 2 - 1`; floats stay as they are."""
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 255.0 * 2.0 - 1.0
    return image.astype(jnp.float32)
