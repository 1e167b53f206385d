"""A model's weights laid out for inference: every layer on its own, matrices as the products want them.

Nothing is approximated. A stack's layers are taken apart once, not sliced (which copies them) in every call;
query, key and value are one matrix, gate and up another, each with its inputs first; matrices are in the
compute dtype, to which they would be rounded where they are used; and what depends on the flow time alone is
computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pioxide.models.gemma import Block, Expert, Gemma, Norm
from pioxide.models.param import weight
from pioxide.models.pi0 import Condition, Pi0
from pioxide.models.pi0_fast import Pi0Fast
from pioxide.models.siglip import Attention, Siglip
from pioxide.models.siglip import Block as VisionBlock
from pioxide.models.stack import Layers, layer


class Prepared(NamedTuple):
    """A model for inference, and of π0 and π0.5 the conditions of every flow time."""

    model: Pi0 | Pi0Fast
    conditions: Condition | None


class PreparedNorm(Norm):
    """A norm of one layer; an adaptive one has no parameters left, its modulations come computed."""

    def __init__(self, norm: Norm) -> None:
        """Takes the scale of a plain norm."""
        if hasattr(norm, "scale"):
            self.scale = nnx.Param(weight(norm.scale))


class PreparedExpert(Expert):
    """One expert's share of one layer: qkv [W, (N + 2 K) H], out [N, H, W], gate_up [W, 2 F], down [F, W]."""

    def __init__(self, expert: Expert, dtype: DTypeLike) -> None:
        """From an `Expert` that was taken from its stack."""
        self.attention_norm, self.mlp_norm = (
            PreparedNorm(expert.attention_norm),
            PreparedNorm(expert.mlp_norm),
        )
        query, key_value = weight(expert.query, dtype), weight(expert.key_value, dtype)
        self.heads, width, self.head_dim = query.shape
        self.kv_heads = key_value.shape[1]
        parts = [jnp.moveaxis(w, -2, 0).reshape(width, -1) for w in (query, key_value[0], key_value[1])]
        self.query_key_value = nnx.Param(jnp.concatenate(parts, axis=1))
        self.out = nnx.Param(weight(expert.out, dtype))
        self.gate_up = nnx.Param(jnp.concatenate(list(weight(expert.gate_up, dtype)), axis=1))
        self.down = nnx.Param(weight(expert.down, dtype))

    def project(self, x: Float[Array, "b t w"]) -> tuple[Array, Array, Array]:
        """See `Expert.project`."""
        both = (x @ weight(self.query_key_value, x.dtype)).reshape(*x.shape[:2], -1, self.head_dim)
        query, key, value = jnp.split(both, [self.heads, self.heads + self.kv_heads], axis=2)
        return query, key, value

    def mlp(self, x: Float[Array, "b t w"]) -> Float[Array, "b t w"]:
        """See `Expert.mlp`."""
        gate, up = jnp.split(x @ weight(self.gate_up, x.dtype), 2, axis=-1)
        return (jax.nn.gelu(gate, approximate=True) * up) @ weight(self.down, x.dtype)


class PreparedBlock(Block):
    """All experts of one layer."""

    def __init__(self, block: Block, dtype: DTypeLike) -> None:
        """From a `Block` that was taken from its stack."""
        self.experts = nnx.List([PreparedExpert(expert, dtype) for expert in block.experts])


class PreparedAttention(Attention):
    """SigLIP's attention with one projection: kernel [W, 3, N, H], bias [3, N, H]."""

    def __init__(self, attention: Attention, dtype: DTypeLike) -> None:
        """From one layer's."""
        parts = (attention.query, attention.key, attention.value)
        self.kernel = nnx.Param(jnp.stack([weight(part.kernel, dtype) for part in parts], axis=1))
        self.bias = nnx.Param(jnp.stack([weight(part.bias, dtype) for part in parts]))
        self.out = _cast(attention.out, dtype)

    def project(self, x: Float[Array, "b p w"]) -> tuple[Array, Array, Array]:
        """See `Attention.project`."""
        every = jnp.einsum("bpw,wcnh->bpcnh", x, weight(self.kernel, x.dtype)) + weight(self.bias, x.dtype)
        return every[:, :, 0], every[:, :, 1], every[:, :, 2]


class PreparedVisionBlock(VisionBlock):
    """One layer of SigLIP."""

    def __init__(self, block: VisionBlock, dtype: DTypeLike) -> None:
        """From a block that was taken from its stack."""
        self.attention_norm, self.mlp_norm = block.attention_norm, block.mlp_norm
        self.attention = PreparedAttention(block.attention, dtype)
        self.up, self.down = _cast(block.up, dtype), _cast(block.down, dtype)


def prepare(model: Pi0 | Pi0Fast, times: Float[Array, " n"] | None = None) -> Prepared:
    """Lays a model's weights out for inference. The model given stays as it is.

    Args:
        model: Its low-rank updates, if any, become part of the weights.
        times: The flow times at which π0 or π0.5 will be asked.

    Returns:
        A model of the same class for calls with `unroll=True`, in memory of its own.
    """
    graph, state = nnx.split(model)
    prepared = nnx.merge(graph, state)
    conditions = None
    if isinstance(model, Pi0) and times is not None:
        conditions = nnx.jit(Pi0.condition)(model, times)
    _prepare_vision(prepared.vision)
    _prepare_language(prepared.language)
    return Prepared(prepared, conditions)


def _prepare_vision(vision: Siglip) -> None:
    vision.blocks = _apart(
        vision.blocks, vision.config.depth, lambda block: PreparedVisionBlock(block, vision.dtype)
    )
    vision.head = _cast(vision.head, vision.dtype)


def _prepare_language(language: Gemma) -> None:
    language.blocks = _apart(
        language.blocks, language.config.depth, lambda block: PreparedBlock(block, language.dtype)
    )
    norms: list[Norm] = [PreparedNorm(norm) for norm in language.final_norms]
    language.final_norms = nnx.List(norms)


def _apart(stacked: nnx.Module, depth: int, make: Callable[[Any], nnx.Module]) -> Any:
    """Every layer of a stack through `make`, compiled once for all layers."""
    graph, state = nnx.split(stacked)

    @jax.jit
    def one(state: Any, index: Array) -> Any:
        taken = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), state)
        return nnx.state(make(nnx.merge(graph, taken)))

    shape = nnx.graphdef(nnx.eval_shape(lambda: make(layer(stacked, 0))))
    return Layers([nnx.merge(shape, one(state, jnp.int32(i))) for i in range(depth)])


def _cast(module: Any, dtype: DTypeLike) -> Any:
    """A module with every parameter in `dtype`."""
    graph, state = nnx.split(module)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(dtype), state))
