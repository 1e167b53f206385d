"""Row groups of token shards, decoded to NumPy: read by number, kept within a bound, safe between threads.

A row group is the least that Parquet decodes, so whoever asks for rows anywhere pays for one; those that were
used last are kept. Files are mapped into memory, and opened for each read with the footer that is known.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pioxide.data.parquet import open_parquet
from pioxide.errors import FormatError

TOKENS = "tokens"


@dataclass(frozen=True)
class RowGroup:
    """Some consecutive rows of a shard, n of them.

    Attributes:
        columns: All but the ids: [n] whole numbers, or [n, W] vectors.
        offsets: [n + 1] where each row's ids begin.
        ids: Of all rows.
        nbytes: Memory.
    """

    columns: dict[str, NDArray[Any]]
    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]
    nbytes: int

    @classmethod
    def of(cls, table: pa.Table) -> RowGroup:
        """Returns a decoded table as arrays, without copying where it is in one piece."""
        columns: dict[str, NDArray[Any]] = {}
        offsets = ids = np.zeros(0, np.int32)
        for name in table.column_names:
            column = table[name].combine_chunks()
            array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
            if name == TOKENS:
                offsets = array.offsets.to_numpy()
                ids = array.values.to_numpy()
            elif pa.types.is_fixed_size_list(array.type):
                # flatten() respects a slice's offset, .values does not.
                columns[name] = array.flatten().to_numpy().reshape(len(array), array.type.list_size)
            else:
                columns[name] = array.to_numpy()
        return cls(columns, offsets, ids, table.nbytes)


class RowGroups:
    """All row groups of a token directory by number, and the ones used last in memory.

    May be pickled: what is kept stays behind. A process that was forked begins with nothing kept, too.

    Attributes:
        files: The shards.
        footers: Of each, so that it opens fast.
        starts: [G + 1] first row of each group in the whole, and the number of rows.
        place: [G, 2] each group's shard, and its number there.
        schema: Of every shard.
        cache_bytes: How much may be kept.
    """

    def __init__(self, files: Sequence[Path], footers: Sequence[pq.FileMetaData], cache_bytes: int):
        """Takes the shards with their footers, in order."""
        rows: list[int] = []
        place: list[tuple[int, int]] = []
        for number, footer in enumerate(footers):
            for group in range(footer.num_row_groups):
                rows.append(footer.row_group(group).num_rows)
                place.append((number, group))
        self.files = list(files)
        self.footers = list(footers)
        self.starts: NDArray[np.int64] = np.cumsum([0, *rows], dtype=np.int64)
        self.place: NDArray[np.int64] = np.array(place, np.int64).reshape(-1, 2)
        schema: pa.Schema = footers[0].schema.to_arrow_schema()
        self.schema = schema
        self.cache_bytes = cache_bytes
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what other processes need; not what is kept."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begins with nothing kept."""
        vars(self).update(state)
        self._forget()

    def get(self, number: int) -> RowGroup:
        """Returns one row group, from memory where it is kept.

        Raises:
            FormatError: The shard can't be read.
        """
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            if (kept := self._kept.get(number)) is not None:
                self._kept.move_to_end(number)
                return kept
        group = RowGroup.of(self.read(number, number + 1))
        with self._lock:
            if number not in self._kept and group.nbytes <= self.cache_bytes:
                self._kept[number] = group
                self._bytes += group.nbytes
                while self._bytes > self.cache_bytes:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return group

    def read(self, first: int, stop: int) -> pa.Table:
        """Returns consecutive row groups of one shard, decoded anew.

        Raises:
            FormatError: The shard can't be read, or was changed since it was opened.
        """
        shard, inside = self.place[first]
        path = self.files[shard]
        wanted = list(range(int(inside), int(inside) + stop - first))
        try:
            with open_parquet(path, checksums=True, footer=self.footers[shard], memory_map=True) as file:
                return file.read_row_groups(wanted, use_threads=stop - first > 1)
        except (OSError, pa.ArrowException) as error:
            raise FormatError(f"{path} can't be read: {error}") from error

    def _forget(self) -> None:
        self._kept: OrderedDict[int, RowGroup] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._process = os.getpid()
