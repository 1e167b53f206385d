"""A token directory while it is made: whose it is, and what lies in it besides shards."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pioxide.codec import CODEC_FILE
from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.contract import load_contract
from pioxide.errors import SettingsError
from pioxide.files import TEMPORARY, atomic_file, make_directory, remove_temporary, sha256_of
from pioxide.shards.beside import NORM_STATS, write_contract
from pioxide.shards.manifest import FILE_NAME, PROGRESS, SHARDS, Manifest, ShardRecord, save_record
from pioxide.shards.settings import JobSettings, contract_changes, refuse_changes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FAST = "fast"
# What of an action codec's directory is copied along, and of which the first three, where they are, decide
# about ids.
FAST_FILES = (
    CODEC_FILE,
    "tokenizer.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "processing_action_tokenizer.py",
)


# A run that was killed early, by an older pioxide too, leaves just these.
OURS = {NORM_STATS, CONTRACT_FILE, FAST, SHARDS, PROGRESS}


def earlier_manifest(now: Manifest, settings: JobSettings, directory: Path) -> Manifest | None:
    """Returns the manifest of an earlier run in this directory, or None.

    Args:
        now: what this run would begin with.
        settings: of this run, to say in words how its contract differs.
        directory: that may have a manifest.

    Raises:
        SettingsError: That run made something else; shows every difference, the contract's in words.
        FormatError: The manifest or the contract there is none.
    """
    before = Manifest.load(directory)
    if before is None:
        return None
    contract = load_contract(directory)
    lines = [] if contract is None else contract_changes(contract, settings.contract)
    refuse_changes(said_once(lines, before.changes(now)), directory)
    return before


def said_once(contract: list[str], manifest: list[str]) -> list[str]:
    """Returns both lists of differences; a contract's digest says no more where the words are there."""
    return contract + [one for one in manifest if not (contract and one.startswith("contract."))]


def refuse_foreign(directory: Path) -> None:
    """Refuses a directory without a manifest that holds what no run of ours leaves there.

    Raises:
        SettingsError: It does.
    """
    if {p.name for p in directory.iterdir() if not p.name.endswith(TEMPORARY)} - OURS:
        raise SettingsError(
            f"{directory} is not empty and has no {FILE_NAME}; choose another directory for the output"
        )


def prepare(
    now: Manifest, settings: JobSettings, fast: Path | None, before: Manifest | None, directory: Path
) -> None:
    """Writes all but the shards: the manifest, not yet complete, first, so that the directory is this job's.

    Args:
        now: the manifest to begin with.
        settings: of the job.
        fast: its action codec.
        before: what an earlier run left.
        directory: to write to.

    Raises:
        SettingsError: Another run has just begun something else here.
        OutputError: It can't be written.
    """
    if before is None and not now.save_new(directory):
        earlier_manifest(now, settings, directory)
    make_directory(directory / SHARDS)
    write_contract(settings.contract, directory)
    if fast is not None:
        copy_fast(fast, directory)


def remove_leftovers(directory: Path) -> None:
    """Removes whatever killed runs left half-written. Call it while nobody else may write here."""
    for folder in (directory, directory / SHARDS, directory / PROGRESS, directory / FAST):
        if folder.is_dir():
            remove_temporary(folder)


def remove_leftovers_of(directory: Path, names: Iterable[str]) -> None:
    """Removes what killed runs left half-written of some shards, and of their records."""
    for name in names:
        remove_temporary(directory / SHARDS, name)
        remove_temporary(directory / PROGRESS, f"{name}.json")


def reopen(manifest: Manifest, kept: Mapping[str, ShardRecord], directory: Path) -> Manifest:
    """Takes back that a directory is complete until what is damaged has been made again."""
    for record in kept.values():
        save_record(directory, record)
    reopened = replace(manifest, shards=(), complete=False)
    reopened.save(directory)
    return reopened


def copy_fast(source: Path, directory: Path) -> None:
    """Keeps the action codec with the tokens that were made with it."""
    make_directory(directory / FAST)
    for name in FAST_FILES:
        if (source / name).is_file():
            copy_file(source / name, directory / FAST / name)


def copy_file(source: Path, target: Path) -> None:
    """Copies a small file, whole or not at all, unless it is there already."""
    if target.is_file() and sha256_of(target) == sha256_of(source):
        return
    with open(source, "rb") as content, atomic_file(target) as file:
        shutil.copyfileobj(content, file)
