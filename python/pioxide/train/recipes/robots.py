"""`RobotData`: the datasets of one robot in a run, and the file by which a run has several robots."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pioxide.errors import FormatError, InputError
from pioxide.files import as_address, read_json
from pioxide.robots.declared import read_yaml

YAML, JSON = (".yaml", ".yml"), ".json"


@dataclass(frozen=True, kw_only=True)
class RobotData:
    """One robot's datasets, and what is its own in the run's contract.

    Attributes:
        name: What it is called, and by what it is chosen afterwards (--robot NAME); empty for the one robot
            of a run, which is called as the data says.
        datasets: Of this robot, mixed.
        weight: The share of rows from each of them, in relation to each other's and to those of the other
            robots; by default each has as many as it has frames.
        robot: Whose numbers: a preset's name or a YAML file; the dataset's own where it says so.
        fit: What `pioxide fit` made of its datasets; made in the run's directory where not given.
        statistics: Whose statistics normalise, in place of the datasets' own: a checkpoint, or what
            `pioxide fit` made of more of the robot's data.
        camera: Its camera for an image slot, where names do not tell; None for a slot that stays empty.
        episodes: Which episodes to use at all, as in 0:100,!17; of one dataset.
        where: Only episodes of which this is true; of one dataset.
        frames: Which frames to train on: a column of truth values, or of one dataset a file of spans (.json).
        prompt: The instruction where an observation has none.
    """

    name: str = ""
    datasets: tuple[str, ...]
    weight: tuple[float, ...] = ()
    robot: str = ""
    fit: str = ""
    statistics: str = ""
    camera: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    episodes: str = ""
    where: str = ""
    frames: str = ""
    prompt: str = ""

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: No dataset, another number of weights, or what is of one dataset for several; says of
                which robot.
        """
        of = f"{self.name}: " if self.name else "data."
        if not self.datasets:
            raise InputError(f"{of}datasets: name one")
        if self.weight and len(self.weight) != len(self.datasets):
            raise InputError(
                f"{of}weight: {len(self.weight)} for {len(self.datasets)} datasets: say one for each"
            )
        of_one = {"episodes": self.episodes, "where": self.where, "frames": self.frames.endswith(JSON)}
        for field_name, said in of_one.items():
            if said and len(self.datasets) > 1:
                raise InputError(f"{of}{field_name} is of one dataset, and there are {len(self.datasets)}")
        if self.name and self.fit and self.robot:
            raise InputError(f"{of}robot: {self.fit} says whose numbers these are; leave one of the two out")


def is_robots_file(path: Path) -> bool:
    """Returns whether a path in a dataset's place names a file of several robots."""
    return path.suffix.lower() in (*YAML, JSON) and not path.is_dir()


def read_robots(path: Path) -> tuple[RobotData, ...]:
    """Reads a run's robots from a file, YAML or JSON: by each one's name the fields of `RobotData`.

    One dataset or weight needs no list. Paths in it are taken from where the file is.

    Raises:
        FormatError: It can't be read, or a field is unknown, missing or of another type; says of which robot.
        InputError: As `RobotData`; or a dataset stands twice, or only some have a weight.
    """
    if path.suffix.lower() == JSON:
        read: Any = read_json(path)
        if not isinstance(read, Mapping):
            raise FormatError(f"{path}: expected robots by name")
    else:
        read = read_yaml(path)
    table = cast("Mapping[Any, Any]", read)
    robots = tuple(_robot(path, name, said) for name, said in table.items())
    if not robots:
        raise FormatError(f"{path}: expected robots by name, and there is none")
    paths = [one for robot in robots for one in robot.datasets]
    if twice := [one for one in paths if paths.count(one) > 1]:
        raise InputError(f"{path}: the dataset {twice[0]} stands twice; weight makes one count more")
    if len({bool(robot.weight) for robot in robots}) > 1:
        raise InputError(
            f"{path}: some datasets have a weight and some have none; give all of them one, or none"
        )
    return robots


def _robot(file: Path, name: Any, said: Any) -> RobotData:
    if (
        not isinstance(name, str)
        or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        or _names_a_file(name)
    ):
        raise FormatError(f"{file}: {name!r} is no robot's name: letters, digits, '.', '_' and '-'")
    where = f"{file}: {name}"
    if not isinstance(said, Mapping):
        raise FormatError(f"{where}: expected {', '.join(_READ)}, got {said!r}")
    given = cast("Mapping[Any, Any]", said)
    if unknown := [key for key in given if key not in _READ]:
        raise FormatError(f"{where}: there is no field {unknown[0]!r}; there are {', '.join(_READ)}")
    if "datasets" not in given:
        raise FormatError(f"{where}: datasets: name one")
    values: dict[str, Any] = {}
    for key, value in given.items():
        try:
            values[key] = _READ[key](value)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{where}: {key}: {error}") from None
    values["datasets"] = tuple(_placed(file, path) for path in values["datasets"])
    for key in ("fit", "statistics", "robot"):
        if key in values and (key != "robot" or _names_a_file(values[key])):
            values[key] = _placed(file, values[key])
    if values.get("frames", "").endswith(JSON):
        values["frames"] = _placed(file, values["frames"])
    try:
        return RobotData(name=name, **values)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _names_a_file(text: str) -> bool:
    return text.endswith(YAML)


def _placed(file: Path, path: str) -> str:
    return path if as_address(path) else str(file.parent / Path(path).expanduser())


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected a text, in quotes where it looks like a number, got {value!r}")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_text(value),)
    if not isinstance(value, Sequence) or not value:
        raise TypeError(f"expected a path or a list of them, got {value!r}")
    return tuple(_text(one) for one in cast("Sequence[Any]", value))


def _weights(value: Any) -> tuple[float, ...]:
    listed: list[Any] = list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else [value]
    for one in listed:
        if isinstance(one, bool) or not isinstance(one, int | float) or not 0 < one < float("inf"):
            raise TypeError(f"expected a number above 0, or one a dataset, got {value!r}")
    return tuple(float(one) for one in listed)


def _cameras(value: Any) -> dict[str, str | None]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected SLOT: KEY, got {value!r}")
    table = cast("Mapping[Any, Any]", value)
    return {_text(slot): None if key is None else _text(key) for slot, key in table.items()}


_READ: dict[str, Callable[[Any], Any]] = {
    "datasets": _texts,
    "weight": _weights,
    "robot": _text,
    "fit": _text,
    "statistics": _text,
    "camera": _cameras,
    "episodes": _text,
    "where": _text,
    "frames": _text,
    "prompt": _text,
}
