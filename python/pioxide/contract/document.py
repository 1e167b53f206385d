"""A contract as one JSON document: versioned, floats exact, unknown fields listed by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pioxide.contract.contract import (
    FIELDS,
    UNKNOWN,
    CameraSlot,
    CodecVocabulary,
    Contract,
    FastVocabulary,
    Memory,
)
from pioxide.errors import FormatError, InputError, PioxideError
from pioxide.robots import RobotSpec
from pioxide.transforms import NormRule, Stats, make_mask
from pioxide.transforms.actions import mask_runs
from pioxide.transforms.stats import FIELDS as STATISTICS

VERSION = 1
# Fields that files of this version may lack, because pioxide did not know them at first: unknown there.
_ADDED = ("answer_gap", "subtask_style", "advantage_style")
# And those that say what older models did not have: none there.
_ADDED_NONE = ("memory",)
# What reading a field raises where it is another thing; a whole number may be too large for a float.
_UNREADABLE = (PioxideError, TypeError, ValueError, KeyError, AttributeError, OverflowError)


def to_json(contract: Contract) -> dict[str, Any]:
    """Returns a contract as plain JSON values, which `from_json` reads back to an equal one."""
    stated = {name: _plain(getattr(contract, name)) for name in FIELDS if name not in contract.unknown}
    return {"version": VERSION, "source": contract.source, **stated, "unknown": list(contract.unknown)}


def from_json(value: Any, where: str = "contract") -> Contract:
    """Reads what `to_json` made.

    Args:
        value: The document.
        where: What errors call it.

    Raises:
        FormatError: Another version, a field that is missing, unknown to this pioxide, or of another type.
    """
    if not isinstance(value, Mapping):
        raise FormatError(f"{where}: expected an object, got {type(value).__name__}")
    document = dict(cast("Mapping[str, Any]", value))
    version: Any = document.get("version")
    if type(version) is not int or version != VERSION:  # true and 1.0 are equal to 1
        raise FormatError(f"{where}: version {version!r}, this pioxide reads {VERSION}")
    listed: Any = document.get("unknown")
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in cast("list[Any]", listed)):
        raise FormatError(f'{where}: "unknown" must list the fields that nobody stated')
    unknown = cast("list[str]", listed)
    unknown = [*unknown, *(name for name in _ADDED if name not in document and name not in unknown)]
    document = {name: None for name in _ADDED_NONE if name not in unknown} | document
    if foreign := sorted({*document, *unknown} - {*FIELDS, "version", "source", "unknown"}, key=str):
        raise FormatError(f"{where}: this pioxide knows no field {foreign[0]!r}; a newer one wrote it")
    said: dict[str, Any] = {}
    for name in FIELDS:
        if (name in document) == (name in unknown):
            raise FormatError(f'{where}: field {name!r} must be stated, or listed under "unknown"; not both')
        if name in document:
            try:
                said[name] = _READ.get(name, _any)(document[name])
            except _UNREADABLE as error:
                raise FormatError(f"{where}: {name}: {error}") from error
    source: Any = document.get("source", "")
    if not isinstance(source, str):
        raise FormatError(f"{where}: source: expected a text, got {source!r}")
    try:
        return Contract(**said, source=source)
    except InputError as error:
        raise FormatError(f"{where}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, RobotSpec):
        return value.to_mapping()
    if isinstance(value, Stats):
        present = {name: getattr(value, name) for name in STATISTICS}
        return {name: vector.tolist() for name, vector in present.items() if vector is not None}
    if isinstance(value, CameraSlot):
        plain: dict[str, Any] = {"slot": value.slot, "required": value.required}
        return plain if value.key is UNKNOWN else {**plain, "key": value.key}
    if isinstance(value, NormRule):
        return {"mode": str(value.mode), "arithmetic": str(value.arithmetic), "epsilon": value.epsilon}
    if isinstance(value, FastVocabulary | CodecVocabulary | Memory):
        return asdict(value)
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, tuple):
        several = cast("tuple[Any, ...]", value)
        if all(isinstance(one, bool) for one in several):
            return list(mask_runs(several))
        return [_plain(one) for one in several]
    return value


def _any(value: Any) -> Any:
    return value


def _camera(value: Mapping[str, Any]) -> CameraSlot:
    if unknown := sorted({*value} - {"slot", "key", "required"}):
        raise TypeError(f"unknown field {unknown[0]!r}; expected slot, key and required")
    key: Any = value.get("key", UNKNOWN)
    if not isinstance(value["slot"], str) or not isinstance(value["required"], bool):
        raise TypeError(f"expected a slot's name and whether it is required, got {dict(value)!r}")
    if not (key is UNKNOWN or key is None or isinstance(key, str)):
        raise TypeError(f"expected a camera's key or null, got {key!r}")
    return CameraSlot(value["slot"], key, value["required"])


def _vocabulary(value: Mapping[str, Any]) -> FastVocabulary | CodecVocabulary:
    """A FAST vocabulary, or where it names its codec, that codec's; an older pioxide refuses that name."""
    return CodecVocabulary(**value) if "codec" in value else FastVocabulary(**value)


def _memory(value: Mapping[str, Any]) -> Memory:
    if {*value} != {"frames", "stride", "every"}:
        raise TypeError(f"expected frames, stride and every, got {sorted(value)}")
    return Memory(**value)


def _rule(value: Mapping[str, Any]) -> NormRule:
    if isinstance(value.get("epsilon"), bool):
        raise TypeError(f"epsilon: expected a number, got {value['epsilon']!r}")
    return NormRule(**value)


def _stats(value: Mapping[str, Any]) -> dict[str, Stats]:
    return {
        key: Stats(**{name: _vector(name, vector) for name, vector in vectors.items()})
        for key, vectors in value.items()
    }


def _vector(name: str, value: Any) -> NDArray[np.float64] | None:
    if value is None:
        return None
    numbers = _list(value)
    if wrong := [one for one in numbers if isinstance(one, bool) or not isinstance(one, int | float)]:
        raise TypeError(f"{name}: expected numbers, got {wrong[0]!r}")
    return np.asarray([float(one) for one in numbers])  # a whole number may have more than 64 bits


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {value!r}")
    return cast("list[Any]", value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    return value


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value


_READ: dict[str, Callable[[Any], Any]] = {
    "robot": RobotSpec.from_mapping,
    "cameras": lambda value: tuple(_camera(one) for one in _list(value)),
    "delta_mask": lambda value: make_mask(*_list(value)),
    "state_norm": _rule,
    "action_norm": _rule,
    "norm_stats": _stats,
    "state_in_text": _flag,
    "default_prompt": _text,
    "fast": lambda value: None if value is None else _vocabulary(value),
    "memory": lambda value: None if value is None else _memory(value),
}
