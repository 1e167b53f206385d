"""Another contract's statistics for a run: of a policy that it starts from, or of more of a robot's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract, known, refuse_differences
from pioxide.errors import ContractError
from pioxide.transforms import Stats

# A dimension whose values spread so many times as far as the statistics say is of another unit or joint.
WIDEST = 5.0
# Data whose every dimension spreads less than this part of what the statistics say, likewise.
NARROWEST = 0.1
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
            they are of another robot, of other relative actions or of another number of dimensions; or the
            dataset's values spread far more, or all of them far less, than the statistics say.
    """
    name = other.source or "data.statistics"
    other.require("norm_stats", "delta_mask", doing="training by its statistics")
    refuse_differences(fitted, other, names=("the dataset", name), only=("robot", "delta_mask"))
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
    spread, said = _spread(own), _spread(theirs)
    moves = spread > 0
    with np.errstate(divide="ignore"):
        times = spread[moves] / said[moves]
    if not times.size:
        return
    worst = int(np.flatnonzero(moves)[times.argmax()])
    if times.max() > WIDEST:
        raise ContractError(
            f"{where}: {names[worst]} spreads over {spread[worst]:.4g} in this dataset and over "
            f"{said[worst]:.4g} by the statistics: another unit or another joint? Leave data.statistics out "
            "for the dataset's own"
        )
    if times.max() < NARROWEST:
        raise ContractError(
            f"{where}: no dimension spreads over a tenth of what the statistics say ({names[worst]} over "
            f"{spread[worst]:.4g}, by them {said[worst]:.4g}): another unit? Leave data.statistics out for "
            "the dataset's own"
        )


def _spread(stats: Stats) -> NDArray[np.float64]:
    """Returns how far apart each dimension's 1% and 99% quantiles are, [D]; else as if it were normal."""
    if stats.q01 is not None and stats.q99 is not None:
        return stats.q99 - stats.q01
    if stats.std is not None:
        return 2 * DEVIATIONS * stats.std
    raise ContractError("statistics have neither quantiles nor a standard deviation")
