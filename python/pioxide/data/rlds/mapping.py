"""Which of an RLDS dataset's features are state, action, cameras and instruction: said, never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pioxide.data.rlds.layout import Leaf, RldsDirectory
from pioxide.errors import InputError

PICTURES = "observation.images."
# Says of a dataset that its pictures lie in records, and where.
RLDS = "meta/rlds.json"
JOINTS = tuple(f"joint_{i}" for i in range(7))


@dataclass(frozen=True)
class RldsMapping:
    """What a dataset's features mean. Keys are those of a step, with "/" between levels.

    Attributes:
        state: Numbers that make up the state, side by side.
        action: Numbers that make up an action.
        cameras: By the camera's name, one picture, or several of which each episode has one, drawn evenly.
        instructions: Texts; each frame has one of its own that are not empty, drawn evenly.
        fps: Steps a second, which no RLDS dataset says.
        robot_type: What the robot is called.
        state_names: Of the state's numbers; () for names made of the keys.
        action_names: Of an action's numbers, likewise.
    """

    state: tuple[str, ...]
    action: tuple[str, ...]
    cameras: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    instructions: tuple[str, ...] = ("language_instruction",)
    fps: float = 0.0
    robot_type: str = "unknown"
    state_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()

    def checked(self, directory: RldsDirectory) -> CheckedMapping:
        """Returns the mapping with what the dataset says of each feature.

        Raises:
            InputError: A key is not there, or is of another kind; lists those that are.
        """
        if not 0 < self.fps < float("inf"):
            raise InputError("an RLDS dataset does not say its rate: give the steps a second (--fps)")
        for what, keys in (("state", self.state), ("action", self.action)):
            if not keys:
                raise InputError(f"which numbers are the {what}? {shown(directory, 'number')}")
        state, action = (_found(directory, keys, "number") for keys in (self.state, self.action))
        for key, leaf in {**state, **action}.items():
            if min(leaf.shape, default=1) < 1:
                raise InputError(f"{key} varies in shape, which no state and no action may: {leaf}")
        pictures: dict[str, dict[str, Leaf]] = {}
        for name, keys in self.cameras.items():
            if not re.fullmatch(r"[\w.-]+", name):
                raise InputError(f"camera {name!r}: a name is of letters, digits, dots, dashes")
            pictures[name] = _found(directory, keys, "image")
            shapes = {leaf.shape for leaf in pictures[name].values()}
            if len(shapes) > 1 or any(leaf.dtype != "uint8" for leaf in pictures[name].values()):
                raise InputError(f"camera {name!r}: expected pictures of one shape of uint8, got {shapes}")
        texts = _found(directory, self.instructions, "text")
        names = [
            _names(own, leaves) for own, leaves in ((self.state_names, state), (self.action_names, action))
        ]
        return CheckedMapping(self, state, action, pictures, tuple(texts), *names)


@dataclass(frozen=True)
class CheckedMapping:
    """A mapping beside what a dataset says of its features; keys as in `RldsMapping`.

    Attributes:
        mapping: As said.
        state: What each is.
        action: Likewise.
        cameras: Likewise, by the camera's name.
        instructions: Keys of texts.
        state_names: A name a number.
        action_names: Likewise.
    """

    mapping: RldsMapping
    state: dict[str, Leaf]
    action: dict[str, Leaf]
    cameras: dict[str, dict[str, Leaf]]
    instructions: tuple[str, ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]


def _droid(action: str) -> RldsMapping:
    return RldsMapping(
        state=("observation/joint_position", "observation/gripper_position"),
        action=(f"action_dict/{action}", "action_dict/gripper_position"),
        cameras={
            "exterior_image_1_left": (
                "observation/exterior_image_1_left",
                "observation/exterior_image_2_left",
            ),
            "wrist_image_left": ("observation/wrist_image_left",),
        },
        instructions=("language_instruction", "language_instruction_2", "language_instruction_3"),
        fps=15.0,
        robot_type="droid" if action == "joint_velocity" else "droid-jointpos",
        state_names=(*JOINTS, "gripper"),
        action_names=(*JOINTS, "gripper"),
    )


# As openpi's recipes read DROID 1.0.1: an exterior camera of two, an instruction of three.
MAPPINGS = {"droid": _droid("joint_velocity"), "droid-jointpos": _droid("joint_position")}


def all_cameras(directory: RldsDirectory) -> dict[str, tuple[str, ...]]:
    """Returns every colour picture of 8 bits, by the last part of its key.

    Raises:
        InputError: Two would have one name.
    """
    found: dict[str, tuple[str, ...]] = {}
    for key, leaf in directory.keys("image").items():
        name = key.rsplit("/", 1)[-1]
        if leaf.dtype != "uint8" or leaf.shape[-1:] != (3,):
            continue
        if name in found:
            raise InputError(f"{found[name][0]} and {key} end alike: name the cameras (--camera NAME=KEY)")
        found[name] = (key,)
    return found


def shown(directory: RldsDirectory, kind: str) -> str:
    """Returns which features of a kind there are, for a message."""
    there = ", ".join(
        f"{key} {list(leaf.shape) or ''}".rstrip() for key, leaf in directory.keys(kind).items()
    )
    return f"{directory.name} has {kind}s {there}" if there else f"{directory.name} has no {kind}s"


def _found(directory: RldsDirectory, keys: Sequence[str], kind: str) -> dict[str, Leaf]:
    there = directory.keys()
    for key in keys:
        if key not in there:
            raise InputError(f"no {kind} {key!r}: {shown(directory, kind)}")
        if there[key].kind != kind:
            raise InputError(f"{key} is a {there[key]}, expected a {kind}: {shown(directory, kind)}")
    return {key: there[key] for key in keys}


def _names(own: tuple[str, ...], leaves: dict[str, Leaf]) -> tuple[str, ...]:
    made: list[str] = []
    for key, leaf in leaves.items():
        last = key.rsplit("/", 1)[-1]
        made += [last] if leaf.dim == 1 else [f"{last}_{i}" for i in range(leaf.dim)]
    if own and len(own) != len(made):
        raise InputError(f"{len(own)} names for {len(made)} numbers of {', '.join(leaves)}")
    return own or tuple(made)
