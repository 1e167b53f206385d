"""Many devices: a mesh of data and FSDP axes, and models created in shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

Module = TypeVar("Module", bound=nnx.Module)

DATA, FSDP = "data", "fsdp"
# What the models call their stacks of layers.
BLOCKS = "blocks"
# Smaller arrays are kept whole on every device: gathering them costs more than they weigh.
SMALLEST_BYTES = 4 << 20


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Makes a mesh (data, fsdp) over all devices, or those given.

    Raises:
        ValueError: The number of devices is no multiple of `fsdp`.
    """
    devices = jax.devices() if devices is None else devices
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(f"{len(devices)} devices can't be split into groups of {fsdp}")
    return Mesh(np.asarray(devices).reshape(-1, fsdp), (DATA, FSDP))


def parameter_spec(
    shape: Sequence[int], itemsize: int, mesh: Mesh, *, smallest_bytes: int = SMALLEST_BYTES
) -> P:
    """Returns how one parameter is split: along its largest axis that the FSDP size divides, as in openpi.

    Scalars, vectors, and arrays under `smallest_bytes` are kept whole.
    """
    size = mesh.shape[FSDP]
    if size == 1 or len(shape) < 2 or int(np.prod(shape)) * itemsize < smallest_bytes:
        return P()
    for axis in sorted(range(len(shape)), key=lambda axis: -shape[axis]):
        if shape[axis] % size == 0:
            return P(*(FSDP if i == axis else None for i in range(len(shape))))
    return P()


def parameter_sharding(mesh: Mesh, *, smallest_bytes: int = SMALLEST_BYTES) -> Callable[..., NamedSharding]:
    """Returns a function from an array, or anything with a shape and a dtype, to its sharding."""

    def place(leaf: Any) -> NamedSharding:
        spec = parameter_spec(leaf.shape, leaf.dtype.itemsize, mesh, smallest_bytes=smallest_bytes)
        return NamedSharding(mesh, spec)

    return place


def gathered(parameters: Any, mesh: Mesh, dtype: DTypeLike | None) -> Any:
    """Returns parameters whole on every device, matrices in `dtype`.

    Cast first, so that half the bytes travel. Without this XLA leaves weights where they are and sends the
    activations of all rows round instead, and computes the same attention on every device.
    """
    whole = NamedSharding(mesh, P())

    def gather(leaf: jax.Array) -> jax.Array:
        if dtype is not None and leaf.ndim > 1:
            leaf = leaf.astype(dtype)
        return jax.lax.with_sharding_constraint(leaf, whole)

    return jax.tree.map(gather, parameters)


def gathered_outside_layers(parameters: Any, mesh: Mesh) -> Any:
    """Returns a tree of parameters with those that are in no stack of layers whole on every device.

    They are few, embedding aside, and without this XLA may send a batch's rows to them; see `gathered`. A
    stack's are brought layer by layer, by `stack.scan`.
    """
    whole = NamedSharding(mesh, P())

    def gather(path: Any, leaf: jax.Array) -> jax.Array:
        if any(getattr(key, "key", None) == BLOCKS for key in path):
            return leaf
        return jax.lax.with_sharding_constraint(leaf, whole)

    return jax.tree_util.tree_map_with_path(gather, parameters)


def over_rows(arrays: Any, mesh: Mesh) -> Any:
    """Returns arrays with their first axis, a batch's rows, spread over all devices."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, batch_sharding(mesh)), arrays)


def spread(model: Any, mesh: Mesh) -> None:
    """Tells a model, in place, that rows of its batches are spread over a mesh's devices; see `gathered`.

    Args:
        model: π0, π0.5 or π0-FAST.
        mesh: Of more than one device; a single one needs nothing.
    """
    if mesh.size > 1:
        model.vision.mesh = model.language.mesh = mesh


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its rows over all devices."""
    return NamedSharding(mesh, P((DATA, FSDP)))


def create_sharded(make: Callable[[], Module], mesh: Mesh, *, smallest_bytes: int = SMALLEST_BYTES) -> Module:
    """Runs `make` so that each parameter is drawn in its shards; no device ever holds the whole model."""
    place = parameter_sharding(mesh, smallest_bytes=smallest_bytes)
    graph, abstract = nnx.split(nnx.eval_shape(make))
    shardings = jax.tree.map(place, abstract)
    state = jax.jit(lambda: nnx.split(make())[1], out_shardings=shardings)()
    return nnx.merge(graph, state)
