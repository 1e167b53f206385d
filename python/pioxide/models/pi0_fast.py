"""π0-FAST (arXiv 2501.09747): an autoregressive Gemma from images, instruction and state to action tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from pioxide.family import Family
from pioxide.models.decoding import Decoding, DecodingConvention, read_prompt, read_tokens
from pioxide.models.gemma import Gemma, GemmaConfig
from pioxide.models.masks import block_mask, positions
from pioxide.models.observation import Observation
from pioxide.models.prefix import embed_prefix
from pioxide.models.scores import TokenLosses, score_tokens
from pioxide.models.siglip import Siglip, SiglipConfig

CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")


@dataclass(frozen=True)
class Pi0FastConfig:
    """The configuration of π0-FAST.

    Attributes:
        language: The language model.
        vision: The vision tower.
        cameras: Names of the cameras, in the prefix's order.
        action_dim: The robot's own, not padded: it decides what tokens mean.
        action_horizon: Actions in a chunk, H.
        text_len: Ids in a prompt with its action tokens.
        decoding: How generated tokens are placed: openpi's way, with which its released weights were judged,
            or that of training.
        param_dtype: What parameters are kept in.
        dtype: What the transformers compute in.
        remat: Whether training recomputes layers on the way back instead of keeping them.
    """

    language: GemmaConfig = field(default_factory=GemmaConfig.gemma_2b)
    vision: SiglipConfig = field(default_factory=SiglipConfig.so400m)
    cameras: tuple[str, ...] = CAMERAS
    action_dim: int = 32
    action_horizon: int = 32
    text_len: int = Family.PI0_FAST.text_len
    decoding: DecodingConvention = DecodingConvention.OPENPI
    param_dtype: DTypeLike = jnp.float32
    dtype: DTypeLike = jnp.bfloat16
    remat: bool = False

    @property
    def family(self) -> Family:
        """Returns π0-FAST."""
        return Family.PI0_FAST

    @classmethod
    def pi0_fast(cls) -> Pi0FastConfig:
        """Returns π0-FAST as released."""
        return cls()

    @classmethod
    def small(cls) -> Pi0FastConfig:
        """Returns a size small enough to train on a laptop."""
        return cls(language=GemmaConfig.small(), vision=SiglipConfig.small())

    @classmethod
    def mini(cls) -> Pi0FastConfig:
        """Returns a size of a million parameters; see `Pi0Config.mini`."""
        return cls(
            language=GemmaConfig.mini(),
            vision=SiglipConfig.mini(),
            action_dim=8,
            action_horizon=8,
            dtype=jnp.float32,
        )

    @classmethod
    def tiny(cls) -> Pi0FastConfig:
        """Returns a size for tests: float32, a vocabulary of 512."""
        gemma = replace(GemmaConfig.dummy(), vocab=512, depth=2)
        return cls(
            language=gemma,
            vision=SiglipConfig.tiny(),
            action_dim=7,
            action_horizon=6,
            text_len=24,
            dtype=jnp.float32,
        )


class Pi0Fast(nnx.Module):
    """π0-FAST. Attributes: `vision`, `language`."""

    def __init__(self, config: Pi0FastConfig, rngs: nnx.Rngs) -> None:
        """Draws every parameter."""
        self.config = config
        how = {"param_dtype": config.param_dtype, "dtype": config.dtype, "remat": config.remat}
        gemma = replace(config.language, float32_queries=True)
        self.vision = Siglip(rngs, config.vision, gemma.experts[0].width, **how)
        self.language = Gemma(rngs, gemma, **how)

    def loss(self, observation: Observation, *, loss_tokens: int | None = None) -> Float[Array, " b"]:
        """Returns each row's mean cross entropy of the next token over `loss_mask`; see `token_losses`."""
        entropy, counted, _ = self.token_losses(observation, loss_tokens=loss_tokens)
        return jnp.sum(entropy, axis=1) / jnp.maximum(jnp.sum(counted, axis=1, dtype=jnp.float32), 1.0)

    def token_losses(self, observation: Observation, *, loss_tokens: int | None = None) -> TokenLosses:
        """Returns the cross entropy of each token that `loss_mask` counts.

        Positions count the valid tokens; under openpi's convention every slot, as openpi trains, which is the
        same where no camera is masked, as in all of openpi's π0-FAST data.

        Args:
            observation: Prompts with their action tokens: `ar_mask` and `loss_mask` are needed.
            loss_tokens: The most tokens that carry the loss in any row, where that is known: scores over the
                whole vocabulary are computed for so many positions only. A row with more gives NaN.

        Raises:
            ValueError: The observation has no `ar_mask` or `loss_mask`.
        """
        if observation.ar_mask is None or observation.loss_mask is None:
            raise ValueError("the loss needs ar_mask and loss_mask, which a training prompt has")
        prefix = embed_prefix(self.vision, self.language, observation, self.config.cameras)
        mask = block_mask(prefix.valid, prefix.ar_mask)[:, :-1, :-1]
        at = positions(prefix.valid)[:, :-1]
        if self.config.decoding is DecodingConvention.OPENPI:
            at = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape[:2])
        (out,), _ = self.language((prefix.tokens[:, :-1],), at, mask)
        targets, counted = observation.tokens[:, 1:], observation.loss_mask[:, 1:]
        out = out[:, -targets.shape[1] :]
        if loss_tokens is not None and loss_tokens < targets.shape[1]:
            too_many = jnp.sum(counted, axis=1) > loss_tokens
            # The positions with loss first, in their order.
            order = jnp.argsort(~counted, axis=1, stable=True)[:, :loss_tokens]
            targets, counted = (jnp.take_along_axis(x, order, axis=1) for x in (targets, counted))
            out = jnp.take_along_axis(out, order[..., None], axis=1)
        else:
            too_many = jnp.zeros(len(targets), bool)
        losses = score_tokens(self.language, out, targets, counted)
        return losses._replace(entropy=jnp.where(too_many[:, None], jnp.nan, losses.entropy))

    def prefill(
        self,
        observation: Observation,
        max_new_tokens: int,
        *,
        head: Float[Array, "v w"] | None = None,
        scan_layers: bool = False,
    ) -> tuple[Float[Array, "b v"], Decoding]:
        """Computes the prompt's keys and values, and the scores of the first new token.

        Prompts keep their padding at the end; every generated token sees the valid slots, wherever they are.
        Trailing prompt tokens with `ar_mask == 1` are a forced answer prefix, scored as if generated.

        Args:
            observation: The prompts.
            max_new_tokens: Slots that the cache has for generated tokens.
            head: Scores its tokens alone, see `Gemma.head`.
            scan_layers: Whether layers run in a scan.
        """
        prefix = embed_prefix(
            self.vision, self.language, observation, self.config.cameras, scan_layers=scan_layers
        )
        return read_prompt(
            self.language, prefix, max_new_tokens, self.config.decoding, head, scan_layers=scan_layers
        )

    def decode(
        self, tokens: Int[Array, "b t"], state: Decoding, *, head: Float[Array, "v w"] | None = None
    ) -> tuple[Float[Array, "b t v"], Decoding]:
        """Reads T more tokens, and returns the scores of what (of a `head`'s tokens) may follow each."""
        return read_tokens(self.language, tokens, state, self.config.decoding, head)
