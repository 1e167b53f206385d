"""How the axes of a tensor differ between two formats, written as `n d h -> (n h) d` and run both ways.

Left stands our parameter, right the foreign tensor. A letter is an axis, letters in parentheses are one axis
of the foreign tensor, and a number on the left picks an index: the foreign tensor is then only that part.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from pioxide.errors import CheckpointError
from pioxide.weights.tree import Array, copy_blocked


class Rearrange:
    """One pattern, parsed."""

    def __init__(self, pattern: str) -> None:
        left, right = (side.split() for side in pattern.replace("(", " ( ").replace(")", " ) ").split("->"))
        self.pattern = pattern
        self.axes = [token for token in left if not token.isdigit()]
        self.index = tuple(int(token) if token.isdigit() else slice(None) for token in left)
        self.groups = _groups(right)
        flat = [axis for group in self.groups for axis in group]
        if sorted(flat) != sorted(self.axes):
            raise ValueError(f"{pattern!r} does not have the same axes on both sides")
        self.order = [self.axes.index(axis) for axis in flat]
        self.back = [flat.index(axis) for axis in self.axes]

    @property
    def identity(self) -> bool:
        """Returns whether the foreign tensor is the parameter as it is."""
        return not self.picks and self.groups == [[axis] for axis in self.axes]

    @property
    def picks(self) -> bool:
        """Returns whether the foreign tensor is only a part of the parameter."""
        return any(isinstance(i, int) for i in self.index)

    def sizes(self, shape: tuple[int, ...]) -> dict[str, int]:
        """Returns the length of every axis, from the parameter's shape."""
        kept = [n for n, i in zip(shape, self.index, strict=True) if not isinstance(i, int)]
        return dict(zip(self.axes, kept, strict=True))

    def foreign_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the foreign tensor's shape, from the parameter's."""
        sizes = self.sizes(shape)
        return tuple(prod(sizes[axis] for axis in group) for group in self.groups)

    def solve(self, foreign: tuple[int, ...], known: Mapping[str, int]) -> dict[str, int]:
        """Returns the length of every axis, from the foreign tensor's shape and the axes that `known` gives.

        Raises:
            CheckpointError: The shape has another number of axes, or one does not divide.
        """
        if len(foreign) != len(self.groups):
            raise CheckpointError(f"has {len(foreign)} axes, expected {len(self.groups)}")
        sizes: dict[str, int] = {}
        for length, group in zip(foreign, self.groups, strict=True):
            free = [axis for axis in group if axis not in known or len(group) == 1]
            rest = prod(known[axis] for axis in group if axis not in free)
            if len(free) > 1 or rest == 0 or length % rest or (not free and length != rest):
                raise CheckpointError(f"an axis of {length} is no {' times '.join(group)} of {dict(known)}")
            sizes |= {axis: known[axis] for axis in group if axis not in free}
            sizes |= dict.fromkeys(free, length // rest)
        return sizes

    def to_foreign(self, parameter: Array) -> Array:
        """Returns the foreign tensor, C-contiguous; a view where nothing moves."""
        view = parameter[self.index].transpose(self.order)
        shape = self.foreign_shape(parameter.shape)
        if view.flags.c_contiguous:
            return view.reshape(shape)
        moved = view.copy() if view.ndim < 2 else _moved(view)
        return moved.reshape(shape)

    def place(self, parameter: Array, foreign: Array) -> None:
        """Writes the foreign tensor into (its part of) the parameter. The inverse of `to_foreign`."""
        sizes = self.sizes(parameter.shape)
        split = [sizes[axis] for group in self.groups for axis in group]
        copy_blocked(parameter[self.index], foreign.reshape(split).transpose(self.back))


def _moved(view: Array) -> Array:
    import numpy as np

    out = np.empty(view.shape, view.dtype)
    copy_blocked(out, view)
    return out


def _groups(tokens: list[str]) -> list[list[str]]:
    groups: list[list[str]] = []
    inside = False
    for token in tokens:
        if token == "(":
            groups.append([])
            inside = True
        elif token == ")":
            inside = False
        elif inside:
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups
