"""Embeds images and text as the prefix that all three models begin with."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.gemma import Gemma
from pioxide.models.memory import MemoryConfig
from pioxide.models.observation import Observation, to_float
from pioxide.models.siglip import Siglip


class Prefix(NamedTuple):
    """Embedded tokens [B, P, W], which of them are valid [B, P], and the AR mask [B, P]."""

    tokens: Float[Array, "b p w"]
    valid: Bool[Array, "b p"]
    ar_mask: Int[Array, "b p"]


def embed_images(
    vision: Siglip,
    observation: Observation,
    cameras: tuple[str, ...],
    memory: MemoryConfig | None = None,
    *,
    scan_layers: bool,
) -> tuple[list[Float[Array, "b t w"]], list[Bool[Array, "b t"]]]:
    """Returns each camera's tokens and which of them are valid, in the order of `cameras`.

    All cameras go through the tower as one batch, a row's cameras side by side: rows that are spread over
    devices stay where they are. A model with memory reads the last frames of each, and gives the tokens of
    the newest.

    Raises:
        ValueError: An image has another size than the tower's, or there are more or fewer frames than the
            model remembers, or there is a camera the model does not know.
    """
    if unknown := sorted({*observation.images, *observation.image_masks} - {*cameras}):
        raise ValueError(f"unknown camera {unknown[0]!r}; this model has {list(cameras)}")
    present = [name for name in cameras if name in observation.images]
    if not present:
        return [], []
    size = vision.config.image_size
    shape = (size, size, 3) if memory is None else (memory.frames, size, size, 3)
    for name in present:
        if observation.images[name].shape[1:] != shape:
            raise ValueError(f"image {name!r} is {observation.images[name].shape[1:]}, expected {shape}")
    pixels = jnp.stack([to_float(observation.images[name]) for name in present], axis=1)
    batch = len(pixels)
    everywhere = jnp.ones((batch,) if memory is None else (batch, memory.frames), bool)
    masks = [observation.image_masks.get(name, everywhere) for name in present]
    flat = pixels.reshape(-1, *pixels.shape[2:])
    if memory is None:
        tokens = vision(flat, scan_layers=scan_layers)
    else:
        there = jnp.stack(masks, axis=1).reshape(-1, memory.frames)
        tokens = vision.over_time(flat, there, memory.every, scan_layers=scan_layers)
        masks = [mask[:, -1] for mask in masks]
    tokens = tokens.reshape(batch, len(present), *tokens.shape[1:])
    by_camera = [tokens[:, i] for i in range(len(present))]
    return by_camera, [jnp.repeat(mask[:, None], tokens.shape[2], axis=1) for mask in masks]


def embed_prefix(
    vision: Siglip,
    language: Gemma,
    observation: Observation,
    cameras: tuple[str, ...],
    memory: MemoryConfig | None = None,
    *,
    scan_layers: bool = True,
) -> Prefix:
    """Embeds images, then text. Where `ar_mask` is None they are one block, in which all see all."""
    images, masks = embed_images(vision, observation, cameras, memory, scan_layers=scan_layers)
    text = language.embed(observation.tokens)
    tokens = jnp.concatenate([*(image.astype(text.dtype) for image in images), text], axis=1)
    valid = jnp.concatenate([*masks, observation.token_mask], axis=1)
    ar_mask = jnp.zeros(valid.shape, jnp.int32)
    if observation.ar_mask is not None:
        ar_mask = ar_mask.at[:, -observation.tokens.shape[1] :].set(observation.ar_mask)
    return Prefix(tokens, valid, ar_mask)
