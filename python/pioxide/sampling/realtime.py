"""Real-time chunking (RTC): a new chunk that continues the one that the robot is still playing.

Guided (arXiv 2506.07339) works with any flow policy and takes a gradient in each step. Trained (arXiv
2512.05964) costs nothing while sampling and needs weights that were trained with `training_time_rtc_loss`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpy.typing import ArrayLike

from pioxide.errors import InputError
from pioxide.models.observation import Observation
from pioxide.models.pi0 import Condition, Pi0
from pioxide.models.typed import AnyArray
from pioxide.sampling.flow import of_step, step_times
from pioxide.sampling.guidance import FlowModel


class PrevChunkLeftOver(NamedTuple):
    """What is left to play of the previous chunk, padded to fixed shapes.

    Attributes:
        actions: [B, H, D] normalised as the model's actions are; row 0 is due at the new observation. Rows
            past `length` repeat the last action and are not used.
        length: [B] how many rows are real; 0 for a robot's first chunk.
        inference_delay: [B] how many of them will have been played when the new chunk arrives.
    """

    actions: Float[AnyArray, "b h d"]
    length: Int[AnyArray, " b"]
    inference_delay: Int[AnyArray, " b"]


def pad_prev_chunk_left_over(
    actions: ArrayLike | None, inference_delay: int, *, horizon: int, dim: int
) -> PrevChunkLeftOver:
    """Pads one robot's leftover actions to a batch of one, on the host.

    Args:
        actions: [n, W] normalised, the next action first; None or [0, W] for a first chunk. More than
            `horizon` rows are cut; fewer dimensions than `dim` are padded with zeros, as the model's are.
        inference_delay: Actions that will be played before the new chunk arrives; at most n count.
        horizon: H of the model.
        dim: D of the model.

    Raises:
        InputError: The actions are not [n, W] with W at most `dim`, or not finite, or the delay is negative.
    """
    given = np.zeros((0, dim), np.float32) if actions is None else np.asarray(actions, np.float32)
    if given.ndim != 2 or given.shape[1] > dim:
        raise InputError(f"leftover: expected [n, {dim}] actions or narrower ones, got shape {given.shape}")
    if not np.isfinite(given).all():
        row, column = np.argwhere(~np.isfinite(given))[0]
        raise InputError(f"leftover: {given[row, column]} at step {row}, dimension {column}")
    if inference_delay < 0:
        raise InputError(f"inference delay: expected 0 or more actions, got {inference_delay}")
    given = given[:horizon]
    padded = np.zeros((1, horizon, dim), np.float32)
    if len(given):
        padded[0, :, : given.shape[1]] = given[np.minimum(np.arange(horizon), len(given) - 1)]
    count = np.array([len(given)], np.int32)
    delay = np.minimum(count, np.int32(min(inference_delay, horizon)))
    return PrevChunkLeftOver(padded, count, delay)


class RTCAttentionSchedule(enum.Enum):
    """How strongly the rows after the inference delay are guided towards the leftover.

    Attributes:
        ONES: Fully, up to the execution horizon.
        LINEAR: Falling evenly.
        EXP: Falling fast at first (equation 5 of arXiv 2506.07339).
        ZEROS: Not at all.
    """

    ONES = "ones"
    LINEAR = "linear"
    EXP = "exp"
    ZEROS = "zeros"


@dataclass(frozen=True)
class RTCConfig:
    """How a chunk is guided.

    Attributes:
        prefix_attention_schedule: How the weights fall after the inference delay.
        execution_horizon: The most leftover rows that guide; None for all that there are, as in the paper,
            where that is the horizon less the actions played between two inferences.
        max_guidance_weight: The most that a correction is weighted with. The first of n steps moves a fixed
            row by `max_guidance_weight / n` of its error, so it should not exceed n.
    """

    prefix_attention_schedule: RTCAttentionSchedule = RTCAttentionSchedule.EXP
    execution_horizon: int | None = None
    max_guidance_weight: float = 5.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            InputError: The schedule is none, the execution horizon is below 1, or the weight is not above 0.
        """
        if not isinstance(self.prefix_attention_schedule, RTCAttentionSchedule):
            raise InputError(
                "prefix_attention_schedule: expected an RTCAttentionSchedule, got "
                f"{self.prefix_attention_schedule!r}"
            )
        if self.execution_horizon is not None and self.execution_horizon < 1:
            raise InputError(
                f"execution_horizon: expected None or at least 1 action, got {self.execution_horizon}"
            )
        if not (self.max_guidance_weight > 0 and np.isfinite(self.max_guidance_weight)):
            raise InputError(
                f"max_guidance_weight: expected a number above 0, got {self.max_guidance_weight}"
            )


