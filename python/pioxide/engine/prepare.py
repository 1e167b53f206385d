"""Unstacks scanned layers and fuses projection weights for inference.

Nothing is approximated unless `quantize` asks for it. A stack's layers are taken apart once, not sliced
(which copies them) in every call; query, key and value are one matrix, gate and up another, each with its
inputs first; matrices are in the compute dtype, to which they would be rounded where they are used; and what
depends on the flow time alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pioxide.engine.quantize import Quantization, Quantized
from pioxide.errors import InputError
from pioxide.models.gemma import Block, Expert, Norm
from pioxide.models.param import Linear, Weight, contract, weight
from pioxide.models.pi0 import Condition, Pi0
from pioxide.models.pi0_fast import Pi0Fast
from pioxide.models.siglip import Attention, Merge
from pioxide.models.siglip import Block as VisionBlock
from pioxide.models.stack import Layers, layer

Affine = TypeVar("Affine", Linear, Merge)


class Prepared(NamedTuple):
    """A model for inference, and the conditions of every flow time (π0 and π0.5)."""

    model: Pi0 | Pi0Fast
    conditions: Condition | None


@dataclass(frozen=True)
class Matrices:
    """How matrices are kept: in the compute dtype, or as 8 bits with scales."""

    dtype: DTypeLike
    quantize: Quantization | None

    def keep(self, kernel: Array, inputs: int = 1) -> Weight:
        """A matrix [inputs..., outputs...]; `inputs` axes of it are summed over."""
        return nnx.Param(kernel.astype(self.dtype)) if self.quantize is None else Quantized(kernel, inputs)

    def kept(self, module: Affine) -> Affine:
        """A `Linear`, or SigLIP's `Merge`, with its matrix kept so and its bias in the compute dtype."""
        own: Any = nnx.clone(module)
        bias = weight(module.bias, self.dtype)
        own.kernel = self.keep(weight(module.kernel), inputs=module.kernel.ndim - bias.ndim)
        own.bias = nnx.Param(bias)
        return own


class PreparedNorm(Norm):
    """A norm of one layer. An adaptive one has no parameters left: its modulations are precomputed."""

    def __init__(self, norm: Norm) -> None:
        """Takes the scale of a plain norm."""
        if hasattr(norm, "scale"):
            self.scale = nnx.Param(weight(norm.scale))


class PreparedExpert(Expert):
    """One expert's share of one layer: qkv [W, (N + 2 K) H], out [N, H, W], gate_up [W, 2 F], down [F, W]."""

    def __init__(self, expert: Expert, matrices: Matrices) -> None:
        """From an `Expert` that was taken from its stack."""
        self.attention_norm, self.mlp_norm = (
            PreparedNorm(expert.attention_norm),
            PreparedNorm(expert.mlp_norm),
        )
        query, key_value = weight(expert.query), weight(expert.key_value)
        self.heads, width, self.head_dim = query.shape
        self.kv_heads = key_value.shape[1]
        parts = [jnp.moveaxis(w, -2, 0).reshape(width, -1) for w in (query, key_value[0], key_value[1])]
        self.query_key_value = matrices.keep(jnp.concatenate(parts, axis=1))
        self.out = matrices.keep(weight(expert.out), inputs=2)
        self.gate_up = matrices.keep(jnp.concatenate(list(weight(expert.gate_up)), axis=1))
        self.down = matrices.keep(weight(expert.down))

    def project(self, x: Float[Array, "b t w"]) -> tuple[Array, Array, Array]:
        """See `Expert.project`."""
        both = contract("btw,wf->btf", x, self.query_key_value).reshape(*x.shape[:2], -1, self.head_dim)
        query, key, value = jnp.split(both, [self.heads, self.heads + self.kv_heads], axis=2)
        return query, key, value

    def mlp(self, x: Float[Array, "b t w"]) -> Float[Array, "b t w"]:
        """See `Expert.mlp`."""
        gate, up = jnp.split(contract("btw,wf->btf", x, self.gate_up), 2, axis=-1)
        return contract("btf,fw->btw", jax.nn.gelu(gate, approximate=True) * up, self.down)


