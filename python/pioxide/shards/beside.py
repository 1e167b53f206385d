"""Writes and reads the contract beside statistics and tokens; sees that the files still belong together."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from pioxide.contract import FILE_NAME, Contract, known, load_contract, to_json
from pioxide.errors import ContractError, FormatError
from pioxide.files import json_text, write_text
from pioxide.transforms import Stats, load_norm_stats, save_norm_stats
from pioxide.transforms.stats import OPENPI_FIELDS

NORM_STATS = "norm_stats.json"


def read_contract(directory: Path) -> Contract:
    """Returns the contract of a directory that `fit` or `tokenize` made; its source is the directory.

    Raises:
        FormatError: There is none, or it is not what it should be.
        ContractError: `norm_stats.json` beside it was changed, so that nobody knows which of the two holds.
    """
    contract = load_contract(directory)
    if contract is None:
        raise FormatError(f"{directory} has no {FILE_NAME}; an older pioxide made it: make it again")
    table = known(contract.norm_stats, "norm_stats")
    if (directory / NORM_STATS).is_file() and (key := _other(load_norm_stats(directory), table)):
        raise ContractError(
            f"{directory}: {NORM_STATS} and {FILE_NAME} hold other statistics of {key!r}, so one was "
            f"changed; put it back, or pass the file to `pioxide tokenize` with --stats"
        )
    return replace(contract, source=str(directory))


def write_contract(contract: Contract, directory: Path) -> None:
    """Writes `contract.json` and `norm_stats.json` unless they are there already, each whole or not at all.

    Statistics that openpi's file has no words for (without mean and deviation) stand in the contract alone.

    Raises:
        OutputError: They can't be written.
    """
    stats = known(contract.norm_stats, "norm_stats")
    if all(one.mean is not None and one.std is not None for one in stats.values()):
        try:
            same = not _other(load_norm_stats(directory), stats)
        except FormatError:
            same = False
        if not same:
            save_norm_stats(directory, stats)
    file, text = directory / FILE_NAME, json_text(to_json(contract))
    if not file.is_file() or file.read_bytes() != text.encode():
        write_text(file, text)


def contract_digest(contract: Contract) -> str:
    """Returns the SHA-256 of the file that `write_contract` writes."""
    return hashlib.sha256(json_text(to_json(contract)).encode()).hexdigest()


def _other(beside: dict[str, Stats], table) -> str:
    """The first key whose statistics in openpi's file are not the contract's; empty where all are."""
    for key in dict.fromkeys((*beside, *table)):
        one, two = beside.get(key), table.get(key)
        fields = ((getattr(one, name, None), getattr(two, name, None)) for name in OPENPI_FIELDS)
        if one is None or two is None or not all(_equal(a, b) for a, b in fields):
            return key
    return ""


def _equal(one, two) -> bool:
    if one is None or two is None:
        return one is two
    return one.shape == two.shape and bool((one == two).all())
