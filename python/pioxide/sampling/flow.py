"""Noise to actions: Euler steps of the learned flow; the prefix and all conditions are computed once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pioxide.models.gemma import Modulations
from pioxide.models.observation import Observation
from pioxide.models.pi0 import Pi0


def step_times(num_steps: int) -> Float[Array, " n"]:
    """The flow times at which velocities are taken, from 1 down.

    Subtracted one after another in float32, as the released policies do: 1 - 3 * 0.1 is another float.
    """
    times = [np.float32(1.0)]
    for _ in range(num_steps - 1):
        times.append(times[-1] - np.float32(1.0 / num_steps))
    return jnp.asarray(np.stack(times))


def sample_actions(
    model: Pi0,
    observation: Observation,
    noise: Float[Array, "b h d"],
    *,
    num_steps: int = 10,
    unroll: bool = True,
    modulations: Modulations | None = None,
) -> Float[Array, "b h d"]:
    """Moves noise to an action chunk in `num_steps` steps of equal length from time 1 to 0.

    Args:
        model: π0 or π0.5.
        observation: What the robot sees.
        noise: Standard normal.
        num_steps: Evaluations of the velocity.
        unroll: Layers one by one, as inference wants them, or by scan.
        modulations: π0.5: what the model's `condition` gives for `step_times(num_steps)`, where it was
            computed before.

    Returns:
        Normalised actions, float32.
    """
    prefix = model.prefill(observation, unroll=unroll)
    step = 1.0 / num_steps
    times = step_times(num_steps)
    if model.config.pi05 and modulations is None:
        modulations = model.condition(times)
    batch = len(noise)

    def body(index, carry):
        x_t, prefix = carry
        time = jnp.full((batch,), 1.0, jnp.float32) * times[index]
        own = None
        if modulations is not None:
            # The batch axis of the modulations holds the steps: this step's serves every row.
            own = jax.tree.map(
                lambda m: jax.lax.dynamic_slice_in_dim(m, index, 1, axis=m.ndim - 3), modulations
            )
        velocity, prefix = model.cached_velocity(prefix, observation, x_t, time, own)
        return x_t - step * velocity, prefix

    return jax.lax.fori_loop(0, num_steps, body, (noise.astype(jnp.float32), prefix))[0]
