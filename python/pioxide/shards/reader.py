"""Reads a finished token directory: rows and batches as NumPy arrays, padded and masked for the models."""

from __future__ import annotations

import operator
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.contract import Contract, known
from pioxide.data import FrameColumns
from pioxide.data.parquet import open_parquet
from pioxide.errors import FormatError, InputError
from pioxide.family import Family
from pioxide.files import sha256_of
from pioxide.shards.beside import read_contract
from pioxide.shards.manifest import FILE_NAME, SHARDS, Manifest
from pioxide.transforms import Stats

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TokenDataset:
    """A finished output of `tokenize_dataset`.

    A batch of B rows is a dict of arrays. All models: `episode`, `frame`, `task` int32[B]; `tokens` int32[B,
    L] padded with 0; `mask` bool[B, L], True on real ids; `length` int32[B], ids before truncation. Then, by
    model:

        pi0       `state` float32[B, S], `actions` float32[B, H, D]
        pi05      `actions` float32[B, H, D]
        pi0_fast  `ar_mask` int32[B, L] (0 prefix, 1 suffix), `loss_mask` bool[B, L] (True on the suffix),
                  `prefix_length`, `clipped` int32[B]

    L is the job's `max_len`. State and actions are normalised, and not padded to a model's width.

    Attributes:
        path: The directory.
        manifest: What made it.
        contract: What the rows' numbers and prompts mean.
    """

    path: Path
    manifest: Manifest
    contract: Contract

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = False) -> TokenDataset:
        """Open a directory, optionally checking every shard's SHA-256.

        Raises:
            FormatError: it is no token directory, is not complete, or a shard is not what the manifest says.
        """
        directory = Path(path)
        manifest = Manifest.load(directory)
        if manifest is None:
            raise FormatError(f"{directory} has no {FILE_NAME}; it is not the output of pioxide tokenize")
        if not manifest.complete:
            raise FormatError(
                f"{directory} is not complete; run the same `pioxide tokenize` again to finish it, or "
                "`pioxide merge` once all of its parts are made"
            )
        contract = read_contract(directory)
        if sha256_of(directory / CONTRACT_FILE) != manifest.contract["sha256"]:
            raise FormatError(
                f"{directory}: contract.json is not the one that the tokens were made with; run the same "
                "`pioxide tokenize` again in an empty directory"
            )
        dataset = cls(directory, manifest, contract)
        dataset._check(verify)
        return dataset

    @property
    def model(self) -> Family:
        """Returns which model the rows are for."""
        return known(self.contract.family, "family")

    @property
    def max_len(self) -> int:
        """Returns L, the padded length of a prompt."""
        return known(self.contract.text_len, "text_len")

    @property
    def horizon(self) -> int:
        """Returns H, actions in a chunk."""
        return known(self.contract.action_horizon, "action_horizon")

    @property
    def columns(self) -> FrameColumns:
        """Returns which columns of the dataset are the state and the actions."""
        return FrameColumns(**self.manifest.settings["columns"])

    @property
    def tasks(self) -> dict[int, str]:
        """Returns the instruction by task index."""
        return {int(index): task for index, task in self.manifest.dataset["tasks"].items()}

    @property
    def norm_stats(self) -> dict[str, Stats]:
        """Returns the statistics that state and actions were normalised with."""
        return dict(known(self.contract.norm_stats, "norm_stats"))

    @property
    def fast_directory(self) -> Path | None:
        """Returns where the FAST tokenizer lies that the action ids are of, for pi0_fast."""
        return self.path / "fast" if self.model is Family.PI0_FAST else None

    @property
    def shards(self) -> list[Path]:
        """Returns the Parquet files, in order."""
        return [self.path / SHARDS / shard.file for shard in self.manifest.shards]

    def __len__(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.manifest.shards)

    def __repr__(self) -> str:
        """Returns what it is in a line."""
        name = self.manifest.dataset["name"]
        return f"TokenDataset({str(self.path)!r}: {len(self):,} rows of {name} for {self.model})"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows."""
        totals, about = self.manifest.totals, self.manifest.dataset
        rows = {
            "tokens": str(self.path),
            "model": self.model,
            "dataset": about["name"],
            "rows": f"{len(self):,} from {totals['episodes']:,} episodes",
            "tokens a row": f"{totals['tokens'] / max(len(self), 1):.1f}, at most {self.max_len}",
        }
        cells = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>"

    def __getitem__(self, index: int) -> Batch:
        """Returns one row: a batch without its first axis, as grain and PyTorch's loaders ask for it.

        Raises:
            IndexError: No such row.
        """
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        return self.__getitems__([number % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        """Returns several rows, which reads less than one by one; PyTorch's loaders ask for batches so."""
        batch = self.take(indices)
        return [{name: values[i] for name, values in batch.items()} for i in range(len(indices))]

    def __iter__(self) -> Iterator[Batch]:
        """Row after row, each a batch without its first axis."""
        for batch in self.batches(1024):
            for i in range(len(batch["frame"])):
                yield {name: values[i] for name, values in batch.items()}

    def batches(
        self, size: int, *, shards: Sequence[int] | None = None, drop_last: bool = False
    ) -> Iterator[Batch]:
        """Batches in the order of the dataset; memory holds one row group and one batch.

        Args:
            size: rows a batch; the last one may have fewer.
            shards: which shards, in which order; all by default. A batch may span two of them.
            drop_last: leave out a last batch that is not full.

        Raises:
            InputError: `size` below 1, or no such shard.
            FormatError: a shard can't be read.
        """
        if size < 1:
            raise InputError(f"a batch of {size} rows")
        waiting: list[pa.Table] = []
        rows = 0
        for number in range(len(self.shards)) if shards is None else shards:
            if not 0 <= number < len(self.shards):
                raise InputError(f"no shard {number}: there are {len(self.shards)}")
            for table in self._row_groups(self.shards[number]):
                waiting.append(table)
                rows += table.num_rows
                if rows < size:
                    continue
                joined = pa.concat_tables(waiting)
                full = rows - rows % size
                for start in range(0, full, size):
                    yield self._batch(joined.slice(start, size))
                waiting, rows = [joined.slice(full)], rows - full
        if rows and not drop_last:
            yield self._batch(pa.concat_tables(waiting))

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> Batch:
        """The rows with these numbers, in this order; each row group they lie in is read once.

        Raises:
            InputError: a number outside 0..len-1.
        """
        wanted = np.asarray(indices, np.int64)
        if wanted.ndim != 1 or len(wanted) == 0 or wanted.min() < 0 or wanted.max() >= len(self):
            raise InputError(f"expected row numbers from 0 to {len(self) - 1}, at least one")
        starts = np.cumsum([0, *(shard.rows for shard in self.manifest.shards)]).tolist()
        order = np.argsort(wanted, kind="stable")
        parts: list[pa.Table] = []
        for number in sorted({bisect_right(starts, int(i)) - 1 for i in wanted}):
            inside = wanted[order]
            inside = inside[(inside >= starts[number]) & (inside < starts[number + 1])] - starts[number]
            first = 0
            with self._open(self.shards[number]) as file:
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    here = inside[(inside >= first) & (inside < first + rows)] - first
                    if len(here):
                        parts.append(file.read_row_group(group).take(pa.array(here)))
                    first += rows
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return self._batch(pa.concat_tables(parts).take(pa.array(back)))

    def _check(self, verify: bool) -> None:
        for path, shard in zip(self.shards, self.manifest.shards, strict=True):
            if not path.is_file():
                raise FormatError(f"{path} is missing; run the same `pioxide tokenize` again to make it")
            if path.stat().st_size != shard.bytes or (verify and sha256_of(path) != shard.sha256):
                raise FormatError(f"{path} is damaged; run the same `pioxide tokenize` again to repair it")
            with self._open(path) as file:
                if file.metadata.num_rows != shard.rows:
                    raise FormatError(
                        f"{path} has {file.metadata.num_rows} rows, {FILE_NAME} says {shard.rows}: "
                        "one of them was changed; make the directory anew"
                    )

    def _open(self, path: Path) -> pq.ParquetFile:
        try:
            return open_parquet(path, checksums=True)
        except (OSError, pa.ArrowException) as error:
            raise FormatError(f"{path} can't be read: {error}") from error

    def _row_groups(self, path: Path) -> Iterator[pa.Table]:
        with self._open(path) as file:
            for group in range(file.num_row_groups):
                try:
                    yield file.read_row_group(group)
                except (OSError, pa.ArrowException) as error:
                    raise FormatError(f"{path} can't be read: {error}") from error

    def _batch(self, table: pa.Table) -> Batch:
        table = table.combine_chunks()
        batch: Batch = {}
        for name in ("episode", "frame", "task"):
            batch[name] = table[name].to_numpy()
        batch["tokens"], batch["mask"] = _padded(_array(table, "tokens"), self.max_len)
        batch["length"] = table["length"].to_numpy()
        if "state" in table.column_names:
            batch["state"] = _matrix(_array(table, "state"))
        if "actions" in table.column_names:
            chunks = _matrix(_array(table, "actions"))
            batch["actions"] = chunks.reshape(len(chunks), self.horizon, -1)
        if self.model is Family.PI0_FAST:
            prefix = table["prefix_length"].to_numpy()
            suffix = batch["mask"] & (np.arange(self.max_len) >= prefix[:, None])
            batch["ar_mask"], batch["loss_mask"] = suffix.astype(np.int32), suffix
            batch["prefix_length"], batch["clipped"] = prefix, table["clipped"].to_numpy()
        return batch


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _padded(lists: pa.ListArray, width: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    offsets = lists.offsets.to_numpy()
    mask = np.arange(width) < np.diff(offsets)[:, None]
    tokens = np.zeros(mask.shape, np.int32)
    tokens[mask] = lists.values.to_numpy()[offsets[0] : offsets[-1]]
    return tokens, mask


def _matrix(vectors: pa.FixedSizeListArray) -> NDArray[np.float32]:
    # flatten() respects a slice's offset, .values does not.
    return vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size)
