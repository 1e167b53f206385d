"""Unstacks scanned layers and fuses projection weights for inference.

Nothing is approximated unless `quantize` asks for it. A stack's layers are taken apart once, not sliced
(which copies them) in every call; query, key and value are one matrix, gate and up another, each with its
inputs first; matrices are in the compute dtype, to which they would be rounded where they are used; and what
depends on the flow time alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pioxide.engine.device import tuning_here
from pioxide.engine.quantize import Quantization, Quantized
from pioxide.errors import InputError
from pioxide.models import typed
from pioxide.models.gemma import Block, Expert, Norm
from pioxide.models.param import Linear, Weight, contract, weight
from pioxide.models.pi0 import Condition, Pi0
from pioxide.models.pi0_fast import Pi0Fast
from pioxide.models.siglip import Attention, Merge
from pioxide.models.siglip import Block as VisionBlock
from pioxide.models.stack import Layers, layer
from pioxide.models.tuning import Tuning


class Prepared(NamedTuple):
    """A model for inference, and the conditions of every flow time (π0 and π0.5)."""

    model: Pi0 | Pi0Fast
    conditions: Condition | None


@dataclass(frozen=True)
class Matrices:
    """How matrices are kept: in the compute dtype, or as 8 bits with scales; and for which device."""

    dtype: DTypeLike
    quantize: Quantization | None
    tuning: Tuning

    def keep(self, kernel: Float[Array, "i o"]) -> Weight:
        """Keeps a matrix [inputs, outputs]."""
        return nnx.Param(kernel.astype(self.dtype)) if self.quantize is None else Quantized(kernel, inputs=1)

    def kept(self, module: Linear) -> Linear:
        """Returns a `Linear` with its matrix kept so and its bias in the compute dtype."""
        own: Any = nnx.clone(module)
        own.kernel = self.keep(weight(module.kernel))
        own.bias = nnx.Param(weight(module.bias, self.dtype))
        return own


class PreparedNorm(Norm):
    """A norm of one layer. An adaptive one has no parameters left: its modulations are precomputed."""

    def __init__(self, norm: Norm) -> None:
        """Takes the scale of a plain norm."""
        if hasattr(norm, "scale"):
            self.scale = nnx.Param(weight(norm.scale))


class PreparedExpert(Expert):
    """One expert's share of one layer: qkv [W, (N + 2 K) H], out [N H, W], gate_up [W, 2 F], down [F, W]."""

    def __init__(self, expert: Expert, matrices: Matrices) -> None:
        """Prepares an `Expert` that was taken from its stack."""
        self.attention_norm, self.mlp_norm = (
            PreparedNorm(expert.attention_norm),
            PreparedNorm(expert.mlp_norm),
        )
        query, key_value = weight(expert.query), weight(expert.key_value)
        self.heads, width, self.head_dim = query.shape
        self.kv_heads = key_value.shape[1]
        parts = [jnp.moveaxis(w, -2, 0).reshape(width, -1) for w in (query, key_value[0], key_value[1])]
        self.query_key_value = matrices.keep(jnp.concatenate(parts, axis=1))
        self.out = matrices.keep(weight(expert.out).reshape(-1, width))
        self.rows = matrices.tuning.rows
        self.gate_up = matrices.keep(jnp.concatenate(list(weight(expert.gate_up)), axis=1))
        self.down = matrices.keep(weight(expert.down))

    def project(self, x: Float[Array, "b t w"]) -> tuple[Array, Array, Array]:
        """See `Expert.project`."""
        both = self._product(x, self.query_key_value).reshape(*x.shape[:2], -1, self.head_dim)
        query, key, value = jnp.split(both, [self.heads, self.heads + self.kv_heads], axis=2)
        return query, key, value

    def merge(self, heads: Float[Array, "b t n h"]) -> Float[Array, "b t w"]:
        """See `Expert.merge`."""
        return self._product(heads.reshape(*heads.shape[:2], -1), self.out)

    def mlp(self, x: Float[Array, "b t w"]) -> Float[Array, "b t w"]:
        """See `Expert.mlp`."""
        gate, up = jnp.split(self._product(x, self.gate_up), 2, axis=-1)
        return self._product(jax.nn.gelu(gate, approximate=True) * up, self.down)

    def _product(self, x: Float[Array, "b t i"], matrix: Weight) -> Float[Array, "b t o"]:
        """Multiplies by a matrix; a single token gets rows of zeros beside it, see `Tuning`."""
        single = x.shape[0] * x.shape[1] == 1
        rows = typed.pad(x, [(0, 0), (0, self.rows - 1), (0, 0)]) if single else x
        return contract("bti,io->bto", rows, matrix)[:, : x.shape[1]]


class PreparedBlock(Block):
    """All experts of one layer."""

    def __init__(self, block: Block, matrices: Matrices) -> None:
        """Prepares a `Block` that was taken from its stack."""
        self.experts = nnx.List([PreparedExpert(expert, matrices) for expert in block.experts])


class PreparedMerge(Merge):
    """Heads back to SigLIP's width: kernel [N H, W]."""

    def __init__(self, merge: Merge, matrices: Matrices) -> None:
        """Prepares those of one layer."""
        self.kernel = matrices.keep(weight(merge.kernel).reshape(-1, merge.bias.shape[-1]))
        self.bias = nnx.Param(weight(merge.bias, matrices.dtype))

    def __call__(self, x: Float[Array, "b p n h"]) -> Float[Array, "b p w"]:
        """See `Merge`."""
        heads = x.reshape(*x.shape[:2], -1)
        return contract("bpi,iw->bpw", heads, self.kernel) + weight(self.bias, x.dtype)


