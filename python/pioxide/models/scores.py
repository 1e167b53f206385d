"""What a language model's next tokens cost: the end of every loss on tokens."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.gemma import Gemma
from pioxide.models.param import weight
from pioxide.models.sharding import gathered

# Positions whose scores over the whole vocabulary are in memory at once.
CHUNK = 64


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
    """Returns what targets cost after the language model's outputs before them.

    Scores are computed for `CHUNK` positions of each row at a time, those that carry the loss first; where no
    row has one left, none are computed. The backward pass computes them again instead of keeping them. Over
    several devices they are computed at once: the head's gradient would be summed over all of them each time.
    """
    head = weight(language.embedding, out.dtype)
    if language.mesh is not None:
        head = gathered(head, language.mesh, out.dtype)
    length = targets.shape[1]
    if length <= CHUNK or language.mesh is not None:
        return TokenLosses(*_scores(language, head, out, targets, counted))
    order = jnp.argsort(~counted, axis=1, stable=True)
    chunks = -(-length // CHUNK)

    def split(x: Array) -> Array:
        """Returns [chunks, B, CHUNK, ...] in that order, with zeros at the end."""
        x = jnp.take_along_axis(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), axis=1)
        x = jnp.pad(x, ((0, 0), (0, chunks * CHUNK - length), *[(0, 0)] * (x.ndim - 2)))
        return x.reshape(len(x), chunks, CHUNK, *x.shape[2:]).swapaxes(0, 1)

    def scored(x: Array, target: Array, count: Array) -> tuple[Array, Array, Array]:
        return _scores(language, head, x, target, count)

    def nothing(x: Array, target: Array, count: Array) -> tuple[Array, Array, Array]:
        return jnp.zeros(count.shape, jnp.float32), count, jnp.zeros_like(count)

    @jax.checkpoint
    def chunk(_: None, item: tuple[Array, Array, Array]) -> tuple[None, tuple[Array, Array, Array]]:
        return None, jax.lax.cond(item[2].any(), scored, nothing, *item)

    _, losses = jax.lax.scan(chunk, None, (split(out), split(targets), split(counted)))
    back = jnp.argsort(order, axis=1)

    def join(x: Array) -> Array:
        x = x.swapaxes(0, 1).reshape(len(order), chunks * CHUNK)[:, :length]
        return jnp.take_along_axis(x, back, axis=1)

    return TokenLosses(*map(join, losses))


def _scores(
    language: Gemma,
    head: Float[Array, "v w"],
    out: Float[Array, "b n w"],
    targets: Int[Array, "b n"],
    counted: Bool[Array, "b n"],
) -> tuple[Float[Array, "b n"], Bool[Array, "b n"], Bool[Array, "b n"]]:
    logits = language.logits(out, head)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    entropy = jnp.where(counted, jax.nn.logsumexp(logits, axis=-1) - chosen, 0.0)
    return entropy, counted, counted & (jnp.argmax(logits, axis=-1) == targets)
