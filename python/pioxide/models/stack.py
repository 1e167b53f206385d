"""Layers whose parameters lie stacked on axis 0, walked by a scan or one by one: the same weights either way.

A scan compiles one layer whatever the depth, which training wants. One by one lets the compiler see each
layer on its own, which inference wants: it drops what a last layer need not compute, and copies no weights
out of the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx

Carry = TypeVar("Carry")
Module = TypeVar("Module", bound=nnx.Module)


class Layers(nnx.Module):
    """Layers that lie one by one, in place of a stack: what `layer` gives is there already."""

    def __init__(self, layers: Sequence[nnx.Module]) -> None:
        """In their order."""
        self.each = nnx.List(layers)


def layer(stacked: Module, index: int) -> Module:
    """Layer `index` of a stack, as a module of its own."""
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
) -> tuple[Carry, Any]:
    """Carries a value through all layers.

    Args:
        stacked: One module with [depth, ...] parameters.
        step: One layer: it gets its module, the carry and its slice of `extras`, and gives the carry and an
            answer.
        carry: What the first layer gets.
        extras: A tree of [depth, ...] arrays.
        remat: Whether the backward pass computes each layer again instead of keeping what it made.

    Returns:
        The carry after the last layer, and the answers stacked [depth, ...].
    """
    graph, state = nnx.split(stacked)

    def body(carry: Carry, sliced: Any) -> tuple[Carry, Any]:
        layer_state, extra = sliced
        return step(nnx.merge(graph, layer_state), carry, extra)

    if remat:
        body = jax.checkpoint(body, prevent_cse=False)
    return jax.lax.scan(body, carry, (state, extras))
