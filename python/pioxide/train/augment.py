"""Random changes of training images, on the device: as in openpi, whose policies were trained with them.

Cameras without "wrist" in their name are cropped to 95% and turned by up to 5 degrees; all are changed in
brightness, contrast and saturation. Each image has its own draw.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pioxide.models.observation import to_float

CROP = 0.95
DEGREES = 5.0
BRIGHTNESS, CONTRAST, SATURATION = 0.3, 0.4, 0.5
# What a colour weighs in an image's grey value (ITU-R BT.601).
GREY = (0.2989, 0.587, 0.114)


def augment(images: dict[str, Array], key: PRNGKeyArray) -> dict[str, Float[Array, "b *t h w 3"]]:
    """Returns images changed at random, float32 in [-1, 1].

    Args:
        images: By camera slot, [B, S, S, 3] or [B, T, S, S, 3] uint8 or float32 in [-1, 1]. All frames of a
            row's camera are changed alike, as a camera that sees otherwise would.
        key: Each camera and each row draws its own from it.
    """
    changed = {}
    for index, (name, image) in enumerate(sorted(images.items())):
        keys = jax.random.split(jax.random.fold_in(key, index), len(image))
        one = to_float(image) / 2 + 0.5
        move, colour = _move, _colour
        if one.ndim == 5:
            move, colour = (jax.vmap(change, in_axes=(0, None)) for change in (_move, _colour))
        if "wrist" not in name:
            one = jax.vmap(move)(one, keys)
        changed[name] = jnp.clip(jax.vmap(colour)(one, keys), 0.0, 1.0) * 2 - 1
    return {name: changed[name] for name in images}


def _move(image: Float[Array, "h w 3"], key: PRNGKeyArray) -> Float[Array, "h w 3"]:
    """Crops at random, scales back and turns, by one bilinear reading; what comes from outside is black."""
    height, width = image.shape[:2]
    place, turn = jax.random.split(jax.random.fold_in(key, 0))
    free = jnp.asarray([height, width], jnp.float32) * (1 - CROP)
    corner = jax.random.uniform(place, (2,)) * free
    angle = jnp.deg2rad(jax.random.uniform(turn, (), minval=-DEGREES, maxval=DEGREES))
    rows, columns = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    y, x = rows - height / 2, columns - width / 2
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned_y, turned_x = cos * y - sin * x + height / 2, sin * y + cos * x + width / 2
    inside = (turned_y >= 0) & (turned_y <= height) & (turned_x >= 0) & (turned_x <= width)
    at_y, at_x = corner[0] + turned_y * CROP - 0.5, corner[1] + turned_x * CROP - 0.5
    read = jax.vmap(
        lambda plane: jax.scipy.ndimage.map_coordinates(plane, [at_y, at_x], order=1, mode="nearest"),
        in_axes=2,
        out_axes=2,
    )(image)
    return jnp.where(inside[..., None], read, 0.0)


def _colour(image: Float[Array, "h w 3"], key: PRNGKeyArray) -> Float[Array, "h w 3"]:
    """Changes brightness, contrast and saturation of an image in [0, 1], each by a factor around 1."""
    keys = jax.random.split(jax.random.fold_in(key, 1), 3)
    brightness, contrast, saturation = (
        1 + jax.random.uniform(k, (), minval=-most, maxval=most)
        for k, most in zip(keys, (BRIGHTNESS, CONTRAST, SATURATION), strict=True)
    )
    image = jnp.clip(image * brightness, 0.0, 1.0)
    grey = jnp.asarray(GREY)
    image = jnp.clip((image - (image @ grey).mean()) * contrast + (image @ grey).mean(), 0.0, 1.0)
    flat = (image @ grey)[..., None]
    return flat + (image - flat) * saturation
