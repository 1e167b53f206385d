"""Flow sampling for π0 and π0.5: Euler steps from noise to actions, with the prefix computed once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pioxide.models.observation import Observation
from pioxide.models.pi0 import Condition
from pioxide.sampling.guidance import FlowModel


def step_times(num_steps: int) -> Float[Array, " n"]:
    """Returns the flow times at which velocities are taken, from 1 down.

    Subtracted one after another in float32, as the released policies do: 1 - 3 * 0.1 is another float.

    Raises:
        ValueError: There is no step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, got {num_steps}")
    times = [np.float32(1.0)]
    for _ in range(num_steps - 1):
        times.append(times[-1] - np.float32(1.0 / num_steps))
    return jnp.asarray(np.stack(times))


def sample_actions(
    model: FlowModel,
    observation: Observation,
    noise: Float[Array, "b h d"],
    *,
    num_steps: int = 10,
    scan_layers: bool = False,
    conditions: Condition | None = None,
) -> Float[Array, "b h d"]:
    """Samples an action chunk in `num_steps` Euler steps of equal length, from time 1 (noise) to 0.

    Args:
        model: π0 or π0.5, guided or not.
        observation: What the robot sees.
        noise: Standard normal.
        num_steps: Evaluations of the velocity.
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

    def body(index, carry):
        x_t, prefix = carry
        velocity, prefix = model.cached_velocity(prefix, observation, x_t, of_step(conditions, index))
        return x_t - step * velocity, prefix

    return jax.lax.fori_loop(0, num_steps, body, (noise.astype(jnp.float32), prefix))[0]


def of_step(conditions: Condition, index: int | Int[Array, ""]) -> Condition:
    """Returns the conditions of one step, for every row, out of those of all steps along the batch axis."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, index, 1, axis=x.ndim - 3), conditions)
