"""π0 and π0.5: flow matching in an action expert that shares its attention with the language model.

π0 is arXiv 2410.24164, π0.5 arXiv 2504.16054. Time runs from 1 (noise) to 0 (actions), as in the released
weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pioxide.family import Family
from pioxide.models.gemma import Cache, Gemma, GemmaConfig, Modulations, Rotation, slots_of
from pioxide.models.masks import block_mask, positions
from pioxide.models.memory import MemoryConfig
from pioxide.models.observation import Observation
from pioxide.models.param import Linear, weight
from pioxide.models.prefix import Prefix, embed_prefix
from pioxide.models.siglip import Siglip, SiglipConfig
from pioxide.models.time import embed_time

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


@dataclass(frozen=True)
class Pi0Config:
    """The configuration of π0 or π0.5.

    Attributes:
        language: The language model.
        action: The action expert, of the same depth and heads.
        vision: The vision tower.
        pi05: Whether the state is text and time conditions adaptive norms (π0.5), or the state is a token and
            time is mixed into the action tokens (π0).
        cameras: Names of the cameras, in the prefix's order.
        action_dim: W, the width of states and actions; a robot's are padded with zeros.
        action_horizon: Actions in a chunk, H.
        text_len: Ids in a prompt.
        param_dtype: What parameters are kept in.
        dtype: What the transformers compute in.
        remat: Whether training recomputes layers on the way back instead of keeping them.
        memory: Of what π0.5 saw before; None for none.
    """

    language: GemmaConfig = field(default_factory=GemmaConfig.gemma_2b)
    action: GemmaConfig = field(default_factory=GemmaConfig.gemma_300m)
    vision: SiglipConfig = field(default_factory=SiglipConfig.so400m)
    pi05: bool = False
    cameras: tuple[str, ...] = CAMERAS
    action_dim: int = 32
    action_horizon: int = 50
    text_len: int = Family.PI0.text_len
    param_dtype: DTypeLike = jnp.float32
    dtype: DTypeLike = jnp.bfloat16
    remat: bool = False
    memory: MemoryConfig | None = None

    @property
    def family(self) -> Family:
        """Returns which of the two models this is."""
        return Family.PI05 if self.pi05 else Family.PI0

    @classmethod
    def pi0(cls) -> Pi0Config:
        """Returns π0 as released."""
        return cls()

    @classmethod
    def pi05_base(cls) -> Pi0Config:
        """Returns π0.5 as released."""
        return cls(pi05=True, text_len=Family.PI05.text_len)

    @classmethod
    def small(cls, *, pi05: bool = False) -> Pi0Config:
        """Returns a size small enough to train on a laptop."""
        return cls(
            language=GemmaConfig.small(),
            action=replace(GemmaConfig.small(), experts=(replace(GemmaConfig.small().experts[0], mlp=768),)),
            vision=SiglipConfig.small(),
            pi05=pi05,
            text_len=(Family.PI05 if pi05 else Family.PI0).text_len,
        )

    @classmethod
    def mini(cls, *, pi05: bool = False) -> Pi0Config:
        """Returns a size of a million parameters, which learns small tasks on a processor's cores in minutes.

        Its vocabulary is that of a text model cut to what a dataset says, see `pioxide.codec.cut_text_model`.
        """
        return cls(
            language=GemmaConfig.mini(),
            action=GemmaConfig.mini(),
            vision=SiglipConfig.mini(),
            pi05=pi05,
            action_dim=8,
            action_horizon=8,
            dtype=jnp.float32,
        )

    @classmethod
    def tiny(cls, *, pi05: bool = False) -> Pi0Config:
        """Returns a size for tests: float32, a vocabulary of 512."""
        gemma = replace(GemmaConfig.dummy(), vocab=512, depth=2)
        return cls(
            language=gemma,
            action=gemma,
            vision=SiglipConfig.tiny(),
            pi05=pi05,
            action_dim=7,
            action_horizon=6,
            text_len=12,
            dtype=jnp.float32,
        )


# All that the action expert takes from a flow time, by row or token: the modulations of π0.5's norms, or the
# time's part of π0's `action_time_in`.
Condition = Modulations | Float[Array, "_ _ w"]


class Suffix(NamedTuple):
    """The action expert's tokens [B, T, W], the AR mask [T], and the modulations of its norms (π0.5)."""

    tokens: Float[Array, "b t w"]
    ar_mask: Int[Array, " t"]
    modulations: Modulations | None