class PreparedBlock(Block):
    """All experts of one layer."""

    def __init__(self, block: Block, matrices: Matrices) -> None:
        """From a `Block` that was taken from its stack."""
        self.experts = nnx.List([PreparedExpert(expert, matrices) for expert in block.experts])


class PreparedAttention(Attention):
    """SigLIP's attention with one projection: kernel [W, 3, N, H], bias [3, N, H]."""

    def __init__(self, attention: Attention, matrices: Matrices) -> None:
        """From one layer's."""
        parts = (attention.query, attention.key, attention.value)
        self.kernel = matrices.keep(jnp.stack([weight(part.kernel) for part in parts], axis=1))
        self.bias = nnx.Param(jnp.stack([weight(part.bias, matrices.dtype) for part in parts]))
        self.out = matrices.kept(attention.out)

    def project(self, x: Float[Array, "b p w"]) -> tuple[Array, Array, Array]:
        """See `Attention.project`."""
        every = contract("bpw,wcnh->bpcnh", x, self.kernel) + weight(self.bias, x.dtype)
        return every[:, :, 0], every[:, :, 1], every[:, :, 2]


class PreparedVisionBlock(VisionBlock):
    """One layer of SigLIP."""

    def __init__(self, block: VisionBlock, matrices: Matrices) -> None:
        """From a block that was taken from its stack."""
        self.attention_norm, self.mlp_norm = block.attention_norm, block.mlp_norm
        self.attention = PreparedAttention(block.attention, matrices)
        self.up, self.down = matrices.kept(block.up), matrices.kept(block.down)


def prepare(
    model: Pi0 | Pi0Fast,
    times: Float[Array, " n"] | None = None,
    *,
    quantize: Quantization | None = None,
    consume: bool = False,
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

    Returns:
        A model of the same class for calls with `scan_layers=False`.

    Raises:
        InputError: The model's arrays were freed before.
    """
    graph, state = nnx.split(model)
    if any(_freed(leaf) for leaf in jax.tree.leaves(state)):
        raise InputError(
            "the model's weights were freed, as by a policy that consumed it, or one that shares its arrays: "
            "load it again, or make the earlier policy without consume"
        )
    prepared = nnx.merge(graph, state)
    conditions = _conditions(model, times) if isinstance(model, Pi0) and times is not None else None
    vision, language = prepared.vision, prepared.language
    images, text = Matrices(vision.dtype, quantize), Matrices(language.dtype, quantize)
    vision.blocks = _apart(
        vision.blocks, vision.config.depth, lambda block: PreparedVisionBlock(block, images), consume=consume
    )
    vision.head = Matrices(vision.dtype, None).kept(vision.head)
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
    graph, state = nnx.split(model)
    # Not nnx.jit, which would give back a copy of every parameter.
    computed = jax.jit(lambda state: nnx.merge(graph, state).condition(times))(state)
    return jax.block_until_ready(computed)


def _apart(stacked: nnx.Module, depth: int, make: Callable[[Any], nnx.Module], *, consume: bool) -> Any:
    """Every layer of a stack through `make`, compiled once for all layers."""
    graph, state = nnx.split(stacked)
    shape = nnx.graphdef(nnx.eval_shape(lambda: make(layer(stacked, 0))))
    one = jax.jit(lambda state: nnx.state(make(nnx.merge(graph, state))))
    return Layers([nnx.merge(shape, one(taken)) for taken in _slices(state, depth, consume=consume)])


def _slices(state: Any, depth: int, *, consume: bool) -> Iterator[Any]:
    """The layers of a state one after the other; nothing here holds one that was given out."""
    leaves, tree = jax.tree.flatten(state)
    take = jax.jit(lambda leaf, index: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False))
    if not consume:
        for index in range(depth):
            yield jax.tree.unflatten(tree, [take(leaf, index) for leaf in leaves])
        return
    columns = []
    for leaf in leaves:
        columns.append([take(leaf, index) for index in range(depth)])
        jax.block_until_ready(columns[-1])
        leaf.delete()
    for _ in range(depth):
        yield jax.tree.unflatten(tree, [column.pop(0) for column in columns])
