"""JSON files beside tensors: read with a checkpoint's errors, and told apart by what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard, cast

from pioxide.errors import CheckpointError, FormatError
from pioxide.files import read_json


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Returns whether a JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Returns whether a JSON value is a list."""
    return isinstance(value, list)


def is_text_by_text(value: object) -> TypeGuard[dict[str, str]]:
    """Returns whether a JSON value is an object of texts."""
    return is_object(value) and all(isinstance(one, str) for one in value.values())


def are_texts(value: object) -> TypeGuard[Sequence[str]]:
    """Returns whether a value is a list or tuple of texts."""
    if not isinstance(value, list | tuple):
        return False
    return all(isinstance(one, str) for one in cast("Sequence[object]", value))


def read_document(file: Path) -> Any:
    """Returns what a JSON file holds.

    Raises:
        CheckpointError: It is not there, or no JSON.
    """
    try:
        return read_json(file)
    except FormatError as error:
        raise CheckpointError(str(error)) from error


def read_object(file: Path) -> dict[str, Any]:
    """Returns the object that a JSON file holds; {} where there is no such file, or something else in it.

    Raises:
        CheckpointError: It is no JSON.
    """
    value = read_document(file) if file.is_file() else None
    return value if is_object(value) else {}
