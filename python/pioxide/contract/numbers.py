"""States and actions between a robot's units and a model's, in one order for fit, training and policy.

There: signs and grippers, actions relative to the state, normalisation, padding. Back: the same, inverted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import floats, refuse_masked
from pioxide.contract.contract import Contract, known
from pioxide.errors import ContractError, InputError
from pioxide.robots import RobotSpec
from pioxide.transforms import DeltaActions, Normalizer, NormMode, NormRule, Stats
from pioxide.transforms.stats import FIELDS as STATISTICS

Floats = NDArray[np.float64]


class StateRange(NamedTuple):
    """Numbers of a state that lie outside what its statistics cover.

    Attributes:
        dims: Which.
        worst: The largest distance from the middle, in half spans of the statistics: 1 is just inside.
    """

    dims: tuple[int, ...]
    worst: float


@dataclass(frozen=True)
class Numbers:
    """The numeric part of a pipeline. Arrays are batched; S and D are the robot's own widths.

    Attributes:
        robot: Whose signs and grippers.
        delta_mask: Which action dimensions are relative to the state.
        state: Normalisation of the state.
        actions: Normalisation of the (relative) actions.
        spread: How far a normalised state usually lies from 0: 1 for ranges, 3 for z-scores, None for none.
    """

    robot: RobotSpec
    delta_mask: tuple[bool, ...]
    state: Normalizer
    actions: Normalizer
    spread: float | None

    @classmethod
    def of(cls, contract: Contract) -> Numbers:
        """Reads them off a contract.

        Raises:
            ContractError: A field that numbers depend on is unknown, or the statistics are another robot's.
        """
        contract.require("robot", "delta_mask", "state_norm", "action_norm", doing="normalising numbers")
        robot, mask = known(contract.robot, "robot"), known(contract.delta_mask, "delta_mask")
        rules = known(contract.state_norm, "state_norm"), known(contract.action_norm, "action_norm")
        check_delta_mask(robot, mask)
        stats: dict[str, Stats | None] = {"state": None, "actions": None}
        for key, rule, dim in zip(stats, rules, (robot.state_dim, robot.action_dim), strict=True):
            if rule.mode is not NormMode.IDENTITY:
                stats[key] = covering(contract, key, dim)
        spread = {NormMode.IDENTITY: None, NormMode.MEAN_STD: 3.0}.get(rules[0].mode, 1.0)
        made = [_made(rule, stats[key], key) for key, rule in zip(stats, rules, strict=True)]
        return cls(robot, mask, made[0], made[1], spread)

    def apply_state(self, states: ArrayLike) -> Floats:
        """Returns normalised states [..., S] of states in the robot's units."""
        return self.state.apply(self.robot.apply_state(states))

    def apply_actions(self, actions: ArrayLike, states: ArrayLike) -> Floats:
        """Returns normalised chunks [..., H, D].

        Args:
            actions: [..., H, D] in the robot's units.
            states: [..., S] in the robot's units, where each chunk begins.
        """
        steps = self.robot.apply_actions(actions)
        if self.delta is not None:
            steps = self.delta.apply(steps, self.robot.apply_state(states))
        return self.actions.apply(steps)

    def invert_actions(self, model_actions: ArrayLike, states: ArrayLike) -> Floats:
        """Returns actions [..., H, D] in the robot's units of a model's answer.

        Args:
            model_actions: [..., H, W], W at least D; what is beyond D was padding.
            states: [..., S] in the robot's units, where each chunk begins.
        """
        answer = np.asarray(model_actions)
        if answer.ndim < 2 or answer.shape[-1] < self.robot.action_dim:
            raise InputError(
                f"model actions: expected [..., H, {self.robot.action_dim} or more], got {answer.shape}"
            )
        actions = self.actions.invert(answer[..., : self.robot.action_dim])
        if self.delta is not None:
            actions = self.delta.invert(actions, self.robot.apply_state(states))
        return self.robot.invert_actions(actions)

    def episode(self, states: ArrayLike, actions: ArrayLike) -> EpisodeNumbers:
        """Prepares an episode's states [n, S] and actions [n, D] for cutting chunks out of it.

        Raises:
            InputError: They are no numbers, or of another width than the robot's.
        """
        if self.robot.plain:
            # As recorded: openpi subtracts a float32 state from float32 actions, and rounds once more then.
            model_states, steps = (
                _wide(values, dim, what)
                for values, dim, what in (
                    (states, self.robot.state_dim, "states"),
                    (actions, self.robot.action_dim, "actions"),
                )
            )
        else:
            model_states, steps = self.robot.apply_state(states), self.robot.apply_actions(actions)
        if self.delta is None:  # absolute actions are normalised once a frame, not once a chunk
            steps = self.actions.apply(steps)
        return EpisodeNumbers(self, model_states, steps)

    def state_range(self, normalised: Floats) -> list[StateRange]:
        """Returns which numbers of [B, S] normalised states are outside the statistics, and how far."""
        if self.spread is None:
            return [StateRange((), 0.0)] * len(normalised)
        far = np.abs(normalised) / self.spread
        return [
            StateRange(tuple(np.flatnonzero(row > 1.0 + 1e-6).tolist()), float(row.max(initial=0.0)))
            for row in far
        ]

    @property
    def delta(self) -> DeltaActions | None:
        """Returns the step that makes actions relative, None where they are absolute."""
        return DeltaActions(self.delta_mask) if any(self.delta_mask) else None


