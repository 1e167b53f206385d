"""What a robot is to a model: cameras, layout of state and actions, grippers, and the way back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.errors import FormatError, InputError
from pioxide.transforms import DeltaActions, make_mask

MODEL_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")


class Gripper(Protocol):
    """How one gripper's numbers map to those the model was trained on."""

    def state(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The robot's measured value to the model's."""
        ...

    def action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The robot's commanded value to the model's, as training does."""
        ...

    def invert_action(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The model's value to the robot's command."""
        ...


@dataclass(frozen=True)
class Camera:
    """One camera of the robot.

    Attributes:
        key: Where an observation holds it, levels joined by "/": "images/cam_high".
        slot: The model's name for the view it was trained on.
        required: Whether an observation without it is an error. An absent camera that is not required is not
            encoded at all, which gives what a masked black image gives.
    """

    key: str
    slot: str
    required: bool = True


@dataclass(frozen=True)
class StatePart:
    """Some consecutive numbers of the state: where an observation holds them, and how many they are."""

    key: str
    size: int


class RobotInput(NamedTuple):
    """One moment in the model's frame, before normalisation.

    Attributes:
        images: [h, w, 3] uint8 by the model's camera name; absent cameras are not there.
        state: [S] float64 in the units the model was trained on.
        prompt: The instruction, None where the observation has none.
        actions: [H, D] float64 in those units, only in training.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float64]
    prompt: str | None
    actions: NDArray[np.float64] | None


@dataclass(frozen=True)
class RobotSpec:
    """A robot, declared. `apply` leads to the model's frame, `invert_actions` back.

    Attributes:
        name: What error messages call it.
        cameras: Its cameras, in no particular order.
        state: Parts of the state, concatenated in this order.
        action_dim: Numbers in one action, D.
        hz: Actions a second.
        prompt_key: Where an observation holds the instruction.
        actions_key: Where a training example holds its action chunk [H, D].
        signs: [D] factors 1 or -1 for joints that turn the other way, applied to state and actions; empty for
            none.
        grippers: Gripper maps by dimension, applied after `signs`.
        delta_mask: True where actions are relative to the state at the chunk's start; empty for absolute
            actions.
        joint_names: [D] names for messages and plots; empty for numbers.
        ignored_keys: Observation keys that may be there and are not read.
    """

    name: str
    cameras: tuple[Camera, ...]
    state: tuple[StatePart, ...]
    action_dim: int
    hz: float = 50.0
    prompt_key: str = "prompt"
    actions_key: str = "actions"
    signs: tuple[int, ...] = ()
    grippers: Mapping[int, Gripper] = field(default_factory=dict)
    delta_mask: tuple[bool, ...] = ()
    joint_names: tuple[str, ...] = ()
    ignored_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a layout that can't be right.

        Raises:
            InputError: Sizes disagree, a camera or a slot stands twice, a sign is not 1 or -1.
        """
        if self.action_dim < 1 or any(part.size < 1 for part in self.state):
            raise InputError(f"{self.name}: an action and each part of the state need at least one number")
        for what in ("key", "slot"):
            names = [getattr(camera, what) for camera in self.cameras]
            if twice := {name for name in names if names.count(name) > 1}:
                raise InputError(f"{self.name}: camera {what} {sorted(twice)[0]!r} stands twice")
        if self.signs and (len(self.signs) != self.action_dim or set(self.signs) - {1, -1}):
            raise InputError(f"{self.name}: signs must be {self.action_dim} numbers, each 1 or -1")
        if self.signs and self.state_dim != self.action_dim:
            raise InputError(f"{self.name}: signs need a state as wide as an action")
        for what, size in (("delta_mask", len(self.delta_mask)), ("joint_names", len(self.joint_names))):
            if size > self.action_dim:
                raise InputError(f"{self.name}: {what} has {size} entries for {self.action_dim} dimensions")
        if bad := [dim for dim in self.grippers if not 0 <= dim < min(self.action_dim, self.state_dim)]:
            raise InputError(f"{self.name}: there is no gripper dimension {bad[0]}")

    @property
    def state_dim(self) -> int:
        """Numbers in the state, S."""
        return sum(part.size for part in self.state)

    @property
    def delta(self) -> DeltaActions | None:
        """The step that makes actions relative and absolute again, None where they are absolute already."""
        return DeltaActions(self.delta_mask) if any(self.delta_mask) else None

    def joint(self, dim: int) -> str:
        """What to call dimension `dim` in a message."""
        return f"{dim} ({self.joint_names[dim]})" if dim < len(self.joint_names) else str(dim)

    def apply(self, observation: Mapping[str, Any]) -> RobotInput:
        """Takes an observation, flat ("observation/image") or nested, to the model's frame.

        Images may be [h, w, 3] or [3, h, w], uint8, or float in [0, 1].

        Raises:
            InputError: A key is missing or unknown, or its value has a wrong shape, dtype, range, or is no
                number.
        """
        flat = flatten(observation)
        self._check_keys(flat)
        images = {c.slot: image(flat[c.key], c.key) for c in self.cameras if flat.get(c.key) is not None}
        state = np.concatenate([numbers(flat[p.key], p.key, p.size) for p in self.state])
        actions = flat.get(self.actions_key)
        return RobotInput(
            images,
            self._to_model(state, "state"),
            _text(flat.get(self.prompt_key), self.prompt_key),
            None if actions is None else self.apply_actions(actions),
        )

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
        values = np.array(actions, np.float64)
        width = values.shape[-1] if values.ndim else 0
        if width < self.action_dim or (exact and width != self.action_dim):
            raise InputError(
                f"{self.name}: actions have shape {values.shape}, expected [..., {self.action_dim}]"
            )
        return values[..., : self.action_dim].copy()

    def _check_keys(self, flat: Mapping[str, Any]) -> None:
        needed = [c.key for c in self.cameras if c.required] + [part.key for part in self.state]
        allowed = {
            *needed,
            *(c.key for c in self.cameras),
            *self.ignored_keys,
            self.prompt_key,
            self.actions_key,
        }
        if missing := [key for key in needed if flat.get(key) is None]:
            raise InputError(f"{self.name}: the observation lacks {missing[0]!r}; it has {sorted(flat)}")
        if unknown := [key for key in flat if key not in allowed]:
            raise InputError(
                f"{self.name}: unknown observation key {unknown[0]!r}; expected {sorted(allowed)}"
            )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RobotSpec:
        """Makes a robot from plain values, as YAML or JSON holds them.

        Cameras are `{slot: {key: ..., required: ...}}` or `{slot: key}`, the state is `{key: size}`,
        `delta_mask` is run lengths as `make_mask` takes them (`[6, -1]`), `signs` a list.

        Raises:
            FormatError: A field is missing, unknown, or of another type.
        """
        known = {f.name for f in dataclasses.fields(cls)} - {"grippers"}
        if unknown := sorted(set(mapping) - known):
            raise FormatError(f"robot: unknown field {unknown[0]!r}; expected some of {sorted(known)}")
        values = dict(mapping)
        try:
            values["cameras"] = tuple(
                Camera(slot=slot, **(given if isinstance(given, Mapping) else {"key": given}))
                for slot, given in mapping["cameras"].items()
            )
            values["state"] = tuple(StatePart(key, int(size)) for key, size in mapping["state"].items())
            values["delta_mask"] = make_mask(*mapping.get("delta_mask", ()))
            for name in ("signs", "joint_names", "ignored_keys"):
                values[name] = tuple(mapping.get(name, ()))
            return cls(**values)
        except KeyError as error:
            raise FormatError(f"robot: field {error.args[0]!r} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"robot: {error}") from error

    @classmethod
    def from_yaml(cls, path: str | Path) -> RobotSpec:
        """Reads a YAML file (needs PyYAML); see `from_mapping` for its fields."""
        try:
            import yaml
        except ImportError:
            raise FormatError("reading a robot from YAML needs PyYAML: pip install pyyaml") from None
        try:
            mapping = yaml.safe_load(Path(path).read_text())
        except (OSError, yaml.YAMLError) as error:
            raise FormatError(f"{path}: {error}") from None
        if not isinstance(mapping, Mapping):
            raise FormatError(f"{path}: expected a mapping of fields")
        return cls.from_mapping(mapping)


def flatten(observation: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested observation with its levels joined by "/"; a flat one is as it was.

    Raises:
        InputError: A key is no text, or two paths join to the same one.
    """
    flat: dict[str, Any] = {}
    for key, value in observation.items():
        if isinstance(key, bytes):
            key = key.decode()
        if not isinstance(key, str):
            raise InputError(f"observation: {key!r} is no text, and every key must be")
        inner = flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {prefix + key: value}
        if both := flat.keys() & inner.keys():
            raise InputError(f"observation: {sorted(both)[0]!r} stands twice, nested and flat")
        flat.update(inner)
    return flat


def image(value: Any, key: str) -> NDArray[np.uint8]:
    """An image as [h, w, 3] uint8, from either memory layout and from floats in [0, 1].

    Raises:
        InputError: Another shape or dtype, floats outside [0, 1], or NaN.
    """
    array = np.asarray(value)
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[-1]) or 0 in array.shape:
        raise InputError(f"{key}: expected an image [h, w, 3] or [3, h, w], got shape {array.shape}")
    if array.dtype == np.float32 or array.dtype == np.float64:
        low, high = float(array.min()), float(array.max())
        if not (low >= 0.0 and high <= 1.0):
            raise InputError(f"{key}: a float image must lie in [0, 1], this one spans [{low:g}, {high:g}]")
        # Truncated, not rounded, as openpi's client does.
        array = (array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(f"{key}: expected uint8, or float in [0, 1], got dtype {array.dtype}")
    return array if array.shape[-1] == 3 else np.moveaxis(array, 0, -1)


def numbers(value: Any, key: str, size: int) -> NDArray[np.float64]:
    """`size` finite numbers as [size] float64; a scalar counts as one.

    Raises:
        InputError: Another count, no numbers, or NaN or infinity; names the index.
    """
    try:
        array = np.atleast_1d(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        raise InputError(f"{key}: expected {size} numbers, got {type(value).__name__}") from None
    if array.shape != (size,):
        raise InputError(f"{key}: expected {size} numbers, got shape {np.shape(value)}")
    if not np.isfinite(array).all():
        at = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(f"{key}[{at}] is {array[at]}, not a finite number")
    return array


def _text(value: Any, key: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, np.ndarray | np.generic):
        value = value.item() if value.size == 1 else value
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise InputError(f"{key}: expected a text, got {type(value).__name__}")
    return value
