"""Each model once more, straight from its equations: one robot, no batch, cache, padding, scan or fusion.

Tests compare answers with it; benches compile it as the plain computation (`Oracle(model, jnp)`). It shares
nothing with `pioxide.models` but the parameters and their shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pioxide.models import Pi0, Pi0Fast

Array = Any


class Oracle:
    """One of the three models, in NumPy's float64, or in JAX's float32 for a compiler."""

    def __init__(self, model: Pi0 | Pi0Fast, xp: Any = np) -> None:
        """Shares the model's parameters; `xp` is numpy or jax.numpy."""
        self.model, self.config, self.xp = model, model.config, xp

    def of(self, parameter: Any) -> Array:
        """A parameter's value."""
        return self.xp.asarray(parameter[...], np.float64 if self.xp is np else np.float32)

    # SigLIP

    def image_tokens(self, image: Array) -> Array:
        """[S, S, 3] uint8 to [P, W]."""
        xp, tower, patch = self.xp, self.model.vision, self.config.vision.patch
        side = image.shape[0] // patch
        pixels = xp.asarray(image) / 255.0 * 2.0 - 1.0
        patches = pixels.reshape(side, patch, side, patch, 3).swapaxes(1, 2).reshape(side**2, patch, patch, 3)
        x = xp.einsum("pyxc,yxcw->pw", patches, self.of(tower.patch_kernel)) + self.of(tower.patch_bias)
        x = x + self.of(tower.position)[0]
        b = tower.blocks
        for i in range(self.config.vision.depth):
            y = self.layer_norm(x, b.attention_norm, i)
            query, key, value = (
                xp.einsum("pw,wnh->pnh", y, self.of(part.kernel)[i]) + self.of(part.bias)[i]
                for part in (b.attention.query, b.attention.key, b.attention.value)
            )
            weights = self.softmax(xp.einsum("qnh,knh->nqk", query, key) / query.shape[-1] ** 0.5)
            heads = xp.einsum("nqk,knh->qnh", weights, value)
            out = b.attention.out
            x = x + xp.einsum("qnh,nhw->qw", heads, self.of(out.kernel)[i]) + self.of(out.bias)[i]
            hidden = self.gelu(self.linear(self.layer_norm(x, b.mlp_norm, i), b.up, i))
            x = x + self.linear(hidden, b.down, i)
        return self.linear(self.layer_norm(x, tower.norm, ...), tower.head, ...)

    def layer_norm(self, x: Array, norm: Any, i: Any) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x = x / self.xp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        return x * self.of(norm.scale)[i] + self.of(norm.bias)[i]

    # Gemma

    def transformer(
        self, streams: Sequence[Array], mask: Array, positions: Array, condition: Array | None = None
    ) -> list[Array]:
        """Streams [T_i, W_i], one an expert, that share one attention over all their tokens."""
        xp, g, c = self.xp, self.model.language, self.model.language.config
        xs = list(streams)
        ends = np.cumsum([len(x) for x in xs])
        conditions = [None, condition]
        for i in range(c.depth):
            experts = [g.blocks.experts[e] for e in range(len(xs))]
            normed = [
                self.rms_norm(x, e.attention_norm, i, conditions[n])
                for n, (x, e) in enumerate(zip(xs, experts, strict=True))
            ]
            pairs = list(zip(normed, experts, strict=True))
            query = [xp.einsum("tw,nwh->tnh", y, self.of(e.query)[i]) for y, e in pairs]
            both = [xp.einsum("tw,ckwh->ctkh", y, self.of(e.key_value)[i]) for y, e in pairs]
            query, (key, value) = xp.concatenate(query), xp.concatenate(both, axis=1)
            query, key = self.rope(query, positions), self.rope(key, positions)
            each = c.heads // c.kv_heads
            key, value = key.repeat(each, axis=1), value.repeat(each, axis=1)
            scores = xp.einsum("qnh,knh->nqk", query, key) / c.head_dim**0.5
            heads = xp.einsum("nqk,knh->qnh", self.softmax(xp.where(mask, scores, -1e30)), value)
            for n, (part, e) in enumerate(zip(xp.split(heads, ends[:-1]), experts, strict=True)):
                out = xp.einsum("tnh,nhw->tw", part, self.of(e.out)[i])
                x = xs[n] + out * self.gate(e.attention_norm, i, conditions[n])
                y = self.rms_norm(x, e.mlp_norm, i, conditions[n])
                gate, up = (y @ self.of(e.gate_up)[i, part] for part in (0, 1))
                mlp = (self.gelu(gate) * up) @ self.of(e.down)[i]
                xs[n] = x + mlp * self.gate(e.mlp_norm, i, conditions[n])
        return [self.rms_norm(x, g.final_norms[n], ..., conditions[n]) for n, x in enumerate(xs)]

    def rms_norm(self, x: Array, norm: Any, i: Any, condition: Array | None) -> Array:
        x = x / self.xp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
        if condition is None:
            return x * (1 + self.of(norm.scale)[i])
        scale, shift, _ = self.modulation(norm, i, condition)
        return x * (1 + scale) + shift

    def gate(self, norm: Any, i: int, condition: Array | None) -> Array | float:
        return 1.0 if condition is None else self.modulation(norm, i, condition)[2]

    def modulation(self, norm: Any, i: Any, condition: Array) -> Sequence[Array]:
        return self.xp.split(self.linear(condition, norm.modulation, i), 3, axis=-1)

    def rope(self, x: Array, positions: Array) -> Array:
        xp, half = self.xp, x.shape[-1] // 2
        angle = positions[:, None, None] / 10_000 ** (np.arange(half) / half)
        first, second = x[..., :half], x[..., half:]
        sin, cos = xp.sin(angle), xp.cos(angle)
        return xp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def prefix(self, images: Mapping[str, Array], ids: Array) -> Array:
        """Images in the model's order, then text: [P, W]."""
        table = self.of(self.model.language.embedding)
        seen = [self.image_tokens(images[name]) for name in self.config.cameras if name in images]
        return self.xp.concatenate([*seen, table[ids] * table.shape[1] ** 0.5])

    # π0 and π0.5

    def velocity(
        self, images: Mapping[str, Array], ids: Array, state: Array | None, x_t: Array, t: Array
    ) -> Array:
        """The velocity [H, D] at noisy actions [H, D] and a flow time."""
        xp, m, prefix = self.xp, self.model, self.prefix(images, ids)
        width = m.language.config.experts[1].width
        period = 4e-3 * (4.0 / 4e-3) ** np.linspace(0, 1, width // 2)
        angle = 2 * np.pi * t / period
        time = xp.concatenate([xp.sin(angle), xp.cos(angle)])
        suffix, condition = self.linear(x_t, m.action_in), None
        if self.config.pi05:
            condition = self.swish(self.linear(self.swish(self.linear(time, m.time_in)), m.time_out))
        else:
            beside = xp.concatenate([suffix, xp.broadcast_to(time, (len(suffix), width))], axis=1)
            suffix = self.linear(self.swish(self.linear(beside, m.action_time_in)), m.action_time_out)
            suffix = xp.concatenate([self.linear(state, m.state_in)[None], suffix])
        # Three blocks: images and text; π0's state; actions. Each sees itself and those before.
        block = np.array([0] * len(prefix) + [1] * (len(suffix) - len(x_t)) + [2] * len(x_t))
        sees = block[None, :] <= block[:, None]
        _, out = self.transformer([prefix, suffix], sees, np.arange(len(block)), condition)
        return self.linear(out[-len(x_t) :], m.action_out)

    def actions(
        self, images: Mapping[str, Array], ids: Array, state: Array | None, noise: Array, num_steps: int = 10
    ) -> Array:
        """Euler steps from noise [H, D] at time 1 to actions at time 0, everything anew in each."""
        x_t = noise
        for step in range(num_steps):
            x_t = x_t - self.velocity(images, ids, state, x_t, 1.0 - step / num_steps) / num_steps
        return x_t

    # π0-FAST

    def scores(self, images: Mapping[str, Array], ids: Array, answer: Array) -> Array:
        """Scores [V] of the token after a prompt and the tokens of its answer so far.

        The answer attends causally; as openpi places it, its positions leave one out.
        """
        tokens = self.prefix(images, self.xp.concatenate([ids, answer]) if len(answer) else ids)
        slot = np.arange(len(tokens))
        begun = slot >= len(tokens) - len(answer)
        sees = (slot[None, :] <= slot[:, None]) | ~(begun[None, :] | begun[:, None])
        (out,) = self.transformer([tokens], sees, slot + begun)
        return self.of(self.model.language.embedding) @ out[-1]

    # What they share

    def linear(self, x: Array, layer: Any, i: Any = ...) -> Array:
        return x @ self.of(layer.kernel)[i] + self.of(layer.bias)[i]

    def softmax(self, x: Array) -> Array:
        e = self.xp.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def gelu(self, x: Array) -> Array:
        return 0.5 * x * (1 + self.xp.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))

    def swish(self, x: Array) -> Array:
        return x / (1 + self.xp.exp(-x))