@dataclass(frozen=True)
class EpisodeNumbers:
    """One episode in the model's frame.

    Attributes:
        numbers: How it got there, and how chunks are normalised.
        states: [n, S] in the model's frame, not normalised.
        steps: [n, D] in the model's frame; normalised already where actions are absolute.
    """

    numbers: Numbers
    states: NDArray[np.floating]
    steps: NDArray[np.floating]

    def state(self, part: slice | NDArray[np.int64]) -> Floats:
        """Returns normalised states [m, S] of some frames."""
        return self.numbers.state.apply(self.states[part])

    def chunks(self, windows: NDArray[Any], part: slice | NDArray[np.int64]) -> Floats:
        """Returns normalised chunks [m, H, D] of some frames.

        Args:
            windows: [n, H, D] windows over `steps`, a view.
            part: Which frames.
        """
        delta = self.numbers.delta
        if delta is None:
            return windows[part]
        return self.numbers.actions.apply(delta.apply(windows[part], self.states[part]))


def check_delta_mask(robot: RobotSpec, mask: tuple[bool, ...]) -> None:
    """Refuses a mask under which one joint would be subtracted from another.

    Raises:
        ContractError: The mask is longer than state or actions, or a masked dimension has another name in the
            state than in the actions.
    """
    if len(mask) > min(robot.state_dim, robot.action_dim):
        raise ContractError(
            f"delta_mask covers {len(mask)} dimensions; {robot.name}'s state has {robot.state_dim}, its "
            f"actions {robot.action_dim}"
        )
    if not (robot.joint_names and robot.state_names):
        return
    for dim, masked in enumerate(mask):
        name, other = robot.joint_names[dim], robot.state_names[dim]
        if masked and name != other and (name in robot.state_names or other in robot.joint_names):
            raise ContractError(
                f"delta_mask makes action {dim} ({name}) relative to state {dim} ({other}): {robot.name} "
                "names the same joints in another order in its state; put them into one order first"
            )


def covering(contract: Contract, key: str, dim: int) -> Stats:
    """Returns the statistics of "state" or "actions" for a robot's `dim` numbers.

    Statistics that were padded to the model's width, with zeros or ones, are cut.

    Raises:
        ContractError: There are none, or they cover another number of dimensions.
    """
    table = known(contract.norm_stats, "norm_stats")
    where = contract.source or "the contract"
    if key not in table:
        raise ContractError(f'{where}: the norm statistics have no "{key}", only {sorted(table)}')
    stats = table[key]
    if stats.dim == dim:
        return stats
    vectors = [v for name in STATISTICS if (v := getattr(stats, name)) is not None]
    # A deviation or a quantile may be padded with 1, which leaves what it normalises as it is.
    if stats.dim > dim and all(np.all(v[dim:] == v[dim]) and abs(v[dim]) in (0.0, 1.0) for v in vectors):
        return stats.sliced(dim)
    error = ContractError(
        f'{where}: the norm statistics of "{key}" cover {stats.dim} numbers, and the robot has {dim}: they '
        "are another robot's, or of other columns"
    )
    error.fields = ("norm_stats", "robot")
    raise error


def _wide(values: ArrayLike, dim: int, what: str) -> NDArray[np.floating]:
    """Values [n, dim], float32 as it is and everything else as float64."""
    refuse_masked(values, f"{what}: expected numbers [n, {dim}]")
    array = np.asarray(values)
    if array.dtype.type not in (np.float32, np.float64):
        array = floats(array, f"{what}: expected numbers [n, {dim}]")
    if array.ndim != 2 or array.shape[1] != dim:
        raise InputError(f"{what}: expected [n, {dim}], got shape {array.shape}")
    return array


def _made(rule: NormRule, stats: Stats | None, key: str) -> Normalizer:
    return rule.make(stats, f"the {key}")
