"""The steps between a robot's numbers and a model's in one object, in openpi's order, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.transforms.actions import DeltaActions
from pioxide.transforms.pad import Pad


class Invertible(Protocol):
    """A step on one array with its inverse: `ZScore`, `Quantile`, `Pad`."""

    def apply(self, x: ArrayLike) -> NDArray:
        """There."""
        ...

    def invert(self, x: ArrayLike) -> NDArray:
        """And back."""
        ...


class StateAndActions(NamedTuple):
    """A state [..., S] and the action chunk [..., H, D] that starts there (None where there is none yet)."""

    state: NDArray
    actions: NDArray | None


@dataclass(frozen=True)
class ActionChain:
    """Delta actions, then normalisation, then padding; backwards: slice, unnormalise, absolute actions.

    A step that is None is left out. The steps of the state run beside those of the actions because the way
    back needs the state in the robot's own units: actions are made absolute again with it.

    Attributes:
        delta: relative to absolute and back, or None for absolute actions.
        state: normalisation of the state, or None.
        actions: normalisation of the (relative) actions, or None.
        state_pad: from the robot's state to the model's width, or None.
        actions_pad: from the robot's actions to the model's width, or None.
    """

    delta: DeltaActions | None = None
    state: Invertible | None = None
    actions: Invertible | None = None
    state_pad: Pad | None = None
    actions_pad: Pad | None = None

    def apply(self, state: ArrayLike, actions: ArrayLike | None = None) -> StateAndActions:
        """Bring a state [..., S] and its actions [..., H, D] (None at inference) to the model's numbers."""
        if actions is not None:
            if self.delta is not None:
                actions = self.delta.apply(actions, state)
            actions = _applied(actions, self.actions, self.actions_pad)
        return StateAndActions(_applied(state, self.state, self.state_pad), _array(actions))

    def invert(self, state: ArrayLike, actions: ArrayLike) -> StateAndActions:
        """Bring the model's state and actions back to the robot's units; delta actions need both."""
        state = _inverted(state, self.state, self.state_pad)
        actions = _inverted(actions, self.actions, self.actions_pad)
        if self.delta is not None:
            actions = self.delta.invert(actions, state)
        return StateAndActions(state, actions)


def _applied(x: ArrayLike, normalise: Invertible | None, pad: Pad | None) -> NDArray:
    x = x if normalise is None else normalise.apply(x)
    return np.asarray(x if pad is None else pad.apply(x))


def _inverted(x: ArrayLike, normalise: Invertible | None, pad: Pad | None) -> NDArray:
    x = x if pad is None else pad.invert(x)
    return np.asarray(x if normalise is None else normalise.invert(x))


def _array(x: ArrayLike | None) -> NDArray | None:
    return None if x is None else np.asarray(x)
