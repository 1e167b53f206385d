"""Functions of JAX and Flax under whole types: their own annotations leave parts of these unknown.

Each does what its namesake does. Rooms whose types are checked strictly call these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike, DTypeLike

# On a device, or in the host's memory before it is there.
AnyArray: TypeAlias = jax.Array | np.ndarray[Any, Any]
Node = TypeVar("Node", bound=nnx.Module)
Tree = TypeVar("Tree")
Taken = ParamSpec("Taken")
Given = TypeVar("Given")
GivenTo = TypeVar("GivenTo", covariant=True)

# A module's variables by attribute, and so on inwards.
State: TypeAlias = nnx.State[Any, Any]
# Variables by where they are in a module, as ("language", "blocks", 0, "kernel").
FlatState: TypeAlias = dict[tuple[Any, ...], nnx.Variable[jax.Array]]


@runtime_checkable
class Lowered(Protocol[Taken, GivenTo]):
    """A function that was traced for certain shapes, and is not compiled yet."""

    def compile(self) -> Callable[Taken, GivenTo]:
        """Compiles it for JAX's first device."""
        ...


@runtime_checkable
class Jitted(Protocol[Taken, GivenTo]):
    """A function that is compiled for each new shape of its arguments."""

    def __call__(self, *args: Taken.args, **kwargs: Taken.kwargs) -> GivenTo:
        """Calls the function."""
        ...

    def lower(self, *args: object) -> Lowered[Taken, GivenTo]:
        """Traces the function for arguments, or for `jax.ShapeDtypeStruct` in place of their arrays."""
        ...


def jit(function: Callable[Taken, Given]) -> Jitted[Taken, Given]:
    """Returns the function as JAX compiles it."""
    return cast("Jitted[Taken, Given]", jax.jit(function))


def vjp(
    function: Callable[..., jax.Array], *primals: jax.Array
) -> tuple[jax.Array, Callable[[jax.Array], tuple[jax.Array, ...]]]:
    """Returns a function's value, and what takes a cotangent of it to one of each argument."""
    return jax.vjp(function, *primals)


def block_until_ready(tree: Tree) -> Tree:
    """Returns a tree of arrays when all of them are computed."""
    return cast("Tree", jax.block_until_ready(tree))


def upload(tree: object) -> Any:
    """Returns a tree of arrays on the default device, when all of them are there."""
    return jax.block_until_ready(jax.device_put(tree))


def flatten(tree: Tree) -> tuple[list[jax.Array], Callable[[Iterable[jax.Array]], Tree]]:
    """Returns a tree's arrays, and what makes such a tree of other arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return leaves, partial(jax.tree.unflatten, structure)


def split(module: Node) -> tuple[nnx.GraphDef[Node], State]:
    """Returns a module's structure and its variables; `nnx.merge` is the way back."""
    return nnx.split(module)


def replaced(variable: nnx.Variable[jax.Array], value: jax.Array) -> nnx.Variable[jax.Array]:
    """Returns a variable of the same kind with another value."""
    return variable.replace(value)


def update(module: nnx.Module, state: State) -> None:
    """Sets those of a module's variables that a state has."""
    nnx.update(module, state)


def state(module: nnx.Module) -> State:
    """Returns a module's variables."""
    return nnx.state(module)


def parameters(module: nnx.Module) -> FlatState:
    """Returns a module's `nnx.Param`s by where they are in it."""
    return flat(nnx.state(module, nnx.Param))


def flat(state: State) -> FlatState:
    """Returns variables by where they are in their module."""
    return dict(nnx.to_flat_state(state))


def nested(flat: Mapping[tuple[Any, ...], nnx.Variable[jax.Array]]) -> State:
    """Returns the state of variables by where they are in their module: the way back of `flat`."""
    return nnx.from_flat_state(flat)


def asarray(values: ArrayLike, dtype: DTypeLike | None = None) -> jax.Array:
    """Returns values as an array on the default device."""
    return jnp.asarray(values, dtype)


def arange(stop: int) -> jax.Array:
    """Returns the whole numbers from 0 to below `stop`."""
    return jnp.arange(stop)


def pad(array: jax.Array, widths: Sequence[tuple[int, int]]) -> jax.Array:
    """Returns an array with zeros before and behind each of its axes."""
    return jnp.pad(array, widths)


def einsum(equation: str, *operands: jax.Array, accumulate_in: DTypeLike | None = None) -> jax.Array:
    """Returns Einstein's sum over arrays, added up and given in `accumulate_in` or in their own dtype."""
    return jnp.einsum(equation, *operands, preferred_element_type=accumulate_in)


def row(array: jax.Array, index: int | jax.Array) -> jax.Array:
    """Returns array[index], one program for all indices under `jit`."""
    return jax.lax.dynamic_index_in_dim(array, index, keepdims=False)


def wrap_key_data(bits: jax.Array) -> jax.Array:
    """Returns the random keys that [..., 2] uint32 bits stand for."""
    return jax.random.wrap_key_data(bits)


def set_option(name: str, value: object) -> None:
    """Sets one of JAX's options for this process."""
    jax.config.update(name, value)
