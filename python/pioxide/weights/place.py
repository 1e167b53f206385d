"""Arrays onto devices and back: whole, or each device its part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pioxide.errors import InputError
from pioxide.weights.tree import Array, Spec, Tree

if TYPE_CHECKING:
    import jax

Shardings = Callable[[Spec], "jax.sharding.Sharding"]


def put(array: Array, sharding: jax.sharding.Sharding | None) -> jax.Array:
    """Puts an array on the default device, or in pieces where `sharding` says; returns when it is there.

    On the CPU the memory is taken over and not copied, so the caller must let go of `array`.
    """
    import jax

    from pioxide.models import typed

    if sharding is None:
        return typed.upload(array)
    made = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
    return typed.block_until_ready(made)


class DeviceTree(Tree):
    """JAX arrays by openpi path, brought to the host one at a time.

    Raises:
        InputError: A part of an array is on another host.
    """

    def __init__(self, arrays: Mapping[str, jax.Array], where: str) -> None:
        specs = {path: Spec(tuple(a.shape), np.dtype(a.dtype)) for path, a in arrays.items()}
        super().__init__(where, specs)
        self.arrays = dict(arrays)
        for path, array in self.arrays.items():
            if not array.is_fully_addressable:
                raise InputError(f"{path} is not wholly on this host: gather it first")

    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Copies rows out of every device that has some."""
        for shard in self.arrays[path].addressable_shards:
            if shard.replica_id:
                continue
            values = np.asarray(shard.data)
            if not out.ndim:
                out[...] = values
                continue
            rows = range(*shard.index[0].indices(self.specs[path].shape[0]))
            first, last = max(rows.start, start), min(rows.stop, start + len(out))
            if first < last:
                place = (slice(first - start, last - start), *shard.index[1:])
                out[place] = values[first - rows.start : last - rows.start]

    def blocks(self, path: str) -> Iterator[tuple[int, int]]:
        """Yields all rows at once, unless they are in the host's memory: a device gives a whole array."""
        spec, array = self.specs[path], self.arrays[path]
        if spec.shape and any(device.platform != "cpu" for device in array.devices()):
            yield 0, spec.shape[0]
        else:
            yield from super().blocks(path)