class PreparedAttention(Attention):
    """SigLIP's attention with one projection: kernel [W, 3 N H], bias [3 N H]."""

    def __init__(self, attention: Attention, matrices: Matrices) -> None:
        """Prepares those of one layer."""
        parts = (attention.query, attention.key, attention.value)
        width, *self.heads = attention.query.kernel.shape
        kernels = [weight(part.kernel).reshape(width, -1) for part in parts]
        self.kernel = matrices.keep(jnp.concatenate(kernels, axis=1))
        self.bias = nnx.Param(jnp.concatenate([weight(part.bias, matrices.dtype).ravel() for part in parts]))
        self.out = PreparedMerge(attention.out, matrices)
        self.tuning = matrices.tuning

    def project(self, x: Float[Array, "b p w"]) -> tuple[Array, Array, Array]:
        """See `Attention.project`."""
        every = contract("bpw,wo->bpo", x, self.kernel) + weight(self.bias, x.dtype)
        every = every.reshape(*x.shape[:2], 3, *self.heads)
        return every[:, :, 0], every[:, :, 1], every[:, :, 2]


class PreparedVisionBlock(VisionBlock):
    """One layer of SigLIP."""

    def __init__(self, block: VisionBlock, matrices: Matrices) -> None:
        """Prepares a block that was taken from its stack."""
        self.attention_norm, self.mlp_norm = block.attention_norm, block.mlp_norm
        self.attention = PreparedAttention(block.attention, matrices)
        self.up, self.down = matrices.kept(block.up), matrices.kept(block.down)


def prepare(
    model: Pi0 | Pi0Fast,
    times: Float[Array, " n"] | None = None,
    *,
    quantize: Quantization | None = None,
    consume: bool = False,
    tuning: Tuning | None = None,
) -> Prepared:
    """Lays a model's weights out for inference. The model given stays as it is, unless it is consumed.

    Args:
        model: Its low-rank updates, if any, become part of the weights.
        times: The flow times at which π0 or π0.5 will be asked.
        quantize: Whether the matrices of all layers become int8, which is inexact. Embeddings, norms and the
            small projections in and out stay as they are.
        consume: Whether the layers' weights are freed on the way: the most memory is then the model and the
            largest of its stacks, not two models. The model given can't be used afterwards, nor any other
            that shares its arrays (`nnx.merge` of the same state).
        tuning: For which device; by default JAX's first.

    Returns:
        A model of the same class for calls with `scan_layers=False`.

    Raises:
        InputError: The model's arrays were freed before.
    """
    graph, state = typed.split(model)
    if any(_freed(leaf) for leaf in jax.tree.leaves(state)):
        raise InputError(
            "the model's weights were freed, as by a policy that consumed it, or one that shares its arrays: "
            "load it again, or make the earlier policy without consume"
        )
    prepared = nnx.merge(graph, state)
    conditions = _conditions(model, times) if isinstance(model, Pi0) and times is not None else None
    vision, language = prepared.vision, prepared.language
    tuning = tuning_here() if tuning is None else tuning
    images, text = Matrices(vision.dtype, quantize, tuning), Matrices(language.dtype, quantize, tuning)
    language.tuning = tuning
    vision.blocks = _apart(
        vision.blocks, vision.config.depth, lambda block: PreparedVisionBlock(block, images), consume=consume
    )
    vision.head = Matrices(vision.dtype, None, tuning).kept(vision.head)
    language.blocks = _apart(
        language.blocks, language.config.depth, lambda block: PreparedBlock(block, text), consume=consume
    )
    norms: list[Norm] = [PreparedNorm(norm) for norm in language.final_norms]
    language.final_norms = nnx.List(norms)
    return Prepared(prepared, conditions)


def _freed(leaf: Any) -> bool:
    # Under `jax.eval_shape` there are shapes in place of arrays.
    return isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.is_deleted()


def _conditions(model: Pi0, times: Float[Array, " n"]) -> Condition:
    graph, state = typed.split(model)

    @typed.jit  # not nnx.jit, which would give back a copy of every parameter
    def conditions(state: typed.State) -> Condition:
        return nnx.merge(graph, state).condition(times)

    return typed.block_until_ready(conditions(state))


def _apart(stacked: nnx.Module, depth: int, make: Callable[[Any], nnx.Module], *, consume: bool) -> Any:
    """Passes every layer of a stack through `make`, compiled once for all layers."""
    graph, state = typed.split(stacked)
    shape = nnx.graphdef(nnx.eval_shape(lambda: make(layer(stacked, 0))))

    @typed.jit
    def one(state: typed.State) -> typed.State:
        return typed.state(make(nnx.merge(graph, state)))

    return Layers([nnx.merge(shape, one(taken)) for taken in _slices(state, depth, consume=consume)])


def _slices(state: typed.State, depth: int, *, consume: bool) -> Iterator[typed.State]:
    """Yields the layers of a state one after the other; nothing here holds one that was given out."""
    leaves, rebuilt = typed.flatten(state)
    take = typed.jit(typed.row)

    if not consume:
        for index in range(depth):
            yield rebuilt([take(leaf, index) for leaf in leaves])
        return
    columns: list[list[jax.Array]] = []
    for leaf in leaves:
        columns.append(typed.block_until_ready([take(leaf, index) for index in range(depth)]))
        leaf.delete()
    for _ in range(depth):
        yield rebuilt([column.pop(0) for column in columns])
