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


def part(stacked: Module, start: int, stop: int) -> Module:
    """Returns layers `start` to `stop` of a stack as a stack of their own."""
    graph, state = nnx.split(stacked)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf[start:stop], state))


def scan_groups(
    stacked: Module,
    steps: Sequence[Callable[[Module, Carry], Carry]],
    carry: Carry,
    *,
    remat: bool = False,
    mesh: Mesh | None = None,
    dtype: DTypeLike | None = None,
) -> Carry:
    """Runs a value through all layers in a scan over groups of them, the layers of a group each in its way.

    Args:
        stacked: One module with [depth, ...] parameters; its depth is a multiple of the steps.
        steps: What each layer of a group does: takes its module and the carry, and returns the carry.
        carry: The first layer's input.
        remat: As in `scan`, layer by layer.
        mesh: As in `scan`.
        dtype: As in `scan`.
    """
    graph, state = nnx.split(stacked)
    size = len(steps)
    grouped = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), state)

    def body(carry: Carry, group: Any) -> tuple[Carry, None]:
        for index, step in enumerate(steps):

            def one(carry: Carry, group: Any, index: int = index, step: Any = step) -> Carry:
                state = jax.tree.map(lambda leaf: leaf[index], group)
                if mesh is not None:
                    state, carry = gathered(state, mesh, dtype), over_rows(carry, mesh)
                return step(nnx.merge(graph, state), carry)

            carry = (jax.checkpoint(one, prevent_cse=False) if remat else one)(carry, group)
        return carry, None

    return jax.lax.scan(body, carry, grouped)[0]


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
