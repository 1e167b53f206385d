"""What a language model's next tokens cost: the end of every loss on tokens."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.gemma import Gemma


class TokenLosses(NamedTuple):
    """What a training prompt's tokens cost, N of them a row.

    Attributes:
        entropy: [B, N] cross entropy of the next token, in nats; 0 where none is counted.
        counted: [B, N] which tokens carry the loss.
        correct: [B, N] which of them had the best score.
    """

    entropy: Float[Array, "b n"]
    counted: Bool[Array, "b n"]
    correct: Bool[Array, "b n"]


def score_tokens(
    language: Gemma, out: Float[Array, "b n w"], targets: Int[Array, "b n"], counted: Bool[Array, "b n"]
) -> TokenLosses:
    """Returns what targets cost after the language model's outputs before them."""
    logits = language.logits(out)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    entropy = jnp.where(counted, jax.nn.logsumexp(logits, axis=-1) - chosen, 0.0)
    return TokenLosses(entropy, counted, counted & (jnp.argmax(logits, axis=-1) == targets))
