"""How every layer draws its parameters, and casts them where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


@runtime_checkable
class Composed(Protocol):
    """A weight that is computed from several parameters, for example a base and its low-rank update."""

    def compose(self) -> jax.Array:
        """Returns the weight in its parameters' dtype."""
        ...

    def contract(self, equation: str, x: jax.Array) -> jax.Array:
        """Returns `einsum(equation, x, weight)` in x's dtype.

        Computed without materialising the weight where that costs more.
        """
        ...


Weight = nnx.Param[Any] | Composed


def weight(parameter: Any, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns the value of a parameter or of a `Composed` weight, cast to `dtype` if one is given."""
    value = parameter.compose() if isinstance(parameter, Composed) else parameter[...]
    return value if dtype is None else value.astype(dtype)


def contract(equation: str, x: jax.Array, parameter: Any) -> jax.Array:
    """Returns `einsum(equation, x, weight)` in x's dtype; a `Composed` weight computes it in its own way."""
    if isinstance(parameter, Composed):
        return parameter.contract(equation, x)
    return jnp.einsum(equation, x, weight(parameter, x.dtype))


def normal(
    rngs: nnx.Rngs,
    shape: Sequence[int],
    *,
    fan_in: int | None = None,
    std: float | None = None,
    dtype: DTypeLike,
) -> nnx.Param[jax.Array]:
    """Draws normal values with standard deviation `std`, or `1 / sqrt(fan_in)`."""
    scale = std if std is not None else (fan_in or 1) ** -0.5
    return nnx.Param(jax.random.normal(rngs.params(), tuple(shape), dtype) * jnp.asarray(scale, dtype))


def zeros(shape: Sequence[int], dtype: DTypeLike) -> nnx.Param[jax.Array]:
    """Makes a parameter of zeros."""
    return nnx.Param(jnp.zeros(tuple(shape), dtype))


def ones(shape: Sequence[int], dtype: DTypeLike) -> nnx.Param[jax.Array]:
    """Makes a parameter of ones."""
    return nnx.Param(jnp.ones(tuple(shape), dtype))


class Linear(nnx.Module):
    """`x @ kernel + bias`, kernel [*stack, inputs, outputs]."""

    def __init__(
        self, rngs: nnx.Rngs, inputs: int, outputs: int, *, stack: Sequence[int] = (), dtype: DTypeLike
    ) -> None:
        """Draws the kernel with variance 1 / inputs; `stack` is the leading shape of stacked layers."""
        self.kernel = normal(rngs, (*stack, inputs, outputs), fan_in=inputs, dtype=dtype)
        self.bias = zeros((*stack, outputs), dtype)

    def __call__(self, x: jax.Array, dtype: DTypeLike | None = None) -> jax.Array:
        """Maps [..., inputs] to [..., outputs] in `dtype`, else in the wider of x's and the parameters'."""
        if dtype is None:
            dtype = max(x.dtype, weight(self.bias).dtype, key=lambda either: either.itemsize)
        return contract("...i,io->...o", x.astype(dtype), self.kernel) + weight(self.bias, dtype)
