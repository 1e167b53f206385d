"""Reads a finished token directory: rows and batches as NumPy arrays, padded and masked for the models."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, SupportsIndex

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
from pioxide.notebook import facts_table
from pioxide.shards.at_hand import tokens_at_hand
from pioxide.shards.beside import read_contract
from pioxide.shards.groups import TOKENS, RowGroup, RowGroups
from pioxide.shards.manifest import FILE_NAME, SHARDS, Manifest
from pioxide.transforms import Stats

Batch = dict[str, NDArray[Any]]
Indices = Sequence[int] | NDArray[np.integer]

# Memory for rows that were read, by default; each process has its own.
CACHE_BYTES = 256 << 20
# Rows that are decoded at a time where all are read in order.
READ_ROWS = 4096


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

    Rows may be asked for by number, in any order, from several threads; it is a data source of grain and a
    map-style dataset of PyTorch, and may be pickled for their workers. `shard` gives each host its rows, and
    `order` an order that is random and yet reads every part of a file once.

    Attributes:
        path: The directory.
        manifest: What made it.
        contract: What the rows' numbers and prompts mean.
        rows: Which of the directory's rows these are.
    """

    path: Path
    manifest: Manifest
    contract: Contract
    rows: range
    _groups: RowGroups = field(repr=False, compare=False)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, verify: bool = False, cache_bytes: int = CACHE_BYTES
    ) -> TokenDataset:
        """Opens a directory, optionally checking every shard's SHA-256.

        Args:
            path: the directory, or an address (`s3://`, `gs://`, `hf://`) of which a copy is brought to the
                cache first.
            verify: read all bytes, and compare them with the manifest.
            cache_bytes: memory for decoded row groups, in each process that reads.

        Raises:
            FormatError: it is no token directory, is not complete, or a shard is not what the manifest says.
            InputError: `cache_bytes` is negative.
        """
        if cache_bytes < 0:
            raise InputError(f"cache_bytes is {cache_bytes}, expected at least 0")
        directory = tokens_at_hand(path)
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
        files = _shards(directory, manifest)
        groups = RowGroups(files, _footers(files, manifest, verify), cache_bytes)
        return cls(directory, manifest, contract, range(manifest.totals["rows"]), groups)

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
        return _shards(self.path, self.manifest)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Returns what it is in a line."""
        name, total = self.manifest.dataset["name"], int(self._groups.starts[-1])
        of = f" ({self.rows.start:,} to {self.rows.stop - 1:,} of {total:,})" if len(self) < total else ""
        return f"TokenDataset({str(self.path)!r}: {len(self):,} rows{of} of {name} for {self.model})"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows."""
        totals, about = self.manifest.totals, self.manifest.dataset
        rows = {
            "tokens": str(self.path),
            "model": self.model,
            "dataset": about["name"],
            "rows": f"{len(self):,} of {totals['rows']:,} from {totals['episodes']:,} episodes"
            if len(self) < totals["rows"]
            else f"{len(self):,} from {totals['episodes']:,} episodes",
            "tokens a row": f"{totals['tokens'] / max(totals['rows'], 1):.1f}, at most {self.max_len}",
        }
        return facts_table(rows)

    def __getitem__(self, index: SupportsIndex | slice | Indices) -> Batch:
        """Returns one row (a batch without its first axis) for a number, a batch for a slice or an array.

        Raises:
            IndexError: No such row.
            TypeError: `index` is no whole number, and holds others.
        """
        if isinstance(index, slice):
            return self._gather(np.arange(len(self), dtype=np.int64)[index])
        if not isinstance(index, SupportsIndex) or isinstance(index, np.ndarray):
            return self._gather(self._numbers(index))
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        batch = self._gather(np.array([number % len(self)]))
        return {name: values[0] for name, values in batch.items()}

    def __getitems__(self, indices: Indices) -> list[Batch]:
        """Returns several rows, which reads less than one by one; PyTorch's and grain's loaders ask so."""
        batch = self._gather(self._numbers(indices))
        return [{name: values[i] for name, values in batch.items()} for i in range(len(indices))]

    def __iter__(self) -> Iterator[Batch]:
        """Row after row, each a batch without its first axis."""
        for batch in self.batches(1024):
            for i in range(len(batch["frame"])):
                yield {name: values[i] for name, values in batch.items()}

    def take(self, indices: Indices) -> Batch:
        """Returns the rows with these numbers, in this order; each row group they lie in is read once.

        Raises:
            InputError: A number outside 0..len-1, or none.
        """
        wanted = np.asarray(indices, np.int64)
        if wanted.ndim != 1 or len(wanted) == 0 or wanted.min() < 0 or wanted.max() >= len(self):
            there = (wanted >= 0) & (wanted < len(self))
            what = f"there is no row {wanted[~there][0]:,}; " if wanted.ndim == 1 and not there.all() else ""
            raise InputError(f"{what}expected row numbers from 0 to {len(self) - 1}, at least one")
        return self._gather(wanted)

    def shard(self, index: int, count: int, *, equal: bool = False) -> TokenDataset:
        """Returns the rows of one of several hosts: disjoint, all of them together, alike in number.

        Rows of a host follow one another, so that it reads few files. What is kept in memory is shared.

        Args:
            index: Of the host, from 0, as `jax.process_index()` gives it.
            count: Of hosts.
            equal: Leave out up to `count - 1` rows at the end, so that hosts that work in step end together;
                otherwise some have one row more.

        Raises:
            InputError: No such host, or fewer rows than hosts.
        """
        if not 0 <= index < count:
            raise InputError(f"shard {index} of {count}: expected 0 to {count - 1}")
        if count > len(self):
            raise InputError(f"{len(self)} rows can't be divided among {count} hosts")
        each, more = divmod(len(self), count)
        first = index * each + (0 if equal else min(index, more))
        rows = each + (0 if equal else index < more)
        return replace(self, rows=self.rows[first : first + rows])

    def order(self, seed: int, *, mixed: int = 128) -> NDArray[np.int64]:
        """Returns all row numbers in a random order in which each row group is decoded once.

        Row groups come in random order, and the rows of `mixed` of them at a time are shuffled together. It
        costs what reading in order costs, if that many fit into `cache_bytes`; a plain permutation decodes a
        row group for almost every row of a dataset that is larger than that.

        Args:
            seed: Of this epoch.
            mixed: Row groups that are shuffled together.

        Raises:
            InputError: `mixed` is below 1.
        """
        if mixed < 1:
            raise InputError(f"mixed is {mixed}, expected at least 1")
        rng = np.random.default_rng(seed)
        inside = self._groups.starts[np.searchsorted(self._groups.starts, self.rows.start, "right") :]
        cuts = np.clip(inside, None, self.rows.stop) - self.rows.start
        bounds = np.unique(np.concatenate([[0], cuts]))
        parts = [np.arange(*bounds[i : i + 2]) for i in rng.permutation(len(bounds) - 1)]
        windows = [np.concatenate(parts[i : i + mixed]) for i in range(0, len(parts), mixed)]
        return np.concatenate([rng.permutation(window) for window in windows])

    def batches(
        self, size: int, *, shards: Sequence[int] | None = None, drop_last: bool = False
    ) -> Iterator[Batch]:
        """Batches in the order of the dataset; memory holds some 4,096 rows and one batch.

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
            for table in self._tables(number):
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

    def _tables(self, shard: int) -> Iterator[pa.Table]:
        """Those rows of a shard that are ours, about `READ_ROWS` at a time."""
        groups, rows = self._groups, self.rows
        numbers = np.flatnonzero(groups.place[:, 0] == shard)
        first = int(numbers[0]) if len(numbers) else 0
        last = first + len(numbers)
        while first < last:
            stop = int(np.searchsorted(groups.starts, groups.starts[first] + READ_ROWS, "right")) - 1
            stop = min(max(stop, first + 1), last)
            begin, end = int(groups.starts[first]), int(groups.starts[stop])
            skip, until = max(rows.start - begin, 0), min(rows.stop, end) - begin
            if skip < until:
                yield groups.read(first, stop).slice(skip, until - skip)
            first = stop

    def _numbers(self, indices: Indices) -> NDArray[np.int64]:
        """Row numbers from 0 of what may count from the end."""
        given = np.asarray(indices)
        if given.ndim != 1 or (given.dtype.kind not in "iu" and len(given)):
            raise TypeError(f"row numbers are whole numbers in one axis, not {given.dtype} {given.shape}")
        wanted = given.astype(np.int64)
        outside = (wanted < -len(self)) | (wanted >= len(self))
        if outside.any():
            raise IndexError(f"row {wanted[outside][0]} of {len(self)}")
        return np.where(wanted < 0, wanted + len(self), wanted)

    def _gather(self, numbers: NDArray[np.int64]) -> Batch:
        """The rows with these numbers, put together from their row groups."""
        groups = self._groups
        wanted = numbers + self.rows.start
        of = np.searchsorted(groups.starts, wanted, "right") - 1
        order = np.argsort(of, kind="stable")
        cuts = np.flatnonzero(np.diff(of[order])) + 1
        columns: dict[str, NDArray[Any]] = {}
        for entry in groups.schema:
            if entry.name != TOKENS:
                wide = pa.types.is_fixed_size_list(entry.type)
                shape = (len(wanted), entry.type.list_size) if wide else (len(wanted),)
                kind = entry.type.value_type if wide else entry.type
                columns[entry.name] = np.empty(shape, kind.to_pandas_dtype())
        tokens = np.zeros((len(wanted), self.max_len), np.int32)
        lengths = np.zeros(len(wanted), np.int64)
        for places in np.split(order, cuts) if len(order) else ():
            number = int(of[places[0]])
            group = groups.get(number)
            local = wanted[places] - groups.starts[number]
            for name, values in columns.items():
                values[places] = group.columns[name][local]
            _put_tokens(tokens, lengths, places, group, local)
        return self._columns(columns, tokens, np.arange(self.max_len) < lengths[:, None])

    def _batch(self, table: pa.Table) -> Batch:
        columns = {}
        for name in table.column_names:
            if name != TOKENS:
                array = _array(table, name)
                wide = pa.types.is_fixed_size_list(array.type)
                columns[name] = _matrix(array) if wide else array.to_numpy()
        return self._columns(columns, *_padded(_array(table, TOKENS), self.max_len))

    def _columns(
        self, columns: dict[str, NDArray[Any]], tokens: NDArray[np.int32], mask: NDArray[np.bool_]
    ) -> Batch:
        batch: Batch = {name: columns[name] for name in ("episode", "frame", "task")}
        batch["tokens"], batch["mask"], batch["length"] = tokens, mask, columns["length"]
        if "state" in columns:
            batch["state"] = columns["state"]
        if (chunks := columns.get("actions")) is not None:
            batch["actions"] = chunks.reshape(len(chunks), self.horizon, chunks.shape[1] // self.horizon)
        if self.model is Family.PI0_FAST:
            prefix = columns["prefix_length"]
            suffix = mask & (np.arange(self.max_len) >= prefix[:, None])
            batch["ar_mask"], batch["loss_mask"] = suffix.astype(np.int32), suffix
            batch["prefix_length"], batch["clipped"] = prefix, columns["clipped"]
        return batch


def _shards(directory: Path, manifest: Manifest) -> list[Path]:
    return [directory / SHARDS / shard.file for shard in manifest.shards]


def _footers(files: Sequence[Path], manifest: Manifest, verify: bool) -> list[pq.FileMetaData]:
    """Every shard's footer, each shard as far as it is checked what the manifest says.

    Raises:
        FormatError: It isn't.
    """
    found = []
    for path, shard in zip(files, manifest.shards, strict=True):
        if not path.is_file():
            raise FormatError(f"{path} is missing; run the same `pioxide tokenize` again to make it")
        if path.stat().st_size != shard.bytes or (verify and sha256_of(path) != shard.sha256):
            raise FormatError(f"{path} is damaged; run the same `pioxide tokenize` again to repair it")
        try:
            with open_parquet(path, checksums=True) as file:
                footer = file.metadata
        except (OSError, pa.ArrowException) as error:
            raise FormatError(f"{path} can't be read: {error}") from error
        if footer.num_rows != shard.rows:
            raise FormatError(
                f"{path} has {footer.num_rows} rows, {FILE_NAME} says {shard.rows}: "
                "one of them was changed; make the directory anew"
            )
        found.append(footer)
    return found


def _put_tokens(
    tokens: NDArray[np.int32],
    lengths: NDArray[np.int64],
    places: NDArray[np.int64],
    group: RowGroup,
    local: NDArray[np.int64],
) -> None:
    """Writes a row group's ids to their rows of a batch."""
    begins, ends = group.offsets[local], group.offsets[local + 1]
    lengths[places] = ends - begins
    for place, begin, end in zip(places.tolist(), begins.tolist(), ends.tolist(), strict=True):
        tokens[place, : end - begin] = group.ids[begin:end]


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
