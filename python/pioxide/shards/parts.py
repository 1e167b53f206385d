"""A part of a job, for one of several machines: every n-th shard, made beside the others or apart."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pioxide.errors import InputError, OutputError
from pioxide.files import held, make_directory
from pioxide.shards.manifest import PROGRESS, ShardRecord
from pioxide.shards.plan import Plan, ShardTask

# Says in `.progress/` into how many parts a job is cut, and who makes one.
MARK = re.compile(r"part-(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Part:
    """One of several parts of a job.

    Attributes:
        number: From 1.
        of: How many there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: No such part.
        """
        if not 1 <= self.number <= self.of:
            raise InputError(f"part {self}: parts are numbered from 1/{max(self.of, 1)} on")

    @classmethod
    def parse(cls, text: str) -> Part:
        """Returns the part that text such as "3/16" names.

        Raises:
            InputError: It names none.
        """
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
        if found is None:
            raise InputError(f'part {text!r}: write it as "3/16", the third of sixteen')
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """Returns it as it is written on the command line."""
        return f"{self.number}/{self.of}"

    def tasks(self, plan: Plan) -> tuple[ShardTask, ...]:
        """Returns the shards of this part: every n-th, so that parts are alike where a dataset is not."""
        return plan.tasks[self.number - 1 :: self.of]

    @contextmanager
    def held(self, directory: Path) -> Iterator[bool]:
        """Holds this part of a token directory, for this run alone.

        Returns:
            Whether the system keeps others out.

        Raises:
            OutputError: Another run makes this part there; says who.
        """
        make_directory(directory / PROGRESS)
        mark = directory / PROGRESS / f"part-{self.number}-of-{self.of}"
        try:
            with held(mark, f"process {os.getpid()} on {platform.node()}") as alone:
                yield alone
        except OutputError as error:
            if str(error).startswith("another run holds"):
                who = str(error).partition(f"{mark}: ")[2] or "unknown"
                raise OutputError(
                    f"another run is making part {self} in {directory} ({who}); wait for it, or stop it"
                ) from error
            raise


@dataclass(frozen=True)
class PartResult:
    """What there is after a part was made.

    Attributes:
        part: Which.
        shards: Its shards, in order.
        present: Finished shards of the whole job in the same directory, other parts' among them.
        planned: Shards of the whole job.
    """

    part: Part
    shards: tuple[ShardRecord, ...]
    present: int
    planned: int


def marks(directory: Path) -> list[Part]:
    """Returns the parts that somebody began in a token directory."""
    folder = directory / PROGRESS
    found = (MARK.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    pairs = sorted((int(one[2]), int(one[1])) for one in found if one)
    return [Part(number, of) for of, number in pairs if 1 <= number <= of]
