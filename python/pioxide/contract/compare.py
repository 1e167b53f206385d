"""Two contracts that meet: where they differ, in words, and what they say together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from pioxide.contract.contract import FIELDS, UNKNOWN, CameraSlot, CodecVocabulary, Contract, Memory
from pioxide.errors import ContractError
from pioxide.robots import RobotSpec
from pioxide.transforms import NormRule, Stats
from pioxide.transforms.actions import mask_runs
from pioxide.transforms.stats import FIELDS as STATISTICS

# Words in a joint's name that only some projects write.
_NOISE = {"k", "arm", "pos", "position", "joint", "main", "qpos"}


class Difference(NamedTuple):
    """One field in which two contracts disagree.

    Attributes:
        field: The contract's field.
        left: What the first says, in words.
        right: What the second says.
        detail: What is different about it, where the two texts do not show it; or empty.
    """

    field: str
    left: str
    right: str
    detail: str = ""


def differences(left: Contract, right: Contract) -> list[Difference]:
    """Returns the fields that both state, and state differently. An unknown field differs from nothing."""
    found: list[Difference] = []
    for name in FIELDS:
        one, two = getattr(left, name), getattr(right, name)
        if one is UNKNOWN or two is UNKNOWN:
            continue
        if name == "robot":
            found += robot_differences(one, two)
        elif name == "cameras":
            found += _camera_differences(one, two)
        elif name == "norm_stats":
            found += _stats_differences(one, two)
        elif one != two:
            found.append(Difference(name, describe(name, one), describe(name, two)))
    return found


def merge(left: Contract, right: Contract, *, names: tuple[str, str] | None = None) -> Contract:
    """Returns what two contracts say together: where one is silent, the other speaks.

    >>> checkpoint = Contract(family="pi0", delta_mask=(), source="the checkpoint")
    >>> merge(checkpoint, Contract(action_horizon=50)).action_horizon
    50
    >>> merge(checkpoint, Contract(delta_mask=(True,) * 5, source="the robot so101"))
    Traceback (most recent call last):
    pioxide.errors.ContractError: the checkpoint and the robot so101 disagree, so one's numbers would mean ...

    A slot whose camera the first leaves open takes the second's; a robot's names, units and rate likewise.

    Args:
        left: Its `source` is kept.
        right: The other.
        names: What messages call the two; by default their sources.

    Raises:
        ContractError: They disagree; shows both sides, field by field.
    """
    refuse_differences(left, right, names=names)
    said = {name: getattr(right, name) for name in FIELDS if getattr(left, name) is UNKNOWN}
    if left.robot is not UNKNOWN and right.robot is not UNKNOWN:
        said["robot"] = _merged_robot(left.robot, right.robot)
    if left.cameras is not UNKNOWN and right.cameras is not UNKNOWN:
        said["cameras"] = tuple(
            two if one.key is UNKNOWN else one for one, two in zip(left.cameras, right.cameras, strict=True)
        )
    return replace(left, **said)


def refuse_differences(
    left: Contract, right: Contract, *, names: tuple[str, str] | None = None, only: Iterable[str] = FIELDS
) -> None:
    """Refuses two contracts that disagree.

    Args:
        left: One.
        right: The other.
        names: What messages call the two; by default their sources.
        only: The fields that matter.

    Raises:
        ContractError: Shows both sides, field by field.
    """
    chosen = set(only)
    found = [d for d in differences(left, right) if d.field.split(".")[0] in chosen]
    if not found:
        return
    one, two = names or (left.source or "the one", right.source or "the other")
    lines = [
        f"  {d.field}: {one} has {d.left}, {two} has {d.right}" + (f" ({d.detail})" if d.detail else "")
        for d in found
    ]
    error = ContractError(
        f"{one} and {two} disagree, so one's numbers would mean something else to the other:\n"
        + "\n".join(lines)
    )
    error.fields = tuple(dict.fromkeys(d.field.split(".")[0] for d in found))
    raise error


def robot_differences(left: RobotSpec, right: RobotSpec) -> list[Difference]:
    """Returns where two robots' numbers mean different things; absent names differ from nothing."""
    found = [
        Difference(f"robot.{what}", str(one), str(two))
        for what, one, two in (
            ("state_dim", left.state_dim, right.state_dim),
            ("action_dim", left.action_dim, right.action_dim),
        )
        if one != two
    ]
    if found:
        return found
    for what in ("joint_names", "state_names"):
        one, two = getattr(left, what), getattr(right, what)
        if moved := moved_names(one, two):
            shown = "; ".join(f"{name} is {i} there and {j} here" for name, i, j in moved[:4])
            found.append(Difference(f"robot.{what}", ", ".join(one), ", ".join(two), shown))
    signs = [sign or (1,) * left.action_dim for sign in (left.signs, right.signs)]
    if signs[0] != signs[1]:
        found.append(Difference("robot.signs", _signs(signs[0]), _signs(signs[1])))
    if dict(left.grippers) != dict(right.grippers):
        found.append(Difference("robot.grippers", _grippers(left), _grippers(right)))
    if left.joint_units and right.joint_units and left.joint_units != right.joint_units:
        found.append(
            Difference("robot.joint_units", ", ".join(left.joint_units), ", ".join(right.joint_units))
        )
    if left.hz is not None and right.hz is not None and left.hz != right.hz:
        found.append(Difference("robot.hz", f"{left.hz:g} Hz", f"{right.hz:g} Hz"))
    return found


