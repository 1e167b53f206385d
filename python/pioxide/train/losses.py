"""The losses as sums and counts, so that parts of a batch, devices and steps add up exactly.

A mean of means would weigh a step at an episode's end, or a short answer, more than others.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pioxide.errors import InputError
from pioxide.models import Answer, Observation, Pi0, Pi0Fast, joint_errors
from pioxide.models.scores import TokenLosses
from pioxide.train.config import FLOW_ALONE, ActionLoss, Targets

# Equal parts of [0, 1] that the loss is reported in.
TIME_BINS = 10
# What logs call the means of `Parts` that only some runs have.
NAMED_MEANS = {"token_accuracy": "accuracy", "flow_loss": "flow", "token_loss": "entropy"}


class Mean(NamedTuple):
    """A sum and how much was counted for it; the mean of several is that of all they count."""

    total: Float[Array, "*n"]
    counted: Float[Array, "*n"]


class Batch(NamedTuple):
    """A batch on devices, as `pioxide.data.loader.Batch` without what only people read."""

    observation: Observation
    actions: Float[Array, "b h w"] | None
    action_mask: Float[Array, "b h w"] | None
    answer: Answer | None = None


class Parts(NamedTuple):
    """A loss and what it is made of.

    Attributes:
        loss: What is minimised.
        by_dimension: [W] of π0 and π0.5.
        by_time: [TIME_BINS] of π0 and π0.5, by flow time.
        accuracy: Where tokens are learnt: which of them had the best score.
        flow: Mean over rows of the flow's loss, where tokens are learnt beside it.
        entropy: Mean over rows of the tokens' loss there.
    """

    loss: Mean
    by_dimension: Mean | None = None
    by_time: Mean | None = None
    accuracy: Mean | None = None
    flow: Mean | None = None
    entropy: Mean | None = None


def flow_parts(
    model: Pi0,
    batch: Batch,
    key: PRNGKeyArray,
    max_delay: int = 0,
    *,
    learn_padding: bool = False,
    settings: ActionLoss = FLOW_ALONE,
) -> Parts:
    """Returns the flow-matching loss over real actions and real dimensions, and that of action tokens.

    The flow alone is a mean over all that counts. With tokens beside it, the loss is a mean over rows of
    `flow_weight` times the row's flow loss and `token_weight` times its mean cross entropy: what a row has
    more of, real steps or tokens, does not shift the balance of the two.

    Args:
        model: π0 or π0.5.
        batch: With actions, and an answer where tokens are learnt.
        key: Draws noise, flow times and delays.
        max_delay: For trained real-time chunking (arXiv 2512.05964): so many first actions at most are clean,
            at time 0, and carry no loss; drawn evenly from 0 to this one, which is included.
        learn_padding: Whether padded dimensions of real steps count.
        settings: What is learnt.

    Raises:
        InputError: Tokens are to be learnt and the batch has none, or the other way round.
    """
    assert batch.actions is not None
    assert batch.action_mask is not None
    _check_answer(batch, settings)
    noise_key, time_key, delay_key = jax.random.split(key, 3)
    rows, horizon = batch.actions.shape[:2]
    draws = settings.flow_num_repeats
    noise = jax.random.normal(noise_key, (draws, *batch.actions.shape))
    time = model.draw_time(time_key, draws * rows).reshape(draws, rows)
    counted = batch.action_mask
    if learn_padding:
        counted = jnp.broadcast_to(counted.any(axis=2, keepdims=True), counted.shape)
    counted = jnp.broadcast_to(counted, noise.shape)
    at = time
    if max_delay:
        delay = jax.random.randint(delay_key, (draws, rows), 0, max_delay + 1)
        clean = jnp.arange(horizon) < delay[..., None]
        at = jnp.where(clean, 0.0, time[..., None])
        counted = counted & ~clean[..., None]
    tokens = None
    if settings.answers or draws > 1:
        insulate = settings.targets is Targets.INSULATED
        error, tokens = joint_errors(
            model, batch.observation, batch.actions, noise, at, batch.answer, insulate=insulate
        )
    else:
        error = model.flow_error(batch.observation, batch.actions, noise[0], at[0])[None]
    error = jnp.where(counted, error, 0.0)
    weight = counted.astype(jnp.float32)
    by_draw = Mean(error.sum(axis=(2, 3)), weight.sum(axis=(2, 3)))
    of_bin = jax.nn.one_hot(jnp.clip((time * TIME_BINS).astype(jnp.int32), 0, TIME_BINS - 1), TIME_BINS)
    parts = Parts(
        Mean(by_draw.total.sum(), by_draw.counted.sum()),
        by_dimension=Mean(error.sum(axis=(0, 1, 2)), weight.sum(axis=(0, 1, 2))),
        by_time=Mean(*(jnp.einsum("rb,rbt->t", one, of_bin) for one in by_draw)),
    )
    if tokens is None:
        return parts
    flow = _by_row(Mean(by_draw.total.sum(axis=0), by_draw.counted.sum(axis=0)))
    entropy, accuracy = _of_tokens(tokens)
    total = settings.flow_weight * flow.total.sum() + settings.token_weight * entropy.total.sum()
    return parts._replace(
        loss=Mean(total, ((flow.counted > 0) | (entropy.counted > 0)).sum().astype(jnp.float32)),
        accuracy=accuracy,
        flow=Mean(flow.total.sum(), flow.counted.sum()),
        entropy=Mean(entropy.total.sum(), entropy.counted.sum()),
    )


def token_parts(model: Pi0Fast, batch: Batch) -> Parts:
    """Returns the mean over rows of each row's mean cross entropy, as openpi's π0-FAST has it."""
    rows, accuracy = _of_tokens(model.token_losses(batch.observation))
    return Parts(Mean(rows.total.sum(), rows.counted.sum()), accuracy=accuracy)


def _of_tokens(losses: TokenLosses) -> tuple[Mean, Mean]:
    """Returns each row's mean cross entropy, counted once, and how many tokens are right."""
    count = losses.counted.sum(axis=1).astype(jnp.float32)
    accuracy = Mean(losses.correct.sum().astype(jnp.float32), count.sum())
    return _by_row(Mean(losses.entropy.sum(axis=1), count)), accuracy


def _by_row(rows: Mean) -> Mean:
    """Returns [B] means, each counted once, or not at all where nothing counted."""
    there = rows.counted > 0
    mean = jnp.where(there, rows.total / jnp.maximum(rows.counted, 1.0), 0.0)
    return Mean(mean, there.astype(jnp.float32))


def _check_answer(batch: Batch, settings: ActionLoss) -> None:
    if settings.answers and batch.answer is None:
        raise InputError(
            f"loss: the language model is to learn answers (targets {settings.targets}, subtasks "
            f"{settings.subtasks}), and the batches have none: make them with LoaderSettings(answer_len=...) "
            "and an action codec, or for subtasks with subtask_share"
        )
    if batch.answer is not None and not settings.answers:
        raise InputError(
            "the batches have answers, and loss.targets is flow without loss.subtasks, which would leave "
            "them unused: make batches without them, or choose joint, insulated or subtasks"
        )


def parts_of(
    model: Pi0 | Pi0Fast,
    batch: Batch,
    key: PRNGKeyArray,
    max_delay: int = 0,
    *,
    learn_padding: bool = False,
    settings: ActionLoss = FLOW_ALONE,
) -> Parts:
    """Returns the loss of either kind of model."""
    if isinstance(model, Pi0Fast):
        return token_parts(model, batch)
    return flow_parts(model, batch, key, max_delay, learn_padding=learn_padding, settings=settings)
