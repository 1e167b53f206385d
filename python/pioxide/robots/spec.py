"""What a robot is to a model: cameras, layout of state and actions, grippers, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import floats
from pioxide.errors import FormatError, InputError
from pioxide.robots.declared import read_yaml, spec_arguments, spec_mapping
from pioxide.robots.observation import flatten, image, numbers, text
from pioxide.robots.parts import Camera, Gripper, StatePart
from pioxide.transforms.actions import MOST_DIMS


class RobotInput(NamedTuple):
    """One moment in the model's frame, before normalisation.

    Attributes:
        images: [h, w, 3] uint8 by the robot's camera key; absent cameras are not there.
        state: [S] float64 in the units the model was trained on.
        prompt: The instruction, None where the observation has none.
        actions: [H, D] float64 in those units, only in training.
        raw_state: [S] float64 in the robot's own units.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float64]
    prompt: str | None
    actions: NDArray[np.float64] | None
    raw_state: NDArray[np.float64]


@dataclass(frozen=True)
class RobotSpec:
    """A robot, declared. `apply` leads to the model's frame, `invert_actions` back.

    Attributes:
        name: What error messages call it.
        cameras: Its cameras, in no particular order.
        state: Parts of the state, concatenated in this order.
        action_dim: Numbers in one action, D.
        hz: Actions a second; None where it is not known.
        prompt_key: Where an observation holds the instruction.
        actions_key: Where a training example holds its action chunk [H, D].
        signs: [D] factors 1 or -1 for joints that turn the other way, applied to state and actions; empty for
            none.
        grippers: Gripper maps by dimension, applied after `signs`.
        delta_mask: True where actions are relative to the state at the chunk's start; empty for absolute
            actions. None says nothing: it is the checkpoint's to say.
        joint_names: [D] names of an action's numbers; empty where they are not known.
        state_names: [S] names of the state's numbers; empty where they are not known.
        joint_units: [D] units of an action's numbers, as "rad"; empty where they are not known.
        ignored_keys: Observation keys that may be there and are not read.
    """

    name: str
    cameras: tuple[Camera, ...]
    state: tuple[StatePart, ...]
    action_dim: int
    hz: float | None = 50.0
    prompt_key: str = "prompt"
    actions_key: str = "actions"
    signs: tuple[int, ...] = ()
    grippers: Mapping[int, Gripper] = field(default_factory=dict[int, Gripper])
    delta_mask: tuple[bool, ...] | None = None
    joint_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    joint_units: tuple[str, ...] = ()
    ignored_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a layout that can't be right.

        Raises:
            InputError: Sizes disagree, a key or a slot stands twice, a sign is not 1 or -1.
        """
        if self.action_dim < 1 or not self.state or any(part.size < 1 for part in self.state):
            raise InputError(f"{self.name}: an action and each part of the state need at least one number")
        if max(self.action_dim, self.state_dim) > MOST_DIMS:
            raise InputError(f"{self.name}: a state and an action have at most {MOST_DIMS} numbers")
        if self.hz is not None and not 0 < self.hz < float("inf"):
            raise InputError(f"{self.name}: hz must be above 0, got {self.hz}")
        keys = [part.key for part in (*self.cameras, *self.state)]
        keys += [self.prompt_key, self.actions_key, *self.ignored_keys]
        for what, names in (("key", keys), ("slot", [camera.slot for camera in self.cameras])):
            if twice := [name for name in names if names.count(name) > 1]:
                raise InputError(f"{self.name}: {what} {twice[0]!r} stands twice")
        if self.signs and (len(self.signs) != self.action_dim or set(self.signs) - {1, -1}):
            raise InputError(f"{self.name}: signs must be {self.action_dim} numbers, each 1 or -1")
        if self.signs and self.state_dim != self.action_dim:
            raise InputError(f"{self.name}: signs need a state as wide as an action")
        both = min(self.action_dim, self.state_dim)
        if self.delta_mask is not None and len(self.delta_mask) > both:
            raise InputError(
                f"{self.name}: delta_mask has {len(self.delta_mask)} entries, and only {both} dimensions are "
                "both in the state and in an action"
            )
        for name, names, dim in (
            ("joint_names", self.joint_names, self.action_dim),
            ("state_names", self.state_names, self.state_dim),
            ("joint_units", self.joint_units, self.action_dim),
        ):
            if names and len(names) != dim:
                raise InputError(f"{self.name}: {name} must be {dim} texts or none, got {len(names)}")
        if bad := [dim for dim in self.grippers if not 0 <= dim < both]:
            raise InputError(f"{self.name}: there is no gripper dimension {bad[0]}")

    @property
    def state_dim(self) -> int:
        """Numbers in the state, S."""
        return sum(part.size for part in self.state)

    def joint(self, dim: int) -> str:
        """Returns what to call dimension `dim` in a message."""
        return f"{dim} ({self.joint_names[dim]})" if dim < len(self.joint_names) else str(dim)

    def apply(self, observation: Mapping[str, Any]) -> RobotInput:
        """Takes an observation, flat ("observation/image") or nested, to the model's frame.

        Images may be [h, w, 3] or [3, h, w], uint8, or float in [0, 1].

        Raises:
            InputError: A key is missing or unknown, or its value has a wrong shape, dtype, range, or is no
                number.
        """
        flat = flatten(observation)
        needed = [c.key for c in self.cameras if c.required] + [part.key for part in self.state]
        self._check_keys(flat, needed)
        images = self._images(flat)
        state = np.concatenate([numbers(flat[p.key], p.key, p.size) for p in self.state])
        prompt, actions = flat.get(self.prompt_key), flat.get(self.actions_key)
        return RobotInput(
            images,
            self._to_model(state, "state"),
            None if prompt is None else text(prompt, self.prompt_key),
            None if actions is None else self.apply_actions(self._finite(actions)),
            state,
        )

    def pictures(self, observation: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
        """Returns an observation's images [h, w, 3] by camera key; it need hold nothing else.

        Raises:
            InputError: A camera is missing, a key unknown, or an image has a wrong shape, dtype or range.
        """
        flat = flatten(observation)
        self._check_keys(flat, [c.key for c in self.cameras if c.required])
        return self._images(flat)

    def _images(self, flat: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
        return {c.key: image(flat[c.key], c.key) for c in self.cameras if flat.get(c.key) is not None}

    def apply_state(self, state: ArrayLike) -> NDArray[np.float64]:
        """Takes recorded states [..., S] to the model's frame: signs, then grippers."""
        values = floats(state, f"{self.name}: state: expected numbers [..., {self.state_dim}]")
        if not values.ndim or values.shape[-1] != self.state_dim:
            raise InputError(f"{self.name}: state has shape {values.shape}, expected [..., {self.state_dim}]")
        return self._to_model(values, "state")

    def apply_actions(self, actions: ArrayLike) -> NDArray[np.float64]:
        """Takes recorded actions [..., D] to the model's frame, as training needs them."""
        return self._to_model(self._actions(actions, exact=True), "action")

    def invert_actions(self, actions: ArrayLike) -> NDArray[np.float64]:
        """Brings a model's actions [..., W], W at least D, back to the robot's units [..., D]."""
        actions = self._actions(actions, exact=False)
        if self.signs:
            actions *= np.asarray(self.signs, np.float64)
        for dim, gripper in self.grippers.items():
            actions[..., dim] = gripper.invert_action(actions[..., dim])
        return actions

    def _to_model(self, values: NDArray[np.float64], direction: str) -> NDArray[np.float64]:
        values = values.copy()
        if self.signs:
            values *= np.asarray(self.signs, np.float64)
        for dim, gripper in self.grippers.items():
            values[..., dim] = getattr(gripper, direction)(values[..., dim])
        return values

    def _actions(self, actions: ArrayLike, *, exact: bool) -> NDArray[np.float64]:
        values = floats(
            actions, f"{self.name}: {self.actions_key}: expected numbers [..., {self.action_dim}]"
        )
        width = values.shape[-1] if values.ndim else 0
        if width < self.action_dim or (exact and width != self.action_dim):
            raise InputError(
                f"{self.name}: {self.actions_key} has shape {values.shape}, expected [..., {self.action_dim}]"
            )
        return values[..., : self.action_dim].copy()

    def _finite(self, actions: ArrayLike) -> NDArray[np.float64]:
        values = self._actions(actions, exact=True)
        if not np.isfinite(values).all():
            at = np.argwhere(~np.isfinite(values))[0]
            raise InputError(
                f"{self.name}: {self.actions_key} has {values[tuple(at)]} at {at.tolist()}, joint "
                f"{self.joint(int(at[-1]))}"
            )
        return values

    def _check_keys(self, flat: Mapping[str, Any], needed: Sequence[str]) -> None:
        allowed = {
            *(part.key for part in self.state),
            *(c.key for c in self.cameras),
            *self.ignored_keys,
            self.prompt_key,
            self.actions_key,
        }
        if missing := [key for key in needed if flat.get(key) is None]:
            raise InputError(f"{self.name}: the observation lacks {missing[0]!r}; it has {sorted(flat)}")
        if unknown := [key for key in flat if key not in allowed]:
            said = f"{self.name}: unknown observation key {unknown[0]!r}; expected {sorted(allowed)}"
            if unknown[0] in ("task", "prompt"):
                said += f"; the instruction goes by {self.prompt_key!r} here, as the robot's prompt_key says"
            raise InputError(said)

    @property
    def plain(self) -> bool:
        """Returns whether its numbers are the model's as they are: no signs, no grippers."""
        return not self.grippers and all(sign == 1 for sign in self.signs)

    def to_mapping(self) -> dict[str, Any]:
        """Returns plain values that `from_mapping` reads back to an equal robot, for JSON or YAML."""
        return spec_mapping(self)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RobotSpec:
        """Makes a robot from plain values, as YAML or JSON holds them.

        Cameras are `{slot: {key: ..., required: ...}}` or `{slot: key}`, the state is `{key: size}`,
        `delta_mask` is run lengths as `make_mask` takes them (`[6, -1]`; `[]` for absolute actions), `signs`
        a list. `grippers` is
        `{dimension: "aloha"}` or `{dimension: {measured: [a, b], commanded: [c, d]}}` with `LinearGripper`'s
        numbers.

        Raises:
            FormatError: A field is missing, unknown, or of another type, or the layout can't be right.
        """
        arguments = spec_arguments(mapping)
        try:
            return cls(**arguments)
        except InputError as error:
            raise FormatError(f"robot: {error}") from error

    @classmethod
    def from_yaml(cls, path: str | Path) -> RobotSpec:
        """Reads a YAML file (needs PyYAML); see `from_mapping` for its fields.

        Raises:
            FormatError: As `from_mapping`, or it is no YAML, or a key stands twice; names the file.
        """
        mapping = read_yaml(path)
        try:
            return cls.from_mapping(mapping)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error
