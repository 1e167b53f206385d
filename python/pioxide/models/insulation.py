"""One pass of π0 or π0.5 that teaches both halves: the language model tokens, the action expert the flow.

Knowledge insulation (arXiv 2505.23705): the language model learns to write the actions as tokens behind the
prompt, while the action expert learns their flow from the keys and values of images and prompt, through which
no gradient goes back. The expert sees no token of the answer, and stands where it will stand in a policy,
directly behind the prompt; the language model never sees the expert. So what is trained is a π0 or π0.5 like
any other.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pioxide.models.masks import block_mask, positions
from pioxide.models.observation import Observation
from pioxide.models.pi0 import Pi0, PrefixCache
from pioxide.models.scores import TokenLosses, score_tokens


class Answer(NamedTuple):
    """What the language model is to write behind each prompt.

    Attributes:
        tokens: [B, A] ids, valid ones first.
        mask: [B, A] which are real.
    """

    tokens: Int[Array, "b a"]
    mask: Bool[Array, "b a"]


class JointErrors(NamedTuple):
    """What one pass over a batch costs.

    Attributes:
        flow: [R, B, H, D] squared errors of the velocity, of R draws of noise and time.
        tokens: Of the answer's A tokens; None without an answer.
    """

    flow: Float[Array, "r b h d"]
    tokens: TokenLosses | None


def joint_errors(
    model: Pi0,
    observation: Observation,
    actions: Float[Array, "b h d"],
    noise: Float[Array, "r b h d"],
    time: Float[Array, "r b *h"],
    answer: Answer | None = None,
    *,
    insulate: bool = True,
) -> JointErrors:
    """Returns the flow's errors and the tokens' losses; images and prompt are computed once for all draws.

    Args:
        model: π0 or π0.5.
        observation: The moments.
        actions: Normalised, padded.
        noise: Standard normal, R draws for each row.
        time: In [0, 1], one a row [R, B] or one an action [R, B, H].
        answer: What the language model is to write; causal, behind the prompt.
        insulate: Whether the flow's gradient stops at the keys and values that the action expert reads.
    """
    if answer is None:
        cached, tokens = model.prefill(observation, scan_layers=True), None
    else:
        cached, tokens = _read(model, observation, answer)
    if insulate:
        cached = jax.lax.stop_gradient(cached)

    def errors(noise: Float[Array, "b h d"], time: Float[Array, "b *h"]) -> Float[Array, "b h d"]:
        t = time.reshape(*time.shape, *[1] * (3 - time.ndim))
        x_t = t * noise + (1 - t) * actions
        velocity, _ = model.cached_velocity(cached, observation, x_t, model.condition(time))
        return jnp.square(velocity - (noise - actions))

    flow = errors(noise[0], time[0])[None] if len(noise) == 1 else jax.vmap(errors)(noise, time)
    return JointErrors(flow, tokens)


def _read(model: Pi0, observation: Observation, answer: Answer) -> tuple[PrefixCache, TokenLosses]:
    """Runs the language model over images, prompt and answer; the cache ends where the answer begins."""
    prefix = model.embed_prefix(observation)
    batch, length = prefix.valid.shape
    written = model.language.embed(answer.tokens)
    valid = jnp.concatenate([prefix.valid, answer.mask], axis=1)
    causal = jnp.ones(answer.tokens.shape, jnp.int32)
    ar_mask = jnp.concatenate([prefix.ar_mask, causal], axis=1)
    (out, _), cache = model.language(
        (jnp.concatenate([prefix.tokens, written], axis=1), None),
        positions(valid),
        block_mask(valid, ar_mask),
        cache=model.language.empty_cache(batch, valid.shape[1], scan_layers=True),
    )
    assert isinstance(cache, jax.Array)
    # The first token of an answer follows its prompt's last one, and padding lies between them.
    text = observation.tokens.shape[1]
    last = length - text + observation.token_mask.sum(axis=1) - 1
    before = jnp.take_along_axis(out, last[:, None, None], axis=1)
    before = jnp.concatenate([before, out[:, length:-1]], axis=1)
    losses = score_tokens(model.language, before, answer.tokens, answer.mask)
    suffix = model.config.action_horizon + (0 if model.config.pi05 else 1)
    read = jnp.pad(cache[:, :, :, :length], ((0, 0), (0, 0), (0, 0), (0, suffix), (0, 0), (0, 0)))
    return PrefixCache(read, prefix.valid), losses