def moved_names(left: tuple[str, ...], right: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Returns the names that stand at one place on the left and at another on the right.

    Names are compared by their words: "kLeftElbow", "left_elbow.pos" and "left_arm_elbow" are one joint.
    """
    words = [[_words(name) for name in names] for names in (left, right)]
    moved: list[tuple[str, int, int]] = []
    for i, one in enumerate(words[0]):
        here = [j for j, two in enumerate(words[1]) if one and one == two]
        if here and i not in here:
            moved.append((left[i], i, here[0]))
    return moved


def _words(name: str) -> tuple[str, ...]:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    found = [word for word in re.split(r"[^A-Za-z0-9]+", apart.lower()) if word]
    return tuple(word for word in found if word not in _NOISE) or tuple(found)


def _merged_robot(left: RobotSpec, right: RobotSpec) -> RobotSpec:
    """The right one, which is the user's, with what only the left one knows."""
    names = ("joint_names", "state_names", "joint_units")
    said: dict[str, Any] = {n: getattr(left, n) for n in names if not getattr(right, n)}
    if right.hz is None:
        said["hz"] = left.hz
    return replace(right, **said)


def _camera_differences(left: tuple[CameraSlot, ...], right: tuple[CameraSlot, ...]) -> list[Difference]:
    same_slots = [c.slot for c in left] == [c.slot for c in right]
    clash = [
        (one, two)
        for one, two in zip(left, right, strict=False)
        if UNKNOWN not in (one.key, two.key) and one.key != two.key
    ]
    if same_slots and not clash:
        return []
    return [Difference("cameras", describe("cameras", left), describe("cameras", right))]


def _stats_differences(left: Mapping[str, Stats], right: Mapping[str, Stats]) -> list[Difference]:
    found: list[Difference] = []
    for key in sorted(left.keys() & right.keys()):
        one, two = left[key], right[key]
        if one.dim != two.dim:
            found.append(Difference(f"norm_stats.{key}", f"{one.dim} numbers", f"{two.dim} numbers"))
            continue
        for name in STATISTICS:
            a, b = getattr(one, name), getattr(two, name)
            if a is not None and b is not None and not np.array_equal(a, b):
                at = int(np.argmax(a != b))
                found.append(
                    Difference(
                        f"norm_stats.{key}.{name}", f"{a[at]:.6g}", f"{b[at]:.6g}", f"at dimension {at}"
                    )
                )
                break
    return found


def describe(name: str, value: Any) -> str:
    """Returns a field's value in words."""
    if value is UNKNOWN:
        return "unknown"
    if name == "delta_mask":
        runs = ", ".join(map(str, mask_runs(value)))
        return f"actions relative by mask {runs}" if value else "absolute actions"
    if name == "cameras":
        return "; ".join(f"{c.slot}: {_source(c)}" for c in value) or "none"
    if name == "robot":
        return f"{value.name}, {value.state_dim} state and {value.action_dim} action numbers"
    if name == "norm_stats":
        return ", ".join(f"{key} of {stats.dim}" for key, stats in value.items()) or "none"
    if name == "fast":
        if value is None:
            return "none"
        codec = f"{value.codec} of " if isinstance(value, CodecVocabulary) else ""
        return f"{codec}{value.vocab_size} tokens ({value.sha256[:12]}), {_fitted(value)}"
    if isinstance(value, Memory):
        layers = f"{value.every} layers" if value.every > 1 else "layer"
        return f"{value.frames} frames, {value.stride:g} s apart, mixed over time every {layers}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, NormRule):
        return str(value)
    return "none" if value is None else repr(str(value)) if name == "default_prompt" else str(value)


def _source(camera: CameraSlot) -> str:
    if camera.key is UNKNOWN:
        return "unknown"
    return "empty" if camera.key is None else str(camera.key)


def _fitted(fast: Any) -> str:
    if fast.horizon is None and fast.action_dim is None:
        return "for any chunk"
    return f"for chunks {fast.horizon or 'any'} x {fast.action_dim or 'any'}"


def _signs(signs: tuple[int, ...]) -> str:
    turned = [str(i) for i, sign in enumerate(signs) if sign == -1]
    return f"joints {', '.join(turned)} turned round" if turned else "no joint turned round"


def _grippers(robot: RobotSpec) -> str:
    return (
        ", ".join(f"{dim}: {gripper}" for dim, gripper in sorted(robot.grippers.items())) or "no gripper map"
    )
