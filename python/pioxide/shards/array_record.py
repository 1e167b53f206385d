"""Token rows as ArrayRecord, the format that grain reads fastest in random order; and back.

A record is one row: its numbers and vectors in the order of `layout.json`, then its ids without padding, all
little-endian. Each shard becomes a file of the same number. Needs array-record
(`pip install "pioxide[train]"`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.errors import FormatError, InputError
from pioxide.files import new_directory, output_error, read_json, write_json
from pioxide.shards.beside import NORM_STATS
from pioxide.shards.directory import FAST
from pioxide.shards.job import Progress
from pioxide.shards.reader import Batch, TokenDataset

LAYOUT = "layout.json"
FORMAT = 1
# Records are compressed one by one, so that one is read alone.
OPTIONS = "group_size:1"
KINDS = {"int32": np.dtype("<i4"), "float32": np.dtype("<f4")}


class Entry(NamedTuple):
    """One column of a row: its name, "int32" or "float32", and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How a row lies in a record.

    Attributes:
        columns: All but the ids, in order.
        max_len: Ids that a row is padded to.
        fast: Whether rows are pi0_fast's, with masks by `prefix_length`.
    """

    columns: tuple[Entry, ...]
    max_len: int
    fast: bool

    def pack(self, batch: Batch) -> list[bytes]:
        """Returns a record for each row of a batch."""
        rows = len(batch["frame"])
        parts = [
            np.ascontiguousarray(batch[name], KINDS[kind]).reshape(rows, -1).view(np.uint8)
            for name, kind, _ in self.columns
        ]
        head = np.concatenate(parts, axis=1)
        ids, counts = batch["tokens"].astype("<i4"), batch["mask"].sum(1)
        return [head[i].tobytes() + ids[i, : counts[i]].tobytes() for i in range(rows)]

    def unpack(self, record: bytes) -> Batch:
        """Returns the row of a record, as `TokenDataset` gives it.

        Raises:
            FormatError: The record is none of this layout.
        """
        row: Batch = {}
        at = 0
        for name, kind, shape in self.columns:
            count = int(np.prod(shape, dtype=np.int64))
            if len(record) < at + 4 * count:
                raise FormatError(f"a record of {len(record)} bytes ends before its {name}")
            values = np.frombuffer(record, KINDS[kind], count, at).astype(kind)
            row[name] = values.reshape(shape) if shape else values[0]
            at += 4 * count
        count, rest = divmod(len(record) - at, 4)
        if rest or count > self.max_len:
            raise FormatError(f"a record of {len(record)} bytes does not end with up to {self.max_len} ids")
        row["tokens"] = np.zeros(self.max_len, np.int32)
        row["tokens"][:count] = np.frombuffer(record, "<i4", count, at)
        row["mask"] = np.arange(self.max_len) < count
        if self.fast:
            row["loss_mask"] = row["mask"] & (np.arange(self.max_len) >= row["prefix_length"])
            row["ar_mask"] = row["loss_mask"].astype(np.int32)
        return row


def export_array_record(
    tokens: TokenDataset, output: str | os.PathLike[str], *, progress: Progress | None = None
) -> Path:
    """Writes all rows as ArrayRecord files, with the contract and the statistics beside them.

    Args:
        tokens: What to write.
        output: The new directory; must not exist or be empty.
        progress: Told of rows written.

    Raises:
        InputError: `output` holds something, or `tokens` is a part of a directory.
        OutputError: It can't be written; nothing is left behind then.
        ModuleNotFoundError: array-record is not installed.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    target = Path(output)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} exists already; records are written to a new directory")
    if len(tokens) != tokens.manifest.totals["rows"]:
        raise InputError("records are written of all rows, and this is a host's part of them")
    derived = {"tokens", "mask", "ar_mask", "loss_mask"}
    sample = tokens[0]
    entries = [
        Entry(name, str(values.dtype), tuple(values.shape))
        for name, values in sample.items()
        if name not in derived
    ]
    layout = Layout(tuple(entries), tokens.max_len, "loss_mask" in sample)
    if progress is not None:
        progress.begin(len(tokens), 0)
    with new_directory(target) as root:
        files = []
        try:
            for number in range(len(tokens.shards)):
                name = f"tokens-{number:05d}.array_record"
                writer = ArrayRecordWriter(str(root / name), OPTIONS)
                try:
                    for batch in tokens.batches(1024, shards=[number]):
                        for record in layout.pack(batch):
                            writer.write(record)
                        if progress is not None:
                            progress.advance(len(batch["frame"]))
                finally:
                    writer.close()
                files.append({"file": name, "rows": tokens.manifest.shards[number].rows})
        except RuntimeError as error:  # which is all that the writer raises
            raise output_error(target, OSError(0, str(error).splitlines()[0])) from error
        for beside in (CONTRACT_FILE, NORM_STATS):
            if (tokens.path / beside).is_file():
                shutil.copyfile(tokens.path / beside, root / beside)
        if (tokens.path / FAST).is_dir():
            shutil.copytree(tokens.path / FAST, root / FAST)
        columns = [one._asdict() for one in layout.columns]
        written = {"format": FORMAT, "max_len": layout.max_len, "pi0_fast": layout.fast}
        write_json(root / LAYOUT, {**written, "columns": columns, "files": files})
    return target


class ArrayRecordRows:
    """The rows of a directory of records, by number: a data source of grain, equal to `TokenDataset`'s rows.

    Attributes:
        path: The directory.
        layout: How a row lies in a record.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens what `export_array_record` wrote.

        Raises:
            FormatError: It is something else, or files are missing.
            ModuleNotFoundError: grain is not installed.
        """
        from grain.sources import ArrayRecordDataSource

        self.path = Path(path)
        value = read_json(self.path / LAYOUT)
        try:
            if value["format"] != FORMAT:
                raise FormatError(
                    f"{self.path / LAYOUT}: format {value['format']}, this pioxide reads {FORMAT}"
                )
            columns = tuple(Entry(c["name"], c["dtype"], tuple(c["shape"])) for c in value["columns"])
            if any(one.dtype not in KINDS for one in columns):
                raise KeyError("dtype")
            self.layout = Layout(columns, value["max_len"], value["pi0_fast"])
            files = [self.path / one["file"] for one in value["files"] if one["rows"]]
            rows = sum(one["rows"] for one in value["files"])
        except (KeyError, TypeError) as error:
            raise FormatError(f"{self.path / LAYOUT} is not pioxide's ({error!r})") from error
        for file in files:
            if not file.is_file():
                raise FormatError(f"{file} is missing; export the tokens again")
        try:
            self._source: Any = ArrayRecordDataSource([str(file) for file in files])
        except (RuntimeError, ValueError) as error:
            raise FormatError(
                f"{self.path}: {str(error).splitlines()[0]}; export the tokens again"
            ) from error
        if len(self._source) != rows:
            raise FormatError(f"{self.path} has {len(self._source)} records, {LAYOUT} says {rows}")

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._source)

    def __getitem__(self, index: SupportsIndex) -> Batch:
        """Returns one row.

        Raises:
            IndexError: No such row.
        """
        number = index.__index__()
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        return self.layout.unpack(self._source[number % len(self)])

    def __getitems__(self, indices: Sequence[int] | NDArray[np.integer]) -> list[Batch]:
        """Returns several rows."""
        return [self[index] for index in indices]

    def __repr__(self) -> str:
        """Returns what it is in a line."""
        return f"ArrayRecordRows({str(self.path)!r}: {len(self):,} rows)"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows."""
        return f"<code>{escape(repr(self))}</code>"
