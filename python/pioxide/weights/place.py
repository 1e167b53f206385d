"""Tensors from a tree onto devices, one by one: whole, or each device its part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pioxide.weights.checkpoint import stream
from pioxide.weights.tree import Array, Spec, Tree

if TYPE_CHECKING:
    import jax

Shardings = Callable[[str, Spec], "jax.sharding.Sharding"]


def put(array: Array, sharding: jax.sharding.Sharding | None) -> jax.Array:
    """An array on the default device, or in pieces where `sharding` says; returns when it is there.

    On the CPU the memory is taken over and not copied, so the caller must let go of `array`.
    """
    import jax

    if sharding is None:
        return jax.block_until_ready(jax.device_put(array))
    made = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
    return jax.block_until_ready(made)


def place(
    tree: Tree,
    *,
    dtype: Callable[[str, Spec], np.dtype[Any]] = lambda path, spec: spec.dtype,
    sharding: Shardings | None = None,
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> dict[str, jax.Array]:
    """Read a whole tree onto devices. In host memory there is never more than one tensor of it.

    Args:
        tree: opened.
        dtype: what to convert each tensor to.
        sharding: where each tensor goes, by path and spec; the default device without it.
        on_bytes: told what was read.

    Raises:
        CheckpointError: a tensor holds NaN or infinite numbers; lists all such.
    """

    def wanted(path: str, array: Array) -> jax.sharding.Sharding | None:
        return None if sharding is None else sharding(path, Spec(array.shape, array.dtype))

    made = {}
    for path, array in stream(tree, dtype, on_bytes):
        made[path] = put(array, wanted(path, array))
        del array  # before the next one is read
    return made