def guidance_weights(leftover: PrevChunkLeftOver, config: RTCConfig) -> Float[Array, "b h"]:
    """Returns 1 up to the delay, falling to the execution horizon, 0 after it and past the leftover.

    Between delay d and end e row i has u = (e - i) / (e - d + 1), or u (exp(u) - 1) / (exp(1) - 1) for `EXP`.
    """
    row = jnp.arange(leftover.actions.shape[1])[None]
    end = leftover.length[:, None]
    if config.execution_horizon is not None:
        end = jnp.minimum(end, config.execution_horizon)
    delay = jnp.minimum(leftover.inference_delay[:, None], end)
    falling = (end - row) / (end - delay + 1)
    if config.prefix_attention_schedule is RTCAttentionSchedule.EXP:
        falling = falling * jnp.expm1(falling) / np.expm1(1.0)
    elif config.prefix_attention_schedule is RTCAttentionSchedule.ONES:
        falling = jnp.ones_like(falling)
    elif config.prefix_attention_schedule is RTCAttentionSchedule.ZEROS:
        falling = jnp.zeros_like(falling)
    return jnp.where(row < delay, 1.0, jnp.where(row < end, falling, 0.0)).astype(jnp.float32)


def guidance_strength(time: Float[Array, ""], max_guidance_weight: float) -> Float[Array, ""]:
    """Returns `min(max, (1 - tau) / tau * (tau^2 + (1 - tau)^2) / (1 - tau)^2)` with tau = 1 - time."""
    tau = 1.0 - time
    # Written so that tau = 0, the first step, is an infinity that the maximum caps, and no 0 / 0.
    return jnp.minimum(max_guidance_weight, (time**2 + tau**2) / (tau * time))


def sample_guided_rtc(
    model: FlowModel,
    observation: Observation,
    noise: Float[Array, "b h d"],
    leftover: PrevChunkLeftOver,
    *,
    config: RTCConfig = RTCConfig(),
    num_steps: int = 10,
    scan_layers: bool = False,
    conditions: Condition | None = None,
) -> Float[Array, "b h d"]:
    """Samples an action chunk that continues the leftover: algorithm 1 of arXiv 2506.07339.

    Each step estimates the clean chunk and corrects the velocity by a vector-Jacobian product of that
    estimate with the weighted error. The gradient goes through the action expert alone, because the prefix's
    keys and values don't depend on the noisy actions. A row without leftover is sampled as `sample_actions`
    samples it.

    Args:
        model: π0 or π0.5; nothing about its training matters.
        observation: What the robot sees.
        noise: Standard normal.
        leftover: What is left of the previous chunk.
        config: Weights and strength.
        num_steps: Evaluations of the velocity, and of its gradient.
        scan_layers: Whether layers run in a scan, or unrolled one by one as inference wants them.
        conditions: What the model's `condition` gives for `step_times(num_steps)`, if it was computed
            before.

    Returns:
        Normalised actions, float32.

    Raises:
        ValueError: There is no step.
    """
    times = step_times(num_steps)
    prefix = model.prefill(observation, scan_layers=scan_layers)
    step = 1.0 / num_steps
    if conditions is None:
        conditions = model.condition(times)
    weights = guidance_weights(leftover, config)[..., None]

    def body(index, carry):
        x_t, prefix = carry
        time, condition = times[index], of_step(conditions, index)

        def clean(x_t):
            velocity, written = model.cached_velocity(prefix, observation, x_t, condition)
            return x_t - time * velocity, (velocity, written)

        estimate, pull, (velocity, written) = jax.vjp(clean, x_t, has_aux=True)
        (correction,) = pull((leftover.actions - estimate) * weights)
        turned = velocity - guidance_strength(time, config.max_guidance_weight) * correction
        return x_t - step * turned, written

    return jax.lax.fori_loop(0, num_steps, body, (noise.astype(jnp.float32), prefix))[0]


