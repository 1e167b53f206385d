"""Layers whose parameters are stacked on axis 0, and how they run: in a scan, or unrolled.

Over several devices a scan is where parameters are gathered, see `sharding.gathered`: one layer at a time.

A scan compiles one layer whatever the depth, which suits training. Unrolled, the compiler sees each layer on
its own, which suits inference: it leaves out what the last layer need not compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from pioxide.models.sharding import gathered, over_rows

Carry = TypeVar("Carry")
Module = TypeVar("Module", bound=nnx.Module)


class Layers(nnx.Module):
    """Unstacked layers; `layer` returns them without slicing."""

    def __init__(self, layers: Sequence[nnx.Module]) -> None:
        """Keeps the layers in their order."""
        self.each = nnx.List(layers)


def layer(stacked: Module, index: int) -> Module:
    """Returns layer `index` of a stack as a module of its own."""
    if isinstance(stacked, Layers):
        laid_out: Any = stacked.each[index]
        return laid_out
    graph, state = nnx.split(stacked)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf[index], state))


def scan(
    stacked: Module,
    step: Callable[[Module, Carry, Any], tuple[Carry, Any]],
    carry: Carry,
    extras: Any = None,
    *,
    remat: bool = False,
    mesh: Mesh | None = None,
    dtype: DTypeLike | None = None,
) -> tuple[Carry, Any]:
    """Runs a value through all layers in a scan.

    Args:
        stacked: One module with [depth, ...] parameters.
        step: One layer: takes its module, the carry and its slice of `extras`, and returns the carry and an
            output.
        carry: The first layer's input.
        extras: A tree of [depth, ...] arrays.
        remat: Whether the backward pass recomputes each layer instead of keeping its activations.
        mesh: Devices over which rows of the carry are spread; each layer's parameters are brought to all of
            them when it is its turn, and let go.
        dtype: With a mesh: what matrices are cast to before that, which is what the layer computes in.

    Returns:
        The carry after the last layer, and the outputs stacked [depth, ...].
    """
    graph, state = nnx.split(stacked)

    def body(carry: Carry, sliced: Any) -> tuple[Carry, Any]:
        layer_state, extra = sliced
        if mesh is not None:
            layer_state, carry = gathered(layer_state, mesh, dtype), over_rows(carry, mesh)
        return step(nnx.merge(graph, layer_state), carry, extra)

    if remat:
        body = jax.checkpoint(body, prevent_cse=False)
    return jax.lax.scan(body, carry, (state, extras))
