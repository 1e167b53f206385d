"""Embeds images and text as the prefix that all three models begin with."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.gemma import Gemma
from pioxide.models.observation import Observation, to_float
from pioxide.models.siglip import Siglip


class Prefix(NamedTuple):
    """Embedded tokens [B, P, W], which of them are valid [B, P], and the AR mask [B, P]."""

    tokens: Float[Array, "b p w"]
    valid: Bool[Array, "b p"]
    ar_mask: Int[Array, "b p"]


def embed_images(
    vision: Siglip, observation: Observation, cameras: tuple[str, ...], *, scan_layers: bool
) -> tuple[list[Float[Array, "b t w"]], list[Bool[Array, "b t"]]]:
    """Returns each camera's tokens and which of them are valid, in the order of `cameras`.

    All cameras go through the tower as one batch, a row's cameras side by side: rows that are spread over
    devices stay where they are.

    Raises:
        ValueError: An image has another size than the tower's, or there is a camera the model does not know.
    """
    if unknown := sorted({*observation.images, *observation.image_masks} - {*cameras}):
        raise ValueError(f"unknown camera {unknown[0]!r}; this model has {list(cameras)}")
    present = [name for name in cameras if name in observation.images]
    if not present:
        return [], []
    size = vision.config.image_size
    for name in present:
        if observation.images[name].shape[1:] != (size, size, 3):
            got = observation.images[name].shape[1:]
            raise ValueError(f"image {name!r} is {got}, expected {(size, size, 3)}")
    pixels = jnp.stack([to_float(observation.images[name]) for name in present], axis=1)
    batch = len(pixels)
    tokens = vision(pixels.reshape(-1, *pixels.shape[2:]), scan_layers=scan_layers)
    tokens = tokens.reshape(batch, len(present), *tokens.shape[1:])
    everywhere = jnp.ones((batch,), bool)
    masks = [observation.image_masks.get(name, everywhere) for name in present]
    by_camera = [tokens[:, i] for i in range(len(present))]
    return by_camera, [jnp.repeat(mask[:, None], tokens.shape[2], axis=1) for mask in masks]


def embed_prefix(
    vision: Siglip,
    language: Gemma,
    observation: Observation,
    cameras: tuple[str, ...],
    *,
    scan_layers: bool = True,
) -> Prefix:
    """Embeds images, then text. Where `ar_mask` is None they are one block, in which all see all."""
    images, masks = embed_images(vision, observation, cameras, scan_layers=scan_layers)
    text = language.embed(observation.tokens)
    tokens = jnp.concatenate([*(image.astype(text.dtype) for image in images), text], axis=1)
    valid = jnp.concatenate([*masks, observation.token_mask], axis=1)
    ar_mask = jnp.zeros(valid.shape, jnp.int32)
    if observation.ar_mask is not None:
        ar_mask = ar_mask.at[:, -observation.tokens.shape[1] :].set(observation.ar_mask)
    return Prefix(tokens, valid, ar_mask)
