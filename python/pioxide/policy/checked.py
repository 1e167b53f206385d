"""Refuses states far from all data or cut off on the way in, and answers that are none on the way out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import Pi0FastPrompts
from pioxide.contract import Pipeline, StateRange
from pioxide.engine import Answer, Sampler, TokenSampler
from pioxide.errors import IncompleteChunkError, InputError, PolicyError
from pioxide.robots import RobotSpec
from pioxide.sampling import BROKEN


def check_ranges(ranges: Sequence[StateRange], limit: float | None, robot: RobotSpec) -> None:
    """Refuses states that are too far from their statistics.

    Args:
        ranges: One a robot.
        limit: Half spans from the middle; None for any.
        robot: Names the joints in messages.

    Raises:
        InputError: Names the joints.
    """
    for row, one in enumerate(ranges):
        if limit is not None and one.worst > limit:
            names = robot.state_names
            joints = ", ".join(f"{dim} ({names[dim]})" if names else str(dim) for dim in one.dims[:6])
            raise InputError(
                f"the state{_of_row(row, len(ranges))} is {one.worst:.3g} half spans from the middle of "
                f"its statistics, the limit is {limit:g}; outside are {joints}: compare units and joint "
                "order with the checkpoint's (pioxide doctor)"
            )


def check_prompts(cut: NDArray[np.bool_], prompts: Sequence[str], pipeline: Pipeline) -> None:
    """Refuses prompts that are cut before the state that they end in.

    π0's end with the instruction; of them `Prediction.truncated` tells.

    Args:
        cut: [B] which are longer than the policy reads.
        prompts: B instructions.
        pipeline: Whose prompts they are.

    Raises:
        InputError: Says the first one's instruction.
    """
    if cut.any() and not pipeline.family.state_is_vector:
        row = int(np.argmax(cut))
        raise InputError(
            f"prompt{_of_row(row, len(prompts))}: with its state {prompts[row]!r:.120} is longer than the "
            f"{pipeline.contract.text_len} ids that the policy reads, and joints of the state would be cut "
            "off: say it in fewer words"
        )


def model_chunks(
    answer: Answer, pipeline: Pipeline, sampler: Sampler, horizon: int, dim: int
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Returns normalised actions [B, H, W], and [B] coefficients that each chunk lacked.

    Args:
        answer: The engine's.
        pipeline: Its prompts make actions of π0-FAST's ids.
        sampler: Whether a chunk may lack any.
        horizon: H.
        dim: W.

    Raises:
        PolicyError: The network gave NaN, or ids that make no chunk.
    """
    if answer.actions is not None:
        if not np.isfinite(answer.actions).all():
            row, step, at = np.argwhere(~np.isfinite(answer.actions))[0]
            raise PolicyError(
                f"the network gave {answer.actions[row, step, at]} at step {step}, dimension {at}"
                f"{_of_row(row, len(answer.actions))}; look for NaN in the weights, or for a state far "
                "outside the norm statistics"
            )
        return answer.actions, np.zeros(len(answer.actions), np.int64)
    tokens, prompts = answer.tokens, pipeline.prompts
    assert tokens is not None
    assert isinstance(prompts, Pi0FastPrompts)
    assert isinstance(sampler, TokenSampler)
    if (tokens == BROKEN).any():
        row = int(np.argwhere(tokens == BROKEN)[0][0])
        raise PolicyError(
            f"the network gave scores of tokens that are NaN or infinite{_of_row(row, len(tokens))}; "
            "look for NaN in the weights"
        )
    try:
        return prompts.ids_to_actions_batch(
            tokens, horizon=horizon, dim=dim, partial=sampler.partial, continued=True
        )
    except (InputError, IncompleteChunkError) as error:
        raise PolicyError(f"π0-FAST wrote no action chunk: {error}") from error


def check_actions(actions: NDArray[np.float64], robot: RobotSpec) -> None:
    """Refuses actions [B, H, D] in the robot's units that are no numbers.

    Raises:
        PolicyError: Names the first one's joint.
    """
    if not np.isfinite(actions).all():
        row, step, dim = np.argwhere(~np.isfinite(actions))[0]
        raise PolicyError(
            f"action {actions[row, step, dim]} at step {step}, dimension {robot.joint(int(dim))}"
            f"{_of_row(row, len(actions))}: the norm statistics lead out of all numbers"
        )


def _of_row(row: int, rows: int) -> str:
    return f" of robot {row}" if rows > 1 else ""
