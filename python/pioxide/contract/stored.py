"""The file `contract.json`: one contract, or of weights that drive several robots one for each of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pioxide.contract.contract import Contract
from pioxide.contract.document import from_json, to_json
from pioxide.contract.several import choose_robot, one_a_robot
from pioxide.errors import ContractError, FormatError
from pioxide.files import read_json, write_json

FILE_NAME = "contract.json"
# Of a file of several robots, which a pioxide that knows of one robot a file refuses by this number.
SEVERAL = 2


def save(contracts: Contract | Sequence[Contract], directory: str | os.PathLike[str]) -> Path:
    """Writes `contract.json` into a directory, whole or not at all; returns the file.

    Args:
        contracts: One, or one a robot.
        directory: Where.
    """
    several = (contracts,) if isinstance(contracts, Contract) else contracts
    file = Path(directory, FILE_NAME)
    write_json(file, file_json(several))
    return file


def file_json(contracts: Sequence[Contract]) -> dict[str, Any]:
    """Returns what `contract.json` holds of one contract, or of one a robot."""
    if len(contracts) == 1:
        return to_json(contracts[0])
    return {"version": SEVERAL, "robots": [to_json(one) for one in contracts]}


def load(path: str | os.PathLike[str], robot: str | None = None) -> Contract | None:
    """Reads `contract.json` from a directory, or that file itself; None where there is none.

    Args:
        path: The directory, or the file.
        robot: Whose contract, by the robot's name, where the file holds several robots'.

    Raises:
        FormatError: It is there and not what it should be.
        ContractError: It holds several robots' contracts, and none of that name, or nobody said which.
    """
    contracts = load_all(path)
    return None if contracts is None else choose_robot(contracts, robot, str(path))


def load_all(path: str | os.PathLike[str]) -> tuple[Contract, ...] | None:
    """Reads every robot's contract from where `load` reads one, in their order; None where there is none.

    Raises:
        FormatError: It is there and not what it should be.
    """
    file = Path(path)
    file = file / FILE_NAME if file.is_dir() else file
    if not file.exists():
        return None
    value = read_json(file)
    if not isinstance(value, Mapping) or cast("Mapping[str, Any]", value).get("version") != SEVERAL:
        return (from_json(value, str(file)),)
    robots: Any = cast("Mapping[str, Any]", value).get("robots")
    if (
        not isinstance(robots, list)
        or not robots
        or {*cast("Mapping[str, Any]", value)} != {"version", "robots"}
    ):
        raise FormatError(f'{file}: expected a version and a list "robots" of contracts, and nothing else')
    each = [from_json(one, f"{file}: robots[{i}]") for i, one in enumerate(cast("list[Any]", robots))]
    try:
        found = one_a_robot(each, str(file))
    except ContractError as error:
        raise FormatError(f"{file}: {error}") from error
    if len(found) < len(each):
        raise FormatError(f"{file}: a robot stands twice")
    return found
