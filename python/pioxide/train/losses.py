"""The losses as sums and counts, so that parts of a batch, devices and steps add up exactly.

A mean of means would weigh a step at an episode's end, or a short answer, more than others.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pioxide.models import Observation, Pi0, Pi0Fast

# Equal parts of [0, 1] that the loss is reported in.
TIME_BINS = 10


class Mean(NamedTuple):
    """A sum and how much was counted for it; the mean of several is that of all they count."""

    total: Float[Array, "*n"]
    counted: Float[Array, "*n"]


class Batch(NamedTuple):
    """A batch on devices, as `pioxide.data.loader.Batch` without what only people read."""

    observation: Observation
    actions: Float[Array, "b h w"] | None
    action_mask: Float[Array, "b h w"] | None


class Parts(NamedTuple):
    """A loss and what it is made of.

    Attributes:
        loss: What is minimised.
        by_dimension: [W] of π0 and π0.5.
        by_time: [TIME_BINS] of π0 and π0.5, by flow time.
        accuracy: π0-FAST: which tokens had the best score.
    """

    loss: Mean
    by_dimension: Mean | None = None
    by_time: Mean | None = None
    accuracy: Mean | None = None


def flow_parts(
    model: Pi0, batch: Batch, key: PRNGKeyArray, max_delay: int = 0, *, learn_padding: bool = False
) -> Parts:
    """Returns the flow-matching loss over real actions and real dimensions.

    Args:
        model: π0 or π0.5.
        batch: With actions.
        key: Draws noise, flow times and delays.
        max_delay: For trained real-time chunking (arXiv 2512.05964): so many first actions at most are clean,
            at time 0, and carry no loss; drawn evenly from 0 to this one, which is included.
        learn_padding: Whether padded dimensions of real steps count.
    """
    assert batch.actions is not None
    assert batch.action_mask is not None
    noise_key, time_key, delay_key = jax.random.split(key, 3)
    rows, horizon = batch.actions.shape[:2]
    noise = jax.random.normal(noise_key, batch.actions.shape)
    time = model.draw_time(time_key, rows)
    counted = batch.action_mask
    if learn_padding:
        counted = jnp.broadcast_to(counted.any(axis=2, keepdims=True), counted.shape)
    at = time
    if max_delay:
        delay = jax.random.randint(delay_key, (rows,), 0, max_delay + 1)
        clean = jnp.arange(horizon)[None] < delay[:, None]
        at = jnp.where(clean, 0.0, time[:, None])
        counted = counted & ~clean[..., None]
    error = model.flow_error(batch.observation, batch.actions, noise, at)
    error = jnp.where(counted, error, 0.0)
    weight = counted.astype(jnp.float32)
    by_row = Mean(error.sum(axis=(1, 2)), weight.sum(axis=(1, 2)))
    of_bin = jax.nn.one_hot(jnp.clip((time * TIME_BINS).astype(jnp.int32), 0, TIME_BINS - 1), TIME_BINS)
    return Parts(
        Mean(by_row.total.sum(), by_row.counted.sum()),
        by_dimension=Mean(error.sum(axis=(0, 1)), weight.sum(axis=(0, 1))),
        by_time=Mean(by_row.total @ of_bin, by_row.counted @ of_bin),
    )


def token_parts(model: Pi0Fast, batch: Batch) -> Parts:
    """Returns the mean over rows of each row's mean cross entropy, as openpi's π0-FAST has it."""
    entropy, counted, correct = model.token_losses(batch.observation)
    count = counted.sum(axis=1).astype(jnp.float32)
    rows = jnp.where(count > 0, entropy.sum(axis=1) / jnp.maximum(count, 1.0), 0.0)
    return Parts(
        Mean(rows.sum(), (count > 0).sum().astype(jnp.float32)),
        accuracy=Mean(correct.sum().astype(jnp.float32), count.sum()),
    )


def parts_of(
    model: Pi0 | Pi0Fast, batch: Batch, key: PRNGKeyArray, max_delay: int = 0, *, learn_padding: bool = False
) -> Parts:
    """Returns the loss of either kind of model."""
    if isinstance(model, Pi0Fast):
        return token_parts(model, batch)
    return flow_parts(model, batch, key, max_delay, learn_padding=learn_padding)
