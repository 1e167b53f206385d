"""SigLIP: a plain vision transformer from an image to tokens of the language model's width, unpooled.

It reads one image, or the last T frames of a camera, see `memory`: then some layers attend over time as well.
B batch, T frames, P patches, W width, N heads, H head width, F hidden width of the MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pioxide.models.attention import fused_attend
from pioxide.models.memory import frames_seen, mix_frames, time_embedding
from pioxide.models.param import Linear, contract, normal, ones, weight, zeros
from pioxide.models.stack import layer, part, scan, scan_groups
from pioxide.models.tuning import PLAIN

EPSILON = 1e-6


@dataclass(frozen=True)
class SiglipConfig:
    """The sizes of a vision tower; `heads * head_dim` is its width."""

    width: int
    depth: int
    mlp: int
    heads: int
    patch: int = 14
    image_size: int = 224

    @property
    def tokens(self) -> int:
        """Returns the tokens that one image becomes."""
        return (self.image_size // self.patch) ** 2

    @classmethod
    def so400m(cls) -> SiglipConfig:
        """Returns So400m/14 at 224 pixels, which PaliGemma and every released π model use."""
        return cls(width=1152, depth=27, mlp=4304, heads=16)

    @classmethod
    def base(cls) -> SiglipConfig:
        """Returns Base/16 at 224 pixels."""
        return cls(width=768, depth=12, mlp=3072, heads=12, patch=16)

    @classmethod
    def small(cls) -> SiglipConfig:
        """Returns a tower small enough to train on a laptop: 64 tokens an image of 112 pixels."""
        return cls(width=384, depth=6, mlp=1536, heads=6, patch=14, image_size=112)

    @classmethod
    def mini(cls) -> SiglipConfig:
        """Returns a tower for small tasks: 16 tokens an image of 64 pixels."""
        return cls(width=96, depth=2, mlp=192, heads=4, patch=16, image_size=64)

    @classmethod
    def tiny(cls) -> SiglipConfig:
        """Returns a tower for tests: 4 tokens an image of 28 pixels."""
        return cls(width=32, depth=2, mlp=64, heads=4, patch=14, image_size=28)


class LayerNorm(nnx.Module):
    """Layer norm: mean 0 and variance 1 in float32, then scale and bias."""

    def __init__(self, width: int, *, stack: tuple[int, ...] = (), dtype: DTypeLike) -> None:
        """Starts at scale 1 and bias 0."""
        self.scale, self.bias = ones((*stack, width), dtype), zeros((*stack, width), dtype)

    def __call__(self, x: Float[Array, "*b w"]) -> Float[Array, "*b w"]:
        """Normalises the last axis and keeps the dtype."""
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + EPSILON)
        return (y * weight(self.scale, jnp.float32) + weight(self.bias, jnp.float32)).astype(x.dtype)


class Heads(nnx.Module):
    """Projects the width to heads: kernel [*stack, W, N, H], bias [*stack, N, H]."""

    def __init__(
        self, rngs: nnx.Rngs, config: SiglipConfig, *, stack: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        """Draws the kernel with variance 1 / W."""
        shape = (config.heads, config.width // config.heads)
        self.kernel = normal(rngs, (*stack, config.width, *shape), fan_in=config.width, dtype=dtype)
        self.bias = zeros((*stack, *shape), dtype)

    def __call__(self, x: Float[Array, "b p w"]) -> Float[Array, "b p n h"]:
        """Projects in the dtype of x."""
        return contract("bpw,wnh->bpnh", x, self.kernel) + weight(self.bias, x.dtype)


class Merge(nnx.Module):
    """Projects heads back to the width: kernel [*stack, N, H, W], bias [*stack, W]."""

    def __init__(
        self, rngs: nnx.Rngs, config: SiglipConfig, *, stack: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        """Draws the kernel with variance 1 / W."""
        shape = (*stack, config.heads, config.width // config.heads, config.width)
        self.kernel = normal(rngs, shape, fan_in=config.width, dtype=dtype)
        self.bias = zeros((*stack, config.width), dtype)

    def __call__(self, x: Float[Array, "b p n h"]) -> Float[Array, "b p w"]:
        """Projects in the dtype of x."""
        return contract("bpnh,nhw->bpw", x, self.kernel) + weight(self.bias, x.dtype)


class Attention(nnx.Module):
    """Attention of every patch to every patch."""

    def __init__(
        self, rngs: nnx.Rngs, config: SiglipConfig, *, stack: tuple[int, ...], dtype: DTypeLike
    ) -> None:
        """Draws the projections, see `Heads` and `Merge`."""
        self.tuning = PLAIN
        self.query = Heads(rngs, config, stack=stack, dtype=dtype)
        self.key = Heads(rngs, config, stack=stack, dtype=dtype)
        self.value = Heads(rngs, config, stack=stack, dtype=dtype)
        self.out = Merge(rngs, config, stack=stack, dtype=dtype)

    def project(self, x: Float[Array, "b p w"]) -> tuple[Array, Array, Array]:
        """Returns queries, keys and values [B, P, N, H]."""
        return self.query(x), self.key(x), self.value(x)

    def __call__(self, x: Float[Array, "b p w"]) -> Float[Array, "b p w"]:
        """Attends with a softmax in float32."""
        query, key, value = self.project(x)
        query = query * jnp.asarray(query.shape[-1] ** -0.5, x.dtype)
        return self._attend(query, key, value)

    def over_time(self, x: Float[Array, "b t p w"], seen: Bool[Array, "b t t"]) -> Float[Array, "b t p w"]:
        """Attends as in one frame, to values that each patch has gathered from its past first.

        Both steps have the same queries and keys, so there is no parameter for time, and a frame that sees
        itself alone is attended to as an image is.

        Args:
            x: T frames with their time embedding, the newest last.
            seen: Which frames (last axis) each frame gathers from; itself at least.
        """
        flat = x.reshape(-1, *x.shape[2:])
        query, key, value = self.project(flat)
        query = query * jnp.asarray(query.shape[-1] ** -0.5, x.dtype)
        shape = (*x.shape[:3], *query.shape[2:])
        mixed = mix_frames(query.reshape(shape), key.reshape(shape), value.reshape(shape), seen)
        return self._attend(query, key, mixed.reshape(value.shape)).reshape(x.shape)

    def _attend(
        self, query: Float[Array, "b p n h"], key: Float[Array, "b p n h"], value: Float[Array, "b p n h"]
    ) -> Float[Array, "b p w"]:
        if self.tuning.fuses(query.dtype, *query.shape[:3]):
            return self.out(fused_attend(query, key, value))
        logits = jnp.einsum("bqnh,bknh->bnqk", query, key, preferred_element_type=jnp.float32)
        probabilities = jax.nn.softmax(logits, axis=-1).astype(query.dtype)
        return self.out(jnp.einsum("bnqk,bknh->bqnh", probabilities, value))


class Block(nnx.Module):
    """Norm and attention, norm and MLP, each with a residual. All layers are stacked on axis 0."""

    def __init__(self, rngs: nnx.Rngs, config: SiglipConfig, dtype: DTypeLike) -> None:
        """Draws all layers at once."""
        stack = (config.depth,)
        self.attention_norm = LayerNorm(config.width, stack=stack, dtype=dtype)
        self.attention = Attention(rngs, config, stack=stack, dtype=dtype)
        self.mlp_norm = LayerNorm(config.width, stack=stack, dtype=dtype)
        self.up = Linear(rngs, config.width, config.mlp, stack=stack, dtype=dtype)
        self.down = Linear(rngs, config.mlp, config.width, stack=stack, dtype=dtype)

    def __call__(self, x: Float[Array, "b p w"]) -> Float[Array, "b p w"]:
        """Runs one layer, after its parameters were taken from the stack."""
        return self._widened(x + self.attention(self.attention_norm(x)))

    def in_frames(self, x: Float[Array, "b t p w"]) -> Float[Array, "b t p w"]:
        """Runs one layer in each of T frames on its own."""
        return self(x.reshape(-1, *x.shape[2:])).reshape(x.shape)

    def over_time(
        self, x: Float[Array, "b t p w"], when: Float[Array, "t 1 w"], seen: Bool[Array, "b t t"]
    ) -> Float[Array, "b t p w"]:
        """Runs one layer that attends over time, too; the time embedding does not go into the residual."""
        return self._widened(x + self.attention.over_time(self.attention_norm(x + when), seen))

    def _widened(self, x: Float[Array, "*b w"]) -> Float[Array, "*b w"]:
        hidden = jax.nn.gelu(self.up(self.mlp_norm(x), x.dtype), approximate=True)
        return x + self.down(hidden, x.dtype)


class Siglip(nnx.Module):
    """The tower: patches and positions in float32, blocks in the compute dtype, then a projection."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        config: SiglipConfig,
        out_width: int,
        *,
        param_dtype: DTypeLike,
        dtype: DTypeLike,
        remat: bool = False,
    ) -> None:
        """Draws every parameter.

        Args:
            rngs: Draws the parameters.
            config: The tower.
            out_width: The language model's width.
            param_dtype: What parameters are kept in.
            dtype: What the blocks compute in.
            remat: Whether training computes blocks again on the way back instead of keeping them.
        """
        self.config, self.dtype, self.remat = config, jnp.dtype(dtype), remat
        self.mesh: Mesh | None = None
        pixels = config.patch * config.patch * 3
        shape = (config.patch, config.patch, 3, config.width)
        self.patch_kernel = normal(rngs, shape, fan_in=pixels, dtype=param_dtype)
        self.patch_bias = zeros((config.width,), param_dtype)
        self.position = normal(rngs, (1, config.tokens, config.width), fan_in=config.width, dtype=param_dtype)
        self.blocks = Block(rngs, config, param_dtype)
        self.norm = LayerNorm(config.width, dtype=param_dtype)
        self.head = Linear(rngs, config.width, out_width, dtype=param_dtype)

    def __call__(self, images: Float[Array, "b h w 3"], *, scan_layers: bool = True) -> Float[Array, "b p o"]:
        """Encodes images [B, size, size, 3] float32 in [-1, 1] as tokens [B, P, out_width]."""
        x = self._patches(images)
        if not scan_layers:
            for index in range(self.config.depth):
                x = layer(self.blocks, index)(x)
        else:
            x, _ = scan(self.blocks, lambda block, x, _: (block(x), None), x, **self._how())
        return self.head(self.norm(x), self.dtype)

    def over_time(
        self,
        frames: Float[Array, "b t h w 3"],
        there: Bool[Array, "b t"],
        every: int,
        *,
        scan_layers: bool = True,
    ) -> Float[Array, "b p o"]:
        """Encodes a camera's last frames as the tokens of the newest, of which there are as many as of one.

        Each `every`-th layer attends over time, causally; the frames before the newest end behind the last
        such layer, from which on nothing would read them. With one frame this is `__call__` to the bit.

        Args:
            frames: [B, T, size, size, 3] float32 in [-1, 1], the newest last.
            there: Which frames there are; what is not is seen by none.
            every: Layers from one that attends over time to the next.
            scan_layers: Whether layers run in a scan, see `stack`.

        Raises:
            ValueError: No layer attends over time.
        """
        if not 1 <= every <= self.config.depth:
            raise ValueError(f"every {every}: this tower has {self.config.depth} layers")
        if frames.shape[1] == 1:
            return self(frames[:, 0], scan_layers=scan_layers)
        x = self._patches(frames.reshape(-1, *frames.shape[2:]))
        x = x.reshape(*frames.shape[:2], *x.shape[1:])
        when = time_embedding(frames.shape[1], self.config.width)[:, None].astype(self.dtype)
        seen = frames_seen(there)
        groups = self.config.depth // every
        last = groups * every
        if not scan_layers:
            for index in range(last):
                block = layer(self.blocks, index)
                x = block.in_frames(x) if (index + 1) % every else block.over_time(x, when, seen)
            x = x[:, -1]
            for index in range(last, self.config.depth):
                x = layer(self.blocks, index)(x)
        else:
            steps = [lambda block, x: block.in_frames(x)] * (every - 1)
            steps.append(lambda block, x: block.over_time(x, when, seen))
            x = scan_groups(part(self.blocks, 0, last), steps, x, **self._how())[:, -1]
            if last < self.config.depth:
                rest = part(self.blocks, last, self.config.depth)
                x, _ = scan(rest, lambda block, x, _: (block(x), None), x, **self._how())
        return self.head(self.norm(x), self.dtype)

    def _patches(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b p v"]:
        x = jax.lax.conv_general_dilated(
            images.astype(jnp.float32),
            weight(self.patch_kernel, jnp.float32),
            (self.config.patch, self.config.patch),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = x.reshape(len(images), self.config.tokens, self.config.width) + weight(
            self.patch_bias, jnp.float32
        )
        return (x + weight(self.position, jnp.float32)).astype(self.dtype)

    def _how(self) -> dict[str, Any]:
        return {"remat": self.remat, "mesh": self.mesh, "dtype": self.dtype}
