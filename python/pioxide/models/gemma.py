"""Gemma with any number of experts that share one attention, and an optional cache: the only transformer.

Training passes no cache. Prefill writes its keys and values from slot 0; a denoising step writes its suffix
where the prefix ends, over the previous step's; a decoded token writes the next slot. The mask alone decides
what each token sees.

B batch, T query tokens, S key slots, W width, N heads, K key heads, G heads a key head, H head width, F
hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.attention import attend, fused_attend
from pioxide.models.param import Linear, contract, normal, weight, zeros
from pioxide.models.sharding import gathered, over_rows
from pioxide.models.stack import layer, scan
from pioxide.models.tuning import PLAIN

EPSILON = 1e-6
ROPE_WAVELENGTH = 10_000
VOCAB = 257_152


@dataclass(frozen=True)
class ExpertConfig:
    """The sizes of one expert: a stream with its own projections, norms and MLP.

    Attributes:
        width: W.
        mlp: F.
        adaptive: Whether its norms take scale, shift and gate from a condition (π0.5's action expert).
    """

    width: int
    mlp: int
    adaptive: bool = False

    def adapted(self) -> ExpertConfig:
        """Returns this with adaptive norms."""
        return replace(self, adaptive=True)


@dataclass(frozen=True)
class GemmaConfig:
    """The sizes of the experts, and of what they share.

    Attributes:
        experts: The first is the language model, which embeds and predicts tokens.
        depth: Layers.
        heads: N, query heads.
        kv_heads: K, key and value heads.
        head_dim: H.
        vocab: Tokens of the vocabulary.
        float32_queries: Whether queries stay in float32 after RoPE. openpi's π0-FAST does that, its π0 casts
            them back; it matters in bfloat16 only.
    """

    experts: tuple[ExpertConfig, ...]
    depth: int
    heads: int = 8
    kv_heads: int = 1
    head_dim: int = 256
    vocab: int = VOCAB
    float32_queries: bool = False

    @classmethod
    def gemma_2b(cls) -> GemmaConfig:
        """Returns PaliGemma's language model alone."""
        return cls((ExpertConfig(2048, 16_384),), depth=18)

    @classmethod
    def gemma_300m(cls) -> GemmaConfig:
        """Returns the size of the released action experts."""
        return cls((ExpertConfig(1024, 4096),), depth=18)

    @classmethod
    def small(cls) -> GemmaConfig:
        """Returns a size small enough to train on a laptop."""
        return cls((ExpertConfig(384, 1536),), depth=6, heads=6, head_dim=64)

    @classmethod
    def mini(cls) -> GemmaConfig:
        """Returns a size that learns small tasks on a processor's cores in minutes."""
        return cls((ExpertConfig(96, 192),), depth=3, heads=4, head_dim=24, vocab=768)

    @classmethod
    def dummy(cls) -> GemmaConfig:
        """Returns openpi's size for tests."""
        return cls((ExpertConfig(64, 128),), depth=4, head_dim=16)

    def with_expert(self, other: GemmaConfig, *, adaptive: bool) -> GemmaConfig:
        """Returns this with the first expert of `other` beside it.

        Raises:
            ValueError: Depth or heads differ, which experts have to share.
        """
        shared = ("depth", "heads", "kv_heads", "head_dim")
        if different := [name for name in shared if getattr(self, name) != getattr(other, name)]:
            raise ValueError(
                f"experts must share {', '.join(shared)}; these differ in {', '.join(different)}"
            )
        expert = other.experts[0].adapted() if adaptive else other.experts[0]
        return replace(self, experts=(*self.experts, expert))


# Keys and values of the slots so far, [2, B, S, K, H] of a layer, so that a pass writes both at once. A scan
# keeps its layers' caches stacked, unrolled layers have one each, so that each is written in place.
Cache = Float[Array, "depth 2 b slots k h"] | list[Float[Array, "2 b slots k h"]]


def slots_of(cache: Cache) -> int:
    """Returns how many slots a cache has."""
    return (cache[0] if isinstance(cache, list) else cache).shape[-3]


class Modulation(NamedTuple):
    """Scale, shift and gate [*depth, B, 1 or T, W] of one adaptive norm."""

    scale: Float[Array, "*d b t w"]
    shift: Float[Array, "*d b t w"]
    gate: Float[Array, "*d b t w"]


class Modulations(NamedTuple):
    """All modulations of one expert: before attention and before the MLP by layer, and of the final norm."""

    attention: Modulation
    mlp: Modulation
    final: Modulation


class Norm(nnx.Module):
    """RMS norm in float32: `x / rms(x) * (1 + scale)`, or with scale and shift from a condition."""

    def __init__(
        self, rngs: nnx.Rngs, expert: ExpertConfig, stack: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        """Starts at zeros: scale 1, or an adaptive norm whose gate is shut."""
        if expert.adaptive:
            self.modulation = Linear(rngs, expert.width, 3 * expert.width, stack=stack, dtype=dtype)
            self.modulation.kernel = zeros((*stack, expert.width, 3 * expert.width), dtype)
        else:
            self.scale = zeros((*stack, expert.width), dtype)

    def modulate(
        self, condition: Float[Array, "b *t w"], dtype: DTypeLike, mesh: Mesh | None = None
    ) -> Modulation:
        """Returns each layer's scale, shift and gate for a condition a row [B, W] or a token [B, T, W]."""
        if condition.ndim == 2:
            condition = condition[:, None]
        kernel, bias = weight(self.modulation.kernel, dtype), weight(self.modulation.bias, dtype)
        if mesh is not None:
            kernel, bias = gathered((kernel, bias), mesh, dtype)
        product = jnp.einsum("btw,...wm->...btm", condition.astype(dtype), kernel) + bias[..., None, None, :]
        return Modulation(*jnp.split(product, 3, axis=-1))

    def __call__(
        self, x: Float[Array, "b t w"], modulation: Modulation | None
    ) -> tuple[Float[Array, "b t w"], Float[Array, "#b #t w"] | None]:
        """Returns the normed value in x's dtype, and the gate, if any, of what is added to the stream."""
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + EPSILON)
        if modulation is None:
            return (y * (1 + weight(self.scale, jnp.float32))).astype(x.dtype), None
        scale, shift = modulation.scale.astype(jnp.float32), modulation.shift.astype(jnp.float32)
        return (y * (1 + scale) + shift).astype(x.dtype), modulation.gate


class Expert(nnx.Module):
    """One expert's part of every layer, stacked on axis 0.

    query [L, N, W, H], key_value [L, 2, K, W, H], out [L, N, H, W], gate_up [L, 2, W, F], down [L, F, W].
    """

    def __init__(self, rngs: nnx.Rngs, config: GemmaConfig, expert: ExpertConfig, dtype: DTypeLike) -> None:
        """Draws every weight with variance 1 / fan-in."""
        stack, width = (config.depth,), expert.width
        inner = config.heads * config.head_dim
        self.attention_norm = Norm(rngs, expert, stack, dtype)
        self.query = normal(rngs, (*stack, config.heads, width, config.head_dim), fan_in=width, dtype=dtype)
        kv_shape = (*stack, 2, config.kv_heads, width, config.head_dim)
        self.key_value = normal(rngs, kv_shape, fan_in=width, dtype=dtype)
        self.out = normal(rngs, (*stack, config.heads, config.head_dim, width), fan_in=inner, dtype=dtype)
        self.mlp_norm = Norm(rngs, expert, stack, dtype)
        self.gate_up = normal(rngs, (*stack, 2, width, expert.mlp), fan_in=width, dtype=dtype)
        self.down = normal(rngs, (*stack, expert.mlp, width), fan_in=expert.mlp, dtype=dtype)

    def project(self, x: Float[Array, "b t w"]) -> tuple[Array, Array, Array]:
        """Returns one layer's queries [B, T, N, H], keys and values [B, T, K, H]."""
        query = contract("btw,nwh->btnh", x, self.query)
        key, value = contract("btw,ckwh->cbtkh", x, self.key_value)
        return query, key, value

    def merge(self, heads: Float[Array, "b t n h"]) -> Float[Array, "b t w"]:
        """Projects attention's heads back to the width."""
        return contract("btnh,nhw->btw", heads, self.out)

    def mlp(self, x: Float[Array, "b t w"]) -> Float[Array, "b t w"]:
        """Returns the GeGLU of one layer, with the tanh approximation."""
        gate, up = contract("btw,cwf->cbtf", x, self.gate_up)
        return contract("btf,fw->btw", jax.nn.gelu(gate, approximate=True) * up, self.down)


class Block(nnx.Module):
    """All experts of every layer, stacked on axis 0; called with the parameters of one layer."""

    def __init__(self, rngs: nnx.Rngs, config: GemmaConfig, dtype: DTypeLike) -> None:
        """Draws one `Expert` each."""
        self.experts = nnx.List([Expert(rngs, config, expert, dtype) for expert in config.experts])


class Rotation(NamedTuple):
    """Sines and cosines by which RoPE rotates the heads of each token; float32."""

    sin: Float[Array, "b t 1 half"]
    cos: Float[Array, "b t 1 half"]


def rotation(positions: Int[Array, "b t"], head_dim: int) -> Rotation:
    """Returns the rotations of tokens at these positions."""
    half = head_dim // 2
    timescale = ROPE_WAVELENGTH ** (jnp.arange(half, dtype=jnp.float32) * (2.0 / head_dim))
    angle = positions[..., None, None].astype(jnp.float32) / timescale
    return Rotation(jnp.sin(angle), jnp.cos(angle))


def rope(x: Float[Array, "b t n h"], by: Rotation) -> Float[Array, "b t n h"]:
    """Rotates heads by their positions (RoPE) in float32; a head's halves are real and imaginary parts."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * by.cos - second * by.sin, second * by.cos + first * by.sin], axis=-1)


class Gemma(nnx.Module):
    """The transformer. Attributes: `embedding` [V, W], `blocks` (stacked), `final_norms` (one an expert)."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        config: GemmaConfig,
        *,
        param_dtype: DTypeLike,
        dtype: DTypeLike,
        remat: bool = False,
    ) -> None:
        """Draws every parameter.

        Args:
            rngs: Draws the parameters.
            config: The experts.
            param_dtype: What parameters are kept in.
            dtype: What layers compute in; norms, RoPE, attention logits and softmax stay in float32.
            remat: Whether training computes layers again on the way back instead of keeping them.
        """
        self.config, self.dtype, self.remat = config, jnp.dtype(dtype), remat
        self.tuning = PLAIN
        self.mesh: Mesh | None = None
        width = config.experts[0].width
        self.embedding = normal(rngs, (config.vocab, width), std=0.01, dtype=param_dtype)
        self.blocks = Block(rngs, config, param_dtype)
        self.final_norms = nnx.List([Norm(rngs, expert, (), param_dtype) for expert in config.experts])

    def embed(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t w"]:
        """Returns embeddings times sqrt(W), rounded in the table's dtype."""
        table = weight(self.embedding)
        return (table[tokens] * jnp.asarray(table.shape[1] ** 0.5, table.dtype)).astype(self.dtype)

    def head(self, tokens: Int[Array, " v"]) -> Float[Array, "v w"]:
        """Returns the output matrix of some tokens alone, for `logits`."""
        return weight(self.embedding)[tokens]

    def logits(
        self, x: Float[Array, "*b w"], head: Float[Array, "v w"] | None = None
    ) -> Float[Array, "*b v"]:
        """Returns scores of all tokens or of a `head`'s in float32; the embedding is the output matrix."""
        table = weight(self.embedding, x.dtype) if head is None else head.astype(x.dtype)
        if self.mesh is not None:
            table = gathered(table, self.mesh, x.dtype)
        return jnp.einsum("...w,vw->...v", x, table, preferred_element_type=jnp.float32)

    def modulate(self, condition: Float[Array, "b *t w"], expert: int) -> Modulations:
        """Returns all modulations of an adaptive expert for a condition a row or a token."""
        layers = self.blocks.experts[expert]
        return Modulations(
            layers.attention_norm.modulate(condition, self.dtype, self.mesh),
            layers.mlp_norm.modulate(condition, self.dtype, self.mesh),
            self.final_norms[expert].modulate(condition, self.dtype, self.mesh),
        )

    def rotation(self, positions: Int[Array, "b t"]) -> Rotation:
        """Returns what a call makes of positions, for several calls that have the same ones."""
        return rotation(positions, self.config.head_dim)

    def empty_cache(self, batch: int, cache_length: int, *, scan_layers: bool) -> Cache:
        """Returns a cache of zeros in the compute dtype, with at least so many slots."""
        cache_length += -cache_length % self.tuning.slots
        shape = (2, batch, cache_length, self.config.kv_heads, self.config.head_dim)
        if scan_layers:
            return jnp.zeros((self.config.depth, *shape), self.dtype)
        zero = jnp.zeros(shape, self.dtype)
        return [zero] * self.config.depth

    def __call__(
        self,
        streams: tuple[Float[Array, "b _ _"] | None, ...],
        positions: Int[Array, "b t"] | Rotation,
        mask: Bool[Array, "b t s"],
        modulations: tuple[Modulations | None, ...] | None = None,
        *,
        cache: Cache | None = None,
        start: int | Int[Array, ""] = 0,
        scan_layers: bool = True,
        cache_only: bool = False,
    ) -> tuple[tuple[Any, ...], Cache | None]:
        """Runs the streams that are present through all layers.

        Args:
            streams: One an expert, embedded [B, T_i, W_i], or None. T is the sum of the T_i.
            positions: Of all tokens of all streams, in the streams' order; or the `rotation` of these.
            mask: Which key slot each token sees. Without a cache, slots are the tokens themselves; so they
                are for tokens at slot 0 if the mask has no more slots than there are tokens.
            modulations: One an expert, from `modulate`, for adaptive experts.
            cache: Keys and values of the slots so far; this call's are written into it.
            start: The slot of the first token.
            scan_layers: Whether layers run in a scan, which compiles fast, or one by one, which runs fast. A
                cache must be made the same way.
            cache_only: Whether the last layer stops at its keys and values, which is all that a prefix is
                needed for. Saves time only where layers are not scanned.

        Returns:
            The streams after their final norms (None for absent ones, and for all with `cache_only`), and the
            cache.
        """
        streams = tuple(None if x is None else x.astype(self.dtype) for x in streams)
        turned = positions if isinstance(positions, Rotation) else self.rotation(positions)
        modulations = modulations or (None,) * len(streams)
        if self.mesh is not None:
            turned, mask = over_rows((turned, mask), self.mesh)
        layered = tuple(None if m is None else (m.attention, m.mlp) for m in modulations)

        def step(block: Block, streams, extra, stop: bool = False):
            seen, modulation = extra
            return self._layer(block, streams, turned, mask, modulation, seen, start, stop)

        if not scan_layers:
            written: list = []
            for i in range(self.config.depth):
                extra = (
                    None if cache is None else cache[i],
                    jax.tree.map(lambda leaf, i=i: leaf[i], layered),
                )
                stop = cache_only and i == self.config.depth - 1
                streams, one = step(layer(self.blocks, i), streams, extra, stop)
                written.append(one)
        else:
            how = {"remat": self.remat, "mesh": self.mesh, "dtype": self.dtype}
            streams, written = scan(self.blocks, step, streams, (cache, layered), **how)
        cache = None if cache is None else written
        if cache_only:
            return (None,) * len(streams), cache
        normed = tuple(
            None if x is None else norm(x, None if m is None else m.final)[0]
            for x, norm, m in zip(streams, self.final_norms, modulations, strict=True)
        )
        return normed, cache

    def _layer(self, block, streams, turned, mask, modulations, cache, start, stop):
        present = [i for i, x in enumerate(streams) if x is not None]
        modulations = [(None, None) if m is None else m for m in modulations]
        gates, projected = {}, []
        for i in present:
            normed, gates[i] = block.experts[i].attention_norm(streams[i], modulations[i][0])
            projected.append(block.experts[i].project(normed))
        query, key, value = (jnp.concatenate(parts, axis=1) for parts in zip(*projected, strict=True))
        query = rope(query, turned) * self.config.head_dim**-0.5
        if not self.config.float32_queries:
            query = query.astype(self.dtype)
        key = rope(key, turned).astype(self.dtype)
        if cache is not None:
            both = jnp.stack([key, value])
            cache = jax.lax.dynamic_update_slice_in_dim(cache, both, start, axis=2)
        if stop:
            return streams, cache
        fused = query.dtype == key.dtype and self.tuning.fuses(query.dtype, *query.shape[:3])
        # Fused, slots that nothing sees cost less than keys and values laid out once more without them.
        if cache is not None and (fused or mask.shape[2] != key.shape[1]):
            key, value = cache
            mask = jnp.pad(mask, ((0, 0), (0, 0), (0, key.shape[1] - mask.shape[2])))
        heads = (fused_attend if fused else attend)(query, key, value, mask)
        out, first = list(streams), 0
        for i in present:
            tokens = streams[i].shape[1]
            x = _add(streams[i], block.experts[i].merge(heads[:, first : first + tokens]), gates[i])
            normed, gate = block.experts[i].mlp_norm(x, modulations[i][1])
            out[i] = _add(x, block.experts[i].mlp(normed), gate)
            first += tokens
        return tuple(out), cache


def _add(x: Array, y: Array, gate: Array | None) -> Array:
    return x + y if gate is None else x + y * gate.astype(y.dtype)