class SuffixView(NamedTuple):
    """What the suffix has alike in every step: the slots that its tokens see, and their positions."""

    mask: Bool[Array, "b t s"]
    positions: Rotation


class PrefixCache(NamedTuple):
    """A prefix computed once: its keys and values, which of its slots count [B, P], and a suffix's view."""

    cache: Cache
    valid: Bool[Array, "b p"]
    view: SuffixView | None = None


class Pi0(nnx.Module):
    """π0 or π0.5, by its config.

    Attributes: `vision`, `language` (two experts), `action_in`, `action_out`; π0 has `state_in`,
    `action_time_in` and `action_time_out`, π0.5 has `time_in` and `time_out`.
    """

    def __init__(self, config: Pi0Config, rngs: nnx.Rngs) -> None:
        """Draws every parameter.

        Raises:
            ValueError: The experts differ in depth or heads, or π0 is to have a memory, or its tower fewer
                layers than one that attends over time is after.
        """
        if config.memory is not None and not config.pi05:
            raise ValueError("π0 has no memory; π0.5 has")
        if config.memory is not None and config.memory.every > config.vision.depth:
            raise ValueError(
                f"memory.every {config.memory.every}: the vision tower has {config.vision.depth} layers"
            )
        self.config = config
        how = {"param_dtype": config.param_dtype, "dtype": config.dtype, "remat": config.remat}
        gemma = config.language.with_expert(config.action, adaptive=config.pi05)
        self.vision = Siglip(rngs, config.vision, gemma.experts[0].width, **how)
        self.language = Gemma(rngs, gemma, **how)
        width, dtype = gemma.experts[1].width, config.param_dtype
        self.action_in = Linear(rngs, config.action_dim, width, dtype=dtype)
        self.action_out = Linear(rngs, width, config.action_dim, dtype=dtype)
        if config.pi05:
            self.time_in = Linear(rngs, width, width, dtype=dtype)
            self.time_out = Linear(rngs, width, width, dtype=dtype)
        else:
            self.state_in = Linear(rngs, config.action_dim, width, dtype=dtype)
            self.action_time_in = Linear(rngs, 2 * width, width, dtype=dtype)
            self.action_time_out = Linear(rngs, width, width, dtype=dtype)

    @property
    def width(self) -> int:
        """Returns the action expert's width."""
        return self.language.config.experts[1].width

    def embed_prefix(self, observation: Observation, *, scan_layers: bool = True) -> Prefix:
        """Embeds images and text as one block."""
        return embed_prefix(
            self.vision,
            self.language,
            observation,
            self.config.cameras,
            self.config.memory,
            scan_layers=scan_layers,
        )

    def condition(self, time: Float[Array, "b *t"]) -> Condition:
        """Returns all that depends on flow times alone, one a row [B] or one an action [B, H]."""
        times = embed_time(time, self.width)
        if self.config.pi05:
            hidden = nnx.swish(self.time_in(times))
            return self.language.modulate(nnx.swish(self.time_out(hidden)), 1)
        # The second half of a product over actions and time side by side.
        layer = self.action_time_in
        kernel, bias = weight(layer.kernel, times.dtype), weight(layer.bias, times.dtype)
        share = times @ kernel[self.width :] + bias
        return share[:, None] if time.ndim == 1 else share

    def embed_suffix(
        self,
        observation: Observation,
        x_t: Float[Array, "b h d"],
        condition: Condition,
    ) -> Suffix:
        """Embeds noisy actions at flow times as the action expert's tokens.

        Args:
            observation: Its state is read by π0.
            x_t: Noisy actions.
            condition: What `condition` gives for the times.

        Raises:
            ValueError: The actions are of another horizon or dimension; or π0 gets no state.
        """
        horizon, dim = self.config.action_horizon, self.config.action_dim
        if x_t.shape[1:] != (horizon, dim):
            raise ValueError(f"actions are {x_t.shape[1:]}, expected {(horizon, dim)}")
        actions = self.action_in(x_t)
        if self.config.pi05:
            assert isinstance(condition, Modulations)
            return Suffix(actions, self._suffix_ar_mask(), condition)
        assert not isinstance(condition, Modulations)
        if observation.state is None:
            raise ValueError("π0 reads the state, and this observation has none")
        kernel = weight(self.action_time_in.kernel, actions.dtype)[: self.width]
        mixed = actions @ kernel + condition.astype(actions.dtype)
        actions = self.action_time_out(nnx.swish(mixed))
        state = self.state_in(observation.state)[:, None].astype(actions.dtype)
        tokens = jnp.concatenate([state, actions], axis=1)
        return Suffix(tokens, self._suffix_ar_mask(), None)

    def _suffix_ar_mask(self) -> Int[Array, " t"]:
        """Returns where blocks begin: the actions are one; π0's state is one before them."""
        actions = jnp.zeros(self.config.action_horizon, jnp.int32).at[0].set(1)
        return actions if self.config.pi05 else jnp.concatenate([jnp.ones(1, jnp.int32), actions])

    def velocity(
        self,
        observation: Observation,
        x_t: Float[Array, "b h d"],
        time: Float[Array, "b *t"],
        *,
        scan_layers: bool = True,
    ) -> Float[Array, "b h d"]:
        """Returns the velocity at noisy actions by one pass over prefix and suffix, as in training."""
        prefix = self.embed_prefix(observation, scan_layers=scan_layers)
        suffix = self.embed_suffix(observation, x_t, self.condition(time))
        valid = jnp.concatenate([prefix.valid, jnp.ones(suffix.tokens.shape[:2], bool)], axis=1)
        suffix_ar_mask = jnp.broadcast_to(suffix.ar_mask, suffix.tokens.shape[:2])
        ar_mask = jnp.concatenate([prefix.ar_mask, suffix_ar_mask], axis=1)
        (_, out), _ = self.language(
            (prefix.tokens, suffix.tokens),
            positions(valid),
            block_mask(valid, ar_mask),
            (None, suffix.modulations),
            scan_layers=scan_layers,
        )
        return self._velocity_of(out)

    def loss(
        self,
        observation: Observation,
        actions: Float[Array, "b h d"],
        *,
        key: PRNGKeyArray | None = None,
        noise: Float[Array, "b h d"] | None = None,
        time: Float[Array, "b *h"] | None = None,
    ) -> Float[Array, "b h"]:
        """Returns the flow-matching loss: `flow_error`'s mean over all dimensions, padded ones too.

        Args:
            observation: The moments.
            actions: [B, H, D] normalised, padded.
            key: Draws noise and time unless they are given; time as `draw_time` does.
            noise: [B, H, D].
            time: In [0, 1], one a row [B] or one an action [B, H].

        Raises:
            ValueError: Noise or time has to be drawn, and there is no key.
        """
        if noise is None or time is None:
            if key is None:
                raise ValueError("without noise and time the loss needs a key to draw them from")
            noise_key, time_key = jax.random.split(key)
            noise = jax.random.normal(noise_key, actions.shape) if noise is None else noise
            time = self.draw_time(time_key, len(actions)) if time is None else time
        return jnp.mean(self.flow_error(observation, actions, noise, time), axis=-1)

    def flow_error(
        self,
        observation: Observation,
        actions: Float[Array, "b h d"],
        noise: Float[Array, "b h d"],
        time: Float[Array, "b *h"],
    ) -> Float[Array, "b h d"]:
        """Returns `(velocity - (noise - actions))^2` at `time * noise + (1 - time) * actions`.

        Args:
            observation: The moments.
            actions: Normalised, padded.
            noise: Standard normal.
            time: In [0, 1], one a row [B] or one an action [B, H].
        """
        t = time.reshape(*time.shape, *[1] * (3 - time.ndim))
        velocity = self.velocity(observation, t * noise + (1 - t) * actions, time)
        return jnp.square(velocity - (noise - actions))

    @staticmethod
    def draw_time(key: PRNGKeyArray, batch: int) -> Float[Array, " b"]:
        """Draws flow times to train at: Beta(1.5, 1) * 0.999 + 0.001, more of them near noise.

        Drawn as a power of a uniform number, which is the same distribution; a general beta is drawn by
        rejection, in loops for whose end a host waits.
        """
        return jax.random.uniform(key, (batch,)) ** (1 / 1.5) * 0.999 + 0.001

    def prefill(self, observation: Observation, *, scan_layers: bool = False) -> PrefixCache:
        """Computes the prefix's keys and values, in a cache with slots for a suffix behind them."""
        return self.prefill_of(
            self.embed_prefix(observation, scan_layers=scan_layers), scan_layers=scan_layers
        )

    def prefill_of(self, prefix: Prefix, *, scan_layers: bool = False) -> PrefixCache:
        """Computes the keys and values of an embedded prefix, see `prefill`."""
        batch, length = prefix.valid.shape
        suffix = self.config.action_horizon + (0 if self.config.pi05 else 1)
        cache = self.language.empty_cache(batch, length + suffix, scan_layers=scan_layers)
        mask = block_mask(prefix.valid, prefix.ar_mask)
        _, cache = self.language(
            (prefix.tokens, None),
            positions(prefix.valid),
            mask,
            cache=cache,
            scan_layers=scan_layers,
            cache_only=True,
        )
        assert cache is not None
        return PrefixCache(cache, prefix.valid, self._view(cache, prefix.valid))

    def _view(self, cache: Cache, valid: Bool[Array, "b p"]) -> SuffixView:
        batch, length = valid.shape
        ar_mask = self._suffix_ar_mask()
        tokens = len(ar_mask)
        own = block_mask(jnp.ones((batch, tokens), bool), ar_mask)
        seen = jnp.broadcast_to(valid[:, None], (batch, tokens, length))
        unused = jnp.zeros((batch, tokens, slots_of(cache) - length - tokens), bool)
        mask = jnp.concatenate([seen, own, unused], axis=2)
        at = valid.sum(axis=1, dtype=jnp.int32)[:, None] + jnp.arange(tokens)
        return SuffixView(mask, self.language.rotation(at))

    def cached_velocity(
        self,
        prefix: PrefixCache,
        observation: Observation,
        x_t: Float[Array, "b h d"],
        condition: Condition,
    ) -> tuple[Float[Array, "b h d"], PrefixCache]:
        """Returns the velocity from a cached prefix, and the cache with the suffix written behind it."""
        suffix = self.embed_suffix(observation, x_t, condition)
        view = self._view(prefix.cache, prefix.valid) if prefix.view is None else prefix.view
        (_, out), cache = self.language(
            (None, suffix.tokens),
            view.positions,
            view.mask,
            (None, suffix.modulations),
            cache=prefix.cache,
            start=prefix.valid.shape[1],
            scan_layers=not isinstance(prefix.cache, list),
        )
        assert cache is not None
        return self._velocity_of(out), prefix._replace(cache=cache)

    def _velocity_of(self, out: Array) -> Float[Array, "b h d"]:
        return self.action_out(out[:, -self.config.action_horizon :]).astype(jnp.float32)
