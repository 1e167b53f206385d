"""Another contract's statistics for a run: of a policy that it starts from, or of more of a robot's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract, known, refuse_differences
from pioxide.errors import ContractError
from pioxide.transforms import Stats

# A dimension whose values lie so many spreads outside of what the statistics say is of another unit or joint.
WIDEST = 2.0
# Data of which most dimensions spread less than this part of what the statistics say, likewise.
NARROWEST = 0.1
# What a dimension that never moved spreads over.
TINY = 1e-3
# Standard deviations from the mean to the 1% and 99% quantiles, of a normal distribution.
DEVIATIONS = 2.33


def with_statistics(fitted: Contract, other: Contract) -> Contract:
    """Returns a dataset's contract with the statistics of another one.

    A policy that goes on from another keeps what its numbers mean: a joint's 0.3 is the same angle as before.

    Args:
        fitted: What `pioxide fit` wrote of the dataset.
        other: Whose statistics; its `source` names it in messages.

    Raises:
        ContractError: The other one has no statistics, or does not say whether they are of relative actions;
            they are of another robot or rate, of other relative actions or over another horizon, or of
            another number of dimensions; or the dataset's values lie far outside of what the statistics say,
            or most of them spread far less.
    """
    name = other.source or "data.statistics"
    other.require("norm_stats", "delta_mask", doing="training by its statistics")
    refuse_differences(fitted, other, names=("the dataset", name), only=("robot", "delta_mask"))
    if any(known(fitted.delta_mask, "delta_mask")):
        # The longer a chunk, the further its actions are from the state that it begins at.
        other.require("action_horizon", doing="training by its statistics of relative actions")
        refuse_differences(fitted, other, names=("the dataset", name), only=("action_horizon",))
    robot = known(fitted.robot, "robot")
    own, theirs = known(fitted.norm_stats, "norm_stats"), known(other.norm_stats, "norm_stats")
    joints = {"state": robot.state_names, "actions": robot.joint_names}
    for key, names in joints.items():
        if key not in theirs:
            raise ContractError(f"{name} has no statistics of {key}; it has those of {', '.join(theirs)}")
        if theirs[key].dim != own[key].dim:
            raise ContractError(
                f"{name} has statistics of {theirs[key].dim} numbers of {key}, and this robot has "
                f"{own[key].dim}"
            )
        _same_units(own[key], theirs[key], f"{name}, {key}", names)
    return replace(fitted, norm_stats={key: theirs[key] for key in joints})


def _same_units(own: Stats, theirs: Stats, where: str, names: Sequence[str]) -> None:
    low, high = _range(own)
    said_low, said_high = _range(theirs)
    spread, said = high - low, said_high - said_low
    out = np.maximum(high - said_high, said_low - low)
    far = np.flatnonzero(out > WIDEST * np.maximum(said, TINY))
    if far.size:
        at = int(far[0])
        raise ContractError(
            f"{where}: {names[at]} is from {low[at]:.4g} to {high[at]:.4g} in this dataset and from "
            f"{said_low[at]:.4g} to {said_high[at]:.4g} by the statistics: another unit or another joint? "
            "Leave data.statistics out for the dataset's own"
        )
    moves = (spread > 0) & (said > 0)
    times = spread[moves] / said[moves]
    if times.size and np.median(times) < NARROWEST:
        at = int(np.flatnonzero(moves)[times.argmin()])
        raise ContractError(
            f"{where}: most dimensions spread over less than a tenth of what the statistics say ({names[at]} "
            f"over {spread[at]:.4g}, by them {said[at]:.4g}): another unit? Leave data.statistics out for "
            "the dataset's own"
        )


def _range(stats: Stats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns each dimension's 1% and 99% quantiles, [D] each; else as if it were normal."""
    if stats.q01 is not None and stats.q99 is not None:
        return stats.q01, stats.q99
    if stats.mean is not None and stats.std is not None:
        return stats.mean - DEVIATIONS * stats.std, stats.mean + DEVIATIONS * stats.std
    raise ContractError("statistics have neither quantiles nor mean and standard deviation")
