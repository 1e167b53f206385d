"""Which numbers of a dataset are the state and the actions: columns side by side, and their dimensions.

A person chooses dimensions by name, glob, number or slice (`JointChoice`); what is kept is their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from numpy.typing import NDArray

from pioxide.data.episode import Episode
from pioxide.data.lerobot import LeRobotDataset
from pioxide.errors import InputError

INDEX_KEYS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
# So many names are shown where one is not among them.
SHOWN = 60


@dataclass(frozen=True)
class FrameColumns:
    """Which columns of a dataset are the state and the actions, and which of their dimensions.

    Attributes:
        state_keys: Columns that make up the state; several are put side by side.
        action_keys: Columns that make up an action.
        state_dims: Which numbers of the state's columns side by side, in this order; None for all.
        action_dims: Likewise of the actions'.
    """

    state_keys: tuple[str, ...] = ("observation.state",)
    action_keys: tuple[str, ...] = ("action",)
    state_dims: tuple[int, ...] | None = None
    action_dims: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuses what no dataset could satisfy.

        Raises:
            InputError: No keys, a key twice, or dimensions that can't be.
        """
        for name in ("state_keys", "action_keys"):
            keys = tuple(getattr(self, name))
            object.__setattr__(self, name, keys)
            if not keys:
                raise InputError(f"{name} is empty; name at least one column")
            if len(set(keys)) != len(keys):
                raise InputError(f"{name} names a column twice: {', '.join(keys)}")
        for name in ("state_dims", "action_dims"):
            if getattr(self, name) is None:
                continue
            dims = tuple(getattr(self, name))
            object.__setattr__(self, name, dims)
            if not dims or len(set(dims)) != len(dims) or not all(type(d) is int and d >= 0 for d in dims):
                raise InputError(f"{name} is {list(dims)}, expected different integers from 0")

    @classmethod
    def guess(cls, dataset: LeRobotDataset) -> FrameColumns:
        """Returns LeRobot's names, else what begins with them, else every column of several numbers."""
        numeric = [k for k, f in dataset.features.items() if f.is_numeric and k not in INDEX_KEYS]

        def named(name: str) -> tuple[str, ...]:
            return (name,) if name in numeric else tuple(k for k in numeric if k.startswith(name))

        wide = tuple(k for k in numeric if dataset.features[k].dim > 1)
        if not numeric:
            raise InputError("the dataset has no column of numbers")
        return cls(
            named("observation.state") or named("state") or wide or tuple(numeric),
            named("action") or wide or tuple(numeric),
        )

    @property
    def all(self) -> tuple[str, ...]:
        """Returns every column that is read, each once."""
        return tuple(dict.fromkeys((*self.state_keys, *self.action_keys)))

    def state(self, episode: Episode) -> NDArray:
        """Returns an episode's states [T, S]."""
        return _picked(episode.stack(self.state_keys), self.state_dims)

    def actions(self, episode: Episode) -> NDArray:
        """Returns an episode's actions [T, D]."""
        return _picked(episode.stack(self.action_keys), self.action_dims)

    def state_names(self, dataset: LeRobotDataset) -> list[str]:
        """Returns names of the state's S numbers."""
        return _names(dataset.names(self.state_keys), self.state_dims, "state")

    def action_names(self, dataset: LeRobotDataset) -> list[str]:
        """Returns names of an action's D numbers."""
        return _names(dataset.names(self.action_keys), self.action_dims, "actions")


@dataclass(frozen=True)
class JointChoice:
    """Which dimensions a person wants, as written: names, globs, numbers, slices; see `pick`.

    Attributes:
        joints: Of state and actions alike, in this order; empty for all.
        drop: Left out of both.
        state_joints: Of the state, in place of `joints`.
        action_joints: Of the actions, in place of `joints`.
    """

    joints: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    state_joints: tuple[str, ...] = ()
    action_joints: tuple[str, ...] = ()

    def of(self, dataset: LeRobotDataset, columns: FrameColumns) -> FrameColumns:
        """Returns these columns with the dimensions that are chosen.

        Args:
            dataset: Whose dimensions they are.
            columns: Its columns, all dimensions.

        Raises:
            InputError: A name is none of the dataset's; shows those that are.
        """
        if self == JointChoice():
            return columns
        out = tuple(f"!{term}" for term in self.drop)
        state, actions = dataset.names(columns.state_keys), dataset.names(columns.action_keys)
        try:
            return FrameColumns(
                columns.state_keys,
                columns.action_keys,
                pick((*(self.state_joints or self.joints), *out), state, "the state"),
                pick((*(self.action_joints or self.joints), *out), actions, "an action"),
            )
        except InputError as error:
            if not self.joints and not self.drop:
                raise
            way_out = "--state-joints and --action-joints choose for one of the two"
            raise InputError(f"{error}\nWhat is said for both has to be in both: {way_out}") from None


def pick(terms: Sequence[str], names: Sequence[str], what: str) -> tuple[int, ...] | None:
    """Returns the dimensions that these terms choose, None where they are all in their order.

    >>> names = ["left_elbow", "left_wrist", "waist", "gripper"]
    >>> pick(["gripper", "left_*", "!left_wrist"], names, "an action")
    (3, 0)
    >>> pick(["!0:2"], names, "an action")
    (2, 3)

    Args:
        terms: Each a name, a glob, a number, or a slice such as "0:7" or "7:"; with "!" before it, what it
            chooses is left out. Where all begin with "!", they are left out of all.
        names: Of the dimensions.
        what: What messages call them.

    Raises:
        InputError: A term chooses nothing, or nothing is left.
    """
    kept = [dim for term in terms if not term.startswith("!") for dim in _of_term(term, names, what)]
    if not kept:
        kept = list(range(len(names)))
    out = {dim for term in terms if term.startswith("!") for dim in _of_term(term[1:], names, what)}
    chosen = tuple(dim for dim in dict.fromkeys(kept) if dim not in out)
    if not chosen:
        raise InputError(f"joints {', '.join(terms)}: nothing of {what} is left, which has {_shown(names)}")
    return None if chosen == tuple(range(len(names))) else chosen


def _of_term(term: str, names: Sequence[str], what: str) -> list[int]:
    exact = [dim for dim, name in enumerate(names) if name == term]
    if exact:
        return exact
    number = len(names)
    if match := re.fullmatch(r"(-?\d*):(-?\d*)", term):
        ends = [int(end) for end in match.groups() if end]
        found = list(range(*slice(*(int(end) if end else None for end in match.groups())).indices(number)))
        if not found or any(abs(end) > number for end in ends):
            raise InputError(f"joints {term}: {what} has {number} numbers, 0 to {number - 1}")
        return found
    if term.isdecimal():
        if int(term) >= number:
            raise InputError(f"joint {term}: {what} has {number} numbers, 0 to {number - 1}")
        return [int(term)]
    if found := [dim for dim, name in enumerate(names) if fnmatchcase(name, term)]:
        return found
    kind = "joint like" if set(term) & set("*?[") else "joint"
    raise InputError(f"{what} has no {kind} {term!r}; it has {_shown(names)}")


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _names(names: list[str], dims: tuple[int, ...] | None, what: str) -> list[str]:
    if dims is None:
        return names
    if max(dims) >= len(names):
        raise InputError(f"dimension {max(dims)} of the {what} was chosen, and the dataset has {len(names)}")
    return [names[dim] for dim in dims]


def _picked(values: NDArray, dims: tuple[int, ...] | None) -> NDArray:
    return values if dims is None else values[:, list(dims)]
