"""Real-time chunking: a new chunk that continues what is left of the one that the robot still plays.

Guided (arXiv 2506.07339): any flow policy, inpainting by a gradient in each step. Trained (arXiv 2512.05964):
a policy whose training conditioned it on clean first actions, at no cost while sampling.
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
from pioxide.sampling.flow import of_step, step_times


class Leftover(NamedTuple):
    """What is left of the previous chunk, in shapes that never change.

    Attributes:
        actions: [B, H, D] in the model's numbers; row 0 is due at the new observation. Rows past the tail
            hold the last action, and count for nothing.
        length: [B] how many rows are real; 0 for a first chunk.
        delay: [B] how many of them will have been played before the new chunk is there.
    """

    actions: Float[Array, "b h d"]
    length: Int[Array, " b"]
    delay: Int[Array, " b"]


def pad_leftover(leftover: ArrayLike | None, delay: int, *, horizon: int, dim: int) -> Leftover:
    """One robot's leftover as a batch of one, on the host.

    Args:
        leftover: [n, W] in the model's numbers, the next action first; None or [0, W] for a first chunk. More
            than `horizon` rows are cut, fewer dimensions than `dim` padded with zeros, as the model's are.
        delay: Actions that will be played before the new chunk is there; at most n count.
        horizon: H of the model.
        dim: D of the model.

    Raises:
        InputError: The leftover is not [n, W] with W at most `dim`, or not finite, or the delay is negative.
    """
    given = np.zeros((0, dim), np.float32) if leftover is None else np.asarray(leftover, np.float32)
    if given.ndim != 2 or given.shape[1] > dim:
        raise InputError(f"leftover: expected [n, {dim}] actions or narrower ones, got shape {given.shape}")
    if not np.isfinite(given).all():
        row, column = np.argwhere(~np.isfinite(given))[0]
        raise InputError(f"leftover: {given[row, column]} at step {row}, dimension {column}")
    if delay < 0:
        raise InputError(f"delay: expected 0 or more actions, got {delay}")
    given = given[:horizon]
    actions = np.zeros((1, horizon, dim), np.float32)
    if len(given):
        actions[0, :, : given.shape[1]] = given[np.minimum(np.arange(horizon), len(given) - 1)]
    count = np.array([len(given)], np.int32)
    return Leftover(actions, count, np.minimum(count, np.int32(min(delay, horizon))))  # type: ignore[arg-type]


class Schedule(enum.Enum):
    """How strongly the rows after the delay are held to the leftover.

    Attributes:
        ONES: Fully, up to the window's end.
        LINEAR: Less and less, evenly.
        EXP: Less and less, fast at first (equation 5 of arXiv 2506.07339).
        ZEROS: Not at all.
    """

    ONES = "ones"
    LINEAR = "linear"
    EXP = "exp"
    ZEROS = "zeros"


@dataclass(frozen=True)
class Guidance:
    """How a chunk is guided.

    Attributes:
        schedule: How the weights fall after the delay.
        window: The most rows of leftover that guide; None for all there are, as in the paper, where that is
            the horizon less the actions played between two inferences.
        beta: The most that a correction is weighted with. The first of n steps moves a fixed row by beta / n
            of its error, so it is not above n.
    """

    schedule: Schedule = Schedule.EXP
    window: int | None = None
    beta: float = 5.0

    def __post_init__(self) -> None:
        """Checks.

        Raises:
            InputError: The window is below 1, or beta not above 0.
        """
        if self.window is not None and self.window < 1:
            raise InputError(f"window: expected None or at least 1 action, got {self.window}")
        if not (self.beta > 0 and np.isfinite(self.beta)):
            raise InputError(f"beta: expected a number above 0, got {self.beta}")


def guidance_weights(leftover: Leftover, guidance: Guidance) -> Float[Array, "b h"]:
    """1 over the delay, falling to the window's end, 0 after it and past the leftover's tail.

    Between delay d and end e row i has u = (e - i) / (e - d + 1), or u (exp(u) - 1) / (exp(1) - 1) for `EXP`.
    """
    row = jnp.arange(leftover.actions.shape[1])[None]
    end = leftover.length[:, None]
    if guidance.window is not None:
        end = jnp.minimum(end, guidance.window)
    delay = jnp.minimum(leftover.delay[:, None], end)
    falling = (end - row) / (end - delay + 1)
    if guidance.schedule is Schedule.EXP:
        falling = falling * jnp.expm1(falling) / np.expm1(1.0)
    elif guidance.schedule is Schedule.ONES:
        falling = jnp.ones_like(falling)
    elif guidance.schedule is Schedule.ZEROS:
        falling = jnp.zeros_like(falling)
    return jnp.where(row < delay, 1.0, jnp.where(row < end, falling, 0.0)).astype(jnp.float32)


def guidance_strength(time: Float[Array, ""], beta: float) -> Float[Array, ""]:
    """`min(beta, (1 - tau) / tau * (tau^2 + (1 - tau)^2) / (1 - tau)^2)` with tau = 1 - time."""
    tau = 1.0 - time
    # Written so that tau = 0, the first step, is an infinity that beta caps, and no 0 / 0.
    return jnp.minimum(beta, (time**2 + tau**2) / (tau * time))


def sample_guided(
    model: Pi0,
    observation: Observation,
    noise: Float[Array, "b h d"],
    leftover: Leftover,
    *,
    guidance: Guidance = Guidance(),
    num_steps: int = 10,
    unroll: bool = True,
    conditions: Condition | None = None,
) -> Float[Array, "b h d"]:
    """Moves noise to an action chunk that continues the leftover: algorithm 1 of arXiv 2506.07339.

    Every step asks for the clean chunk that its velocity points to, and is turned by the vector-Jacobian
    product of that estimate with the weighted error. The gradient goes through the action expert alone: the
    prefix's keys and values don't depend on the noisy actions. Rows without leftover are sampled as
    `sample_actions` does.

    Args:
        model: π0 or π0.5; nothing about its training matters.
        observation: What the robot sees.
        noise: Standard normal.
        leftover: What is left of the previous chunk.
        guidance: Weights and strength.
        num_steps: Evaluations of the velocity, and of its gradient.
        unroll: Layers one by one, as inference wants them, or by scan.
        conditions: What the model's `condition` gives for `step_times(num_steps)`, where it was computed
            before.

    Returns:
        Normalised actions, float32.

    Raises:
        ValueError: There is no step.
    """
    times = step_times(num_steps)
    prefix = model.prefill(observation, unroll=unroll)
    step = 1.0 / num_steps
    if conditions is None:
        conditions = model.condition(times)
    weights = guidance_weights(leftover, guidance)[..., None]

    def body(index, carry):
        x_t, prefix = carry
        time, condition = times[index], of_step(conditions, index)

        def clean(x_t):
            velocity, written = model.cached_velocity(prefix, observation, x_t, condition)
            return x_t - time * velocity, (velocity, written)

        estimate, pull, (velocity, written) = jax.vjp(clean, x_t, has_aux=True)
        (correction,) = pull((leftover.actions - estimate) * weights)
        turned = velocity - guidance_strength(time, guidance.beta) * correction
        return x_t - step * turned, written

    return jax.lax.fori_loop(0, num_steps, body, (noise.astype(jnp.float32), prefix))[0]


def sample_continued(
    model: Pi0,
    observation: Observation,
    noise: Float[Array, "b h d"],
    leftover: Leftover,
    *,
    num_steps: int = 10,
    unroll: bool = True,
    conditions: Condition | None = None,
) -> Float[Array, "b h d"]:
    """Moves noise to a chunk whose first `delay` actions are the leftover's, for a model trained so.

    They enter every step clean, at time 0 (arXiv 2512.05964); the model must have been trained with
    `delayed_loss` on delays as long as those.

    Args:
        model: π0 or π0.5.
        observation: What the robot sees.
        noise: Standard normal.
        leftover: What is left of the previous chunk; rows past the delay are not used.
        num_steps: Evaluations of the velocity.
        unroll: Layers one by one, as inference wants them, or by scan.
        conditions: What the model's `condition` gives for `step_times(num_steps)` and then 0, where it was
            computed before.

    Returns:
        Normalised actions, float32; the first `delay` are exactly the leftover's.

    Raises:
        ValueError: There is no step.
    """
    times = step_times(num_steps)
    prefix = model.prefill(observation, unroll=unroll)
    step = 1.0 / num_steps
    if conditions is None:
        conditions = model.condition(jnp.append(times, 0.0))
    clean = of_step(conditions, num_steps)
    fixed = _first(leftover.delay, noise.shape[1])

    def body(index, carry):
        x_t, prefix = carry
        # One token's condition is that of its own time: this step's, or of time 0.
        each = jax.tree.map(lambda x, y: jnp.where(fixed[..., None], x, y), clean, of_step(conditions, index))
        velocity, prefix = model.cached_velocity(prefix, observation, x_t, each)
        return _put(leftover, fixed, x_t - step * velocity), prefix

    start = _put(leftover, fixed, noise.astype(jnp.float32))
    return jax.lax.fori_loop(0, num_steps, body, (start, prefix))[0]


def delayed_loss(
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
    """The loss that teaches `sample_continued`: first actions clean at time 0, and no loss on them.

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
    return jnp.sum(jnp.where(fixed, 0.0, each)) / jnp.sum(~fixed)


def _first(delay: Int[Array, " b"], horizon: int) -> Bool[Array, "b h"]:
    return jnp.arange(horizon)[None] < delay[:, None]


def _put(leftover: Leftover, fixed: Bool[Array, "b h"], x: Float[Array, "b h d"]) -> Float[Array, "b h d"]:
    return jnp.where(fixed[..., None], leftover.actions, x)