def sample_trained_rtc(
    model: FlowModel,
    observation: Observation,
    noise: Float[Array, "b h d"],
    leftover: PrevChunkLeftOver,
    *,
    num_steps: int = 10,
    scan_layers: bool = False,
    conditions: Condition | None = None,
) -> Float[Array, "b h d"]:
    """Samples a chunk whose first `inference_delay` actions are the leftover's, from a model trained for it.

    Those actions enter every step clean, at time 0 (arXiv 2512.05964). The model must have been trained with
    `training_time_rtc_loss` on delays at least as long.

    Args:
        model: π0 or π0.5.
        observation: What the robot sees.
        noise: Standard normal.
        leftover: What is left of the previous chunk; rows past the inference delay are not used.
        num_steps: Evaluations of the velocity.
        scan_layers: Whether layers run in a scan, or unrolled one by one as inference wants them.
        conditions: What the model's `condition` gives for `step_times(num_steps)` and then 0, where it was
            computed before.

    Returns:
        Normalised actions, float32; the first `inference_delay` are exactly the leftover's.

    Raises:
        ValueError: There is no step.
    """
    times = step_times(num_steps)
    prefix = model.prefill(observation, scan_layers=scan_layers)
    step = 1.0 / num_steps
    if conditions is None:
        conditions = model.condition(jnp.append(times, 0.0))
    clean = of_step(conditions, num_steps)
    fixed = _first(leftover.inference_delay, noise.shape[1])

    def body(index, carry):
        x_t, prefix = carry
        # One token's condition is that of its own time: this step's, or of time 0.
        each = jax.tree.map(lambda x, y: jnp.where(fixed[..., None], x, y), clean, of_step(conditions, index))
        velocity, prefix = model.cached_velocity(prefix, observation, x_t, each)
        return _put(leftover, fixed, x_t - step * velocity), prefix

    start = _put(leftover, fixed, noise.astype(jnp.float32))
    return jax.lax.fori_loop(0, num_steps, body, (start, prefix))[0]


def training_time_rtc_loss(
    model: Pi0,
    observation: Observation,
    actions: Float[Array, "b h d"],
    *,
    key: PRNGKeyArray,
    max_delay: int,
    delay: Int[Array, " b"] | None = None,
    noise: Float[Array, "b h d"] | None = None,
    time: Float[Array, " b"] | None = None,
) -> Float[Array, ""]:
    """Returns the loss for `sample_trained_rtc`: the first actions are clean at time 0 and carry no loss.

    Args:
        model: π0 or π0.5.
        observation: The moments.
        actions: [B, H, D] normalised, padded.
        key: Where delay, noise and time are drawn from unless given.
        max_delay: Delays are drawn evenly from 0 to this one, which is included.
        delay: [B] in place of drawn ones.
        noise: [B, H, D].
        time: [B] in (0, 1].

    Returns:
        The mean over all actions that count.

    Raises:
        ValueError: `max_delay` leaves no action to learn from.
    """
    batch, horizon = actions.shape[:2]
    if not 0 <= max_delay < horizon:
        raise ValueError(f"max_delay: expected 0 to {horizon - 1} actions of {horizon}, got {max_delay}")
    delay_key, noise_key, time_key = jax.random.split(key, 3)
    if delay is None:
        delay = jax.random.randint(delay_key, (batch,), 0, max_delay + 1)
    noise = jax.random.normal(noise_key, actions.shape) if noise is None else noise
    time = model.draw_time(time_key, batch) if time is None else time
    fixed = _first(delay, horizon)
    each = model.loss(observation, actions, noise=noise, time=jnp.where(fixed, 0.0, time[:, None]))
    return jnp.sum(jnp.where(fixed, 0.0, each)) / jnp.sum(~fixed, dtype=jnp.float32)


def _first(delay: Int[AnyArray, " b"], horizon: int) -> Bool[Array, "b h"]:
    return jnp.arange(horizon)[None] < delay[:, None]


def _put(
    leftover: PrevChunkLeftOver, fixed: Bool[Array, "b h"], x: Float[Array, "b h d"]
) -> Float[Array, "b h d"]:
    return jnp.where(fixed[..., None], leftover.actions, x)
