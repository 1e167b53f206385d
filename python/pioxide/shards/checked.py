"""What `check` found when a directory was fitted, kept in it, so that tokenizing reads the same data once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pioxide
from pioxide.data import Code, Finding, FrameColumns, TaskChoice
from pioxide.errors import FormatError
from pioxide.files import json_text, read_json, write_json
from pioxide.shards.settings import as_json

FILE_NAME = "findings.json"


@dataclass(frozen=True)
class Looked:
    """What was looked at; another of any of it can have other findings.

    Attributes:
        fingerprint: Of the dataset.
        columns: Of state and actions.
        episodes: Which.
        tasks: Where instructions came from.
        width: Numbers that the model takes, None for any.
    """

    fingerprint: str
    columns: FrameColumns
    episodes: tuple[int, ...]
    tasks: TaskChoice
    width: int | None

    @property
    def key(self) -> str:
        """Returns a digest of it and of the version that looked."""
        return hashlib.sha256(f"{pioxide.__version__}\n{json_text(as_json(self))}".encode()).hexdigest()


def save_findings(directory: Path, looked: Looked, findings: Sequence[Finding]) -> None:
    """Writes `findings.json`, whole or not at all."""
    found = [{**as_json(finding), "code": finding.code.value} for finding in findings]
    write_json(directory / FILE_NAME, {"looked": looked.key, "findings": found})


def saved_findings(directory: Path, looked: Looked) -> list[Finding] | None:
    """Returns what was found there, or in a directory below it, of just this; None where nobody looked."""
    for file in (directory / FILE_NAME, *sorted(directory.glob(f"*/{FILE_NAME}"))):
        try:
            value = read_json(file)
            if value["looked"] != looked.key:
                continue
            return [
                Finding(
                    Code(one["code"]), one["place"], one["message"], one["way_out"], tuple(one["episodes"])
                )
                for one in value["findings"]
            ]
        except (FormatError, KeyError, TypeError, ValueError):
            continue  # looking again is always right
    return None
