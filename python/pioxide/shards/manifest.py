"""The manifest of a token directory: what made it, what each shard holds, and at the end that it is complete.

While a job runs, every finished shard has a record of its own under `.progress/`, so that workers on any
machine need to agree on nothing; the manifest gathers them.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pioxide.data import FrameColumns
from pioxide.errors import FormatError, InputError
from pioxide.files import (
    json_text,
    make_directory,
    output_error,
    read_json,
    refuse_address,
    sha256_of,
    write_json,
    write_new_text,
    write_text,
)
from pioxide.shards.card import CARD, token_card
from pioxide.shards.settings import changes, decisive

FILE_NAME = "manifest.json"
PROGRESS = ".progress"
SHARDS = "shards"
# Raised whenever the columns or the meaning of a field change.
FORMAT = 2


@dataclass(frozen=True)
class Skipped:
    """An episode that was left out, and why."""

    episode: int
    reason: str


@dataclass(frozen=True)
class ShardRecord:
    """What one finished shard holds.

    Attributes:
        file: its name under `shards/`.
        rows: frames.
        episodes: episodes with at least one row.
        bytes: size of the file.
        sha256: of the file.
        tokens: ids of all rows, after truncation, padding not counted.
        action_tokens: FAST ids among them, before truncation (0 for pi0 and pi05).
        longest: the longest prompt before truncation.
        truncated: rows whose prompt was cut.
        clipped_rows: rows with at least one coefficient that the FAST vocabulary lacks.
        clipped: such coefficients in all.
        skipped: episodes left out.
    """

    file: str
    rows: int
    episodes: int
    bytes: int
    sha256: str
    tokens: int
    action_tokens: int
    longest: int
    truncated: int
    clipped_rows: int
    clipped: int
    skipped: tuple[Skipped, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShardRecord:
        """Reads what `dataclasses.asdict` wrote.

        Raises:
            InputError, TypeError, KeyError: it is something else.
        """
        record = cls(**{**value, "skipped": tuple(Skipped(**s) for s in value["skipped"])})
        for field in dataclasses.fields(cls):
            if field.type == "int":
                _expect(getattr(record, field.name), field.name, int)
        for name, pattern in (("file", r"shard-\d{5,}\.parquet"), ("sha256", r"[0-9a-f]{64}")):
            _expect(getattr(record, name), name, str)
            if not re.fullmatch(pattern, getattr(record, name)):
                raise InputError(f"{name} is {getattr(record, name)!r}")
        for left in record.skipped:
            _expect(left.episode, "skipped.episode", int)
            _expect(left.reason, "skipped.reason", str)
        return record


@dataclass(frozen=True)
class Manifest:
    """The manifest as JSON keeps it.

    Attributes:
        settings: `JobSettings` as JSON, without its contract.
        contract: the model, and name and SHA-256 of the contract beside the manifest.
        inputs: SHA-256 of the text model and the FAST tokenizer.
        dataset: name, path (where it was), fingerprint, version, robot type, frames a second, names of the
            state's and actions' dimensions, instructions by task index.
        versions: of the format, pioxide and pyarrow.
        plan: shards, episodes and frames to make.
        shards: what was made, in order; empty until the job is complete.
        complete: whether everything has been made.
    """

    settings: dict[str, Any]
    contract: dict[str, str]
    inputs: dict[str, Any]
    dataset: dict[str, Any]
    versions: dict[str, Any]
    plan: dict[str, int]
    shards: tuple[ShardRecord, ...] = ()
    complete: bool = False

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Returns every episode that was left out."""
        return tuple(s for shard in self.shards for s in shard.skipped)

    @property
    def totals(self) -> dict[str, int]:
        """Returns the shards' numbers, summed; `longest` is the longest of all."""
        names = (
            "rows",
            "episodes",
            "bytes",
            "tokens",
            "action_tokens",
            "truncated",
            "clipped_rows",
            "clipped",
        )
        totals = {name: sum(getattr(shard, name) for shard in self.shards) for name in names}
        return {**totals, "longest": max((shard.longest for shard in self.shards), default=0)}

    def changes(self, now: Manifest) -> list[str]:
        """Returns how another manifest describes another output; names of directories don't count."""
        return changes(_identity(self), _identity(now))

    def as_json(self) -> dict[str, Any]:
        """Returns what `manifest.json` holds."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        shards = [dataclasses.asdict(shard) for shard in self.shards]
        return {"complete": self.complete, **fields, "totals": self.totals, "shards": shards}

    def save(self, directory: Path) -> None:
        """Writes `manifest.json` atomically, and before it the card of a directory that is complete."""
        if self.complete:
            write_text(directory / CARD, token_card(self.as_json()))
        write_json(directory / FILE_NAME, self.as_json())

    def save_new(self, directory: Path) -> bool:
        """Writes `manifest.json` where there is none; returns False where another run was first."""
        return write_new_text(directory / FILE_NAME, json_text(self.as_json()))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Manifest | None:
        """Reads `manifest.json`; None where there is none.

        Raises:
            FormatError: it can't be read, is of another format, or at an address.
        """
        refuse_address(directory)
        path = Path(directory, FILE_NAME)
        if not path.exists():
            return None
        value = read_json(path)
        try:
            if value["versions"]["format"] != FORMAT:
                raise FormatError(
                    f"{path}: format {value['versions']['format']}, this pioxide reads format {FORMAT}"
                )
            fields = {f.name: value[f.name] for f in dataclasses.fields(cls)}
            shards = tuple(ShardRecord.from_json(shard) for shard in fields.pop("shards"))
            manifest = cls(**fields, shards=shards)
            manifest._check()
            return manifest
        except (KeyError, TypeError, AttributeError, InputError) as error:
            why = f"has no {error}" if isinstance(error, KeyError) else error
            raise FormatError(f"{path} is not a manifest of pioxide: {why}") from error

    def _check(self) -> None:
        """See that everything is what whoever reads it takes it to be.

        Raises:
            InputError: something isn't; names it.
        """
        _expect(self.settings, "settings", dict)
        FrameColumns(**self.settings["columns"])
        _expect(self.contract, "contract", dict)
        for name in ("model", "file", "sha256"):
            _expect(self.contract.get(name), f"contract.{name}", str)
        _expect(self.inputs, "inputs", dict)
        _expect(self.dataset, "dataset", dict)
        for name in ("name", "path", "fingerprint", "version", "robot_type"):
            _expect(self.dataset.get(name), f"dataset.{name}", str)
        _expect(self.dataset.get("fps"), "dataset.fps", int, float)
        for name in ("state_names", "action_names"):
            _expect(self.dataset.get(name), f"dataset.{name}", list)
            for i, joint in enumerate(self.dataset[name]):
                _expect(joint, f"dataset.{name}[{i}]", str)
        _expect(self.dataset.get("tasks"), "dataset.tasks", dict)
        for index, task in self.dataset["tasks"].items():
            _expect(task, f"dataset.tasks.{index}", str)
            if not index.isdecimal():
                raise InputError(f"dataset.tasks: {index!r} is no task index")
        for name in ("shards", "episodes", "frames"):
            _expect(self.plan.get(name), f"plan.{name}", int)
        _expect(self.complete, "complete", bool)
        names = [shard.file for shard in self.shards]
        if len(set(names)) < len(names):
            raise InputError("a shard is listed twice")
        if self.complete and len(names) != self.plan["shards"]:
            raise InputError(f"plan.shards is {self.plan['shards']}, {len(names)} are listed")
        rows = sum(shard.rows for shard in self.shards)
        if self.complete and not self.skipped and rows != self.plan["frames"]:
            raise InputError(f"plan.frames is {self.plan['frames']}, the shards have {rows} rows")


def _expect(value: Any, name: str, *kinds: type) -> None:
    """Raise InputError unless a JSON value has one of these types; a number must not be negative."""
    good = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not good or (isinstance(value, int | float) and not 0 <= value < float("inf")):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{name} is {str(value)[:60]!r}, expected {expected}")


def save_record(directory: Path, record: ShardRecord) -> None:
    """Notes under `.progress/` that a shard is finished; called after the shard has its own name."""
    make_directory(directory / PROGRESS)
    write_json(_record_path(directory, record.file), dataclasses.asdict(record))


def finished_shards(
    directory: Path,
    manifest: Manifest | None,
    names: Iterable[str],
    there: Callable[[ShardRecord], bool] | None = None,
) -> dict[str, ShardRecord]:
    """Returns the shards among `names` that need not be made again: their bytes agree with their record.

    Args:
        directory: the token directory.
        manifest: its manifest, which holds the records of a complete job.
        names: file names of all shards of the plan.
        there: whether the shard of a record is; by default reads its bytes below `directory`.
    """
    there = there or (lambda record: agrees(directory / SHARDS / record.file, record))
    known = {record.file: record for record in manifest.shards} if manifest is not None else {}
    found = {}
    for name in names:
        record = known.get(name) or load_record(directory, name)
        if record is not None and record.file == name and there(record):
            found[name] = record
    return found


def remove_progress(directory: Path) -> None:
    """Drops the records of single shards once the manifest holds them all."""
    progress = directory / PROGRESS
    if progress.is_dir():
        try:
            shutil.rmtree(progress)
        except OSError as error:
            raise output_error(progress, error) from error


def _identity(manifest: Manifest) -> dict[str, Any]:
    """What must be the same for two runs to make the same bytes."""
    return {
        "dataset": {"fingerprint": manifest.dataset.get("fingerprint")},
        **decisive(manifest.settings, manifest.dataset),
        "contract": manifest.contract,
        "inputs": manifest.inputs,
        "versions": manifest.versions,
    }


def _record_path(directory: Path, name: str) -> Path:
    return directory / PROGRESS / f"{name}.json"


def load_record(directory: Path, name: str) -> ShardRecord | None:
    """Reads a shard's record; None where none is or none can be read: the shard is then made again."""
    try:
        return ShardRecord.from_json(read_json(_record_path(directory, name)))
    except (FormatError, InputError, KeyError, TypeError):
        return None


def agrees(path: Path, record: ShardRecord) -> bool:
    """Returns whether a shard's bytes are those that its record tells of; reads all of them."""
    try:
        return path.stat().st_size == record.bytes and sha256_of(path) == record.sha256
    except OSError:
        return False
