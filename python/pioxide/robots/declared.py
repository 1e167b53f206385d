"""A robot declared in plain values, as YAML and JSON hold them: the arguments of a `RobotSpec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pioxide.errors import FormatError, InputError
from pioxide.robots.parts import AlohaGripper, Camera, Gripper, LinearGripper, StatePart
from pioxide.transforms.actions import make_mask, mask_runs

REQUIRED = ("name", "cameras", "state", "action_dim")


def spec_arguments(mapping: Any) -> dict[str, Any]:
    """Returns the fields of `RobotSpec.from_mapping`, each checked and made what `RobotSpec` takes.

    Raises:
        FormatError: A field is missing, unknown, or of another type; names it.
    """
    if not isinstance(mapping, Mapping):
        raise FormatError(f"robot: expected a mapping of fields, got {type(mapping).__name__}")
    fields = cast("Mapping[str, Any]", mapping)
    _known("robot", fields, *_READ, required=REQUIRED)
    return {name: _READ[name](name, value) for name, value in fields.items()}


def spec_mapping(spec: Any) -> dict[str, Any]:
    """Returns plain values of a `RobotSpec` that `spec_arguments` reads back; empty fields are left out."""
    mapping: dict[str, Any] = {
        "name": spec.name,
        "cameras": {c.slot: {"key": c.key, "required": c.required} for c in spec.cameras},
        "state": {part.key: part.size for part in spec.state},
        "action_dim": spec.action_dim,
        "hz": spec.hz,
        "prompt_key": spec.prompt_key,
        "actions_key": spec.actions_key,
    }
    for name in ("signs", "joint_names", "state_names", "joint_units", "ignored_keys"):
        if value := getattr(spec, name):
            mapping[name] = list(value)
    if spec.grippers:
        mapping["grippers"] = {str(dim): _gripper_value(gripper) for dim, gripper in spec.grippers.items()}
    if spec.delta_mask is not None:
        mapping["delta_mask"] = list(mask_runs(spec.delta_mask))
    return mapping


def _gripper_value(gripper: Gripper) -> Any:
    if isinstance(gripper, AlohaGripper):
        return "aloha"
    if not isinstance(gripper, LinearGripper):
        raise FormatError(
            f"robot: a gripper of type {type(gripper).__name__} can't be written down; use LinearGripper"
        )
    ends = {"measured": gripper.measured, "commanded": gripper.commanded}
    return {name: list(value) for name, value in ends.items() if value is not None}


def read_yaml(path: str | Path) -> Mapping[str, Any]:
    """Reads a YAML file that holds a mapping, in which no key stands twice (needs PyYAML).

    Raises:
        FormatError: No such file, no YAML, another thing than a mapping, or a key stands twice.
    """
    try:
        import yaml
    except ImportError:
        raise FormatError('reading YAML needs PyYAML: pip install "pioxide[yaml]"') from None

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            # PyYAML keeps the last of two, and says nothing. A merged mapping ("<<") may be overridden.
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{twice[0]!r} stands twice", node.start_mark
                )
            return super().construct_mapping(node, deep)

    try:
        read = yaml.load(Path(path).read_bytes(), Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FormatError(f"{path}: {error}") from error
    if not isinstance(read, Mapping):
        raise FormatError(f"{path}: expected a mapping of fields")
    return cast("Mapping[str, Any]", read)


def _cameras(field: str, value: Any) -> tuple[Camera, ...]:
    return tuple(_camera(f"{field}.{slot}", slot, given) for slot, given in _mapping(field, value).items())


def _camera(field: str, slot: Any, given: Any) -> Camera:
    if isinstance(given, str):
        given = {"key": given}
    _known(
        f"robot: {field}", _mapping(field, given, "a key or a mapping"), "key", "required", required=("key",)
    )
    required = given.get("required", True)
    if not isinstance(required, bool):
        raise _wrong(f"{field}.required", "true or false", required)
    return Camera(_text(f"{field}.key", given["key"]), _text(field, slot), required)


def _state(field: str, value: Any) -> tuple[StatePart, ...]:
    parts = _mapping(field, value).items()
    return tuple(StatePart(_text(field, key), _whole(f"{field}.{key}", size)) for key, size in parts)


def _grippers(field: str, value: Any) -> dict[int, Gripper]:
    read: dict[int, Gripper] = {}
    for key, given in _mapping(field, value).items():
        # JSON has texts for keys only.
        named = int(key) if isinstance(key, str) and key.isascii() and key.isdecimal() else key
        dim = _whole(f"{field}: a dimension", named)
        if dim in read:
            raise FormatError(f"robot: {field}: dimension {dim} stands twice")
        read[dim] = _gripper(f"{field}.{dim}", given)
    return read


def _gripper(field: str, given: Any) -> Gripper:
    if given == "aloha":
        return AlohaGripper()
    expected = '"aloha" or a mapping with measured and commanded'
    given = _mapping(field, given, expected)
    _known(f"robot: {field}", given, "measured", "commanded", required=("measured",))
    ranges: dict[str, Any] = {
        name: tuple(float(_number(f"{field}.{name}", end)) for end in _list(f"{field}.{name}", ends))
        for name, ends in given.items()
    }
    try:
        return LinearGripper(**ranges)
    except InputError as error:
        raise FormatError(f"robot: {field}: {str(error).removeprefix('gripper: ')}") from error


def _mask(field: str, value: Any) -> tuple[bool, ...]:
    return make_mask(*_each(_whole)(field, value))


def _each(read: Callable[[str, Any], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    return lambda field, value: tuple(read(f"{field}[{i}]", one) for i, one in enumerate(_list(field, value)))


def _mapping(field: str, value: Any, expected: str = "a mapping") -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(field, expected, value)
    return cast("Mapping[Any, Any]", value)


def _list(field: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _wrong(field, "a list", value)
    return list(cast("list[Any]", value))


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(field, "a text", value)
    return value


def _text_or_none(field: str, value: Any) -> str:
    """A text that may be empty: a gripper has no unit."""
    if not isinstance(value, str):
        raise _wrong(field, "a text", value)
    return value


def _whole(field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(field, "a whole number", value)
    return value


def _number(field: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(field, "a number", value)
    try:
        float(value)
    except OverflowError as error:
        raise _wrong(field, "a number", value) from error
    return value


def _known(field: str, given: Mapping[Any, Any], *names: str, required: tuple[str, ...]) -> None:
    if unknown := [key for key in given if key not in names]:
        raise FormatError(f"{field}: unknown field {unknown[0]!r}; expected some of {sorted(names)}")
    if missing := [name for name in required if name not in given]:
        raise FormatError(f"{field}: field {missing[0]!r} is missing")


def _wrong(field: str, expected: str, got: Any) -> FormatError:
    return FormatError(f"robot: {field}: expected {expected}, got {got!r}")


_READ: dict[str, Callable[[str, Any], Any]] = {
    "name": _text,
    "cameras": _cameras,
    "state": _state,
    "action_dim": _whole,
    "hz": lambda field, value: None if value is None else _number(field, value),
    "prompt_key": _text,
    "actions_key": _text,
    "signs": _each(_whole),
    "grippers": _grippers,
    "delta_mask": _mask,
    "joint_names": _each(_text_or_none),
    "state_names": _each(_text_or_none),
    "joint_units": _each(_text_or_none),
    "ignored_keys": _each(_text),
}
