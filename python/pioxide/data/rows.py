"""The data files of a LeRobot dataset: rows of one Parquet file in bounded memory, and episodes of them.

A file is read in batches and cut where `episode_index` changes, so it makes no difference whether it holds
one episode (v2) or many (v3), in one row group or in one an episode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pioxide.data.decode import Batches, bad, column_of, indices_of
from pioxide.data.episode import Episode, EpisodeInfo, Feature
from pioxide.data.faults import fault, unreadable
from pioxide.data.parquet import open_parquet
from pioxide.data.tasks import Instructions, texts_of
from pioxide.errors import DatasetError

# Rows decoded at a time and bytes read at a time: with 26 joints twice a batch is 0.8 MB.
BATCH_ROWS = 4096
BUFFER_BYTES = 1 << 20
INDEX_COLUMNS = ("episode_index", "frame_index", "task_index")
ORDER_COLUMNS = ("timestamp", "index")
# Files whose row groups' episodes are remembered.
KEPT_SPANS = 4096


class FileRows:
    """The rows of one file by episode, in the file's order; row groups without a wanted episode are not read.

    Iterating gives the episode's index and its rows as record batches, or the reason why they can't be read.
    Where a page is broken, its row group is lost from there on and the others are read: each is read at most
    twice, however many episodes the file holds.

    Attributes:
        lost: why a part of the file could not be read, None where all of it could. Episodes of which rows are
            missing then miss them because of that.
    """

    def __init__(
        self, root: Path, file: str, columns: Sequence[str], wanted: set[int], optional: Sequence[str] = ()
    ) -> None:
        """Start.

        Args:
            root: the dataset.
            file: relative to it.
            columns: which to decode; the index columns that the file has are added.
            wanted: episode indices; rows of others are passed over.
            optional: columns to decode where the file has them.
        """
        self.root, self.file, self.columns, self.wanted = root, file, columns, wanted
        self.optional = optional
        self.lost: DatasetError | None = None

    def __iter__(self) -> Iterator[tuple[int, Batches]]:
        """Give each episode's rows.

        Raises:
            DatasetError: the file is missing, is no Parquet, or lacks a column.
        """
        if not (self.root / self.file).is_file():
            raise unreadable(self.root, self.file, FileNotFoundError())
        try:
            with _opened(self.root / self.file) as parquet:
                names = self._names(parquet)
                groups = _row_groups(self.root / self.file, parquet, self.wanted)
                yield from self._read(parquet, names, groups)
        except DatasetError:
            raise
        except (OSError, pa.ArrowException, ValueError) as error:
            raise unreadable(self.root, self.file, error) from error

    def _names(self, parquet: pq.ParquetFile) -> list[str]:
        present = parquet.schema_arrow.names
        missing = [name for name in self.columns if name not in present]
        if missing:
            raise fault(f'has no column "{missing[0]}"', file=self.file)
        added = INDEX_COLUMNS if "frame_index" in present else INDEX_COLUMNS + ORDER_COLUMNS
        added = (*self.optional, *added)
        return list(dict.fromkeys([*self.columns, *(name for name in added if name in present)]))

    def _read(
        self, parquet: pq.ParquetFile, names: list[str], groups: list[int]
    ) -> Iterator[tuple[int, Batches]]:
        """All groups at a go, which is fastest; where they break off, the rest group by group."""
        given: set[int] = set()
        try:
            for index, rows in self._episodes(parquet, names, [groups]):
                given.add(index)
                yield index, rows
        except (OSError, pa.ArrowException) as error:
            self.lost = unreadable(self.root, self.file, error)
        else:
            return
        for index, rows in self._episodes(parquet, names, [[group] for group in groups], torn=True):
            if index not in given:
                yield index, rows

    def _episodes(
        self, parquet: pq.ParquetFile, names: list[str], reads: list[list[int]], torn: bool = False
    ) -> Iterator[tuple[int, Batches]]:
        current, held = -1, []
        for groups in reads:
            batches = parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=names, use_threads=False)
            try:
                for batch in batches:
                    for index, start, stop in self._runs(batch):
                        if index != current:
                            if held:
                                yield current, held
                            current, held = index, []
                        if index in self.wanted:
                            held.append(batch.slice(start, stop - start))
            except (OSError, pa.ArrowException):
                if not torn:
                    raise
        if held:
            yield current, held

    def _runs(self, batch: pa.RecordBatch) -> Iterator[tuple[int, int, int]]:
        """(episode, first row, row after the last) of each stretch of equal episode indices in a batch."""
        if "episode_index" in batch.schema.names:
            yield from _runs(self.file, batch.column("episode_index"))
        elif len(self.wanted) == 1:  # only a file of one episode can do without
            yield next(iter(self.wanted)), 0, batch.num_rows
        else:
            raise fault('has no column "episode_index"', file=self.file)


def build_episode(
    info: EpisodeInfo,
    batches: Batches,
    columns: Sequence[str],
    features: dict[str, Feature],
    instructions: Instructions,
) -> Episode:
    """Turns an episode's rows into arrays, checking all that can be wrong with them.

    Raises:
        DatasetError: another number of rows than the metadata says, frames out of order, a value that is
            missing, not finite or of another dimension (with frame and joint), or a task index that has no
            task.
    """
    rows = sum(batch.num_rows for batch in batches)
    if rows != info.length:
        raise bad(info, f"has {rows} rows, the metadata says {info.length}")
    present = batches[0].schema.names
    expected = np.arange(rows)
    if "frame_index" in present:
        frame_index = indices_of(info, batches, "frame_index")
        if not np.array_equal(frame_index, expected):
            row = int(np.argmax(frame_index != expected))
            raise bad(info, f"row {row} has frame_index {frame_index[row]}, frames must count from 0")
    else:
        frame_index = expected
        _check_order(info, batches)
    task_index, filled = instructions.of_frames(info, batches)
    arrays = {key: column_of(info, batches, key, features[key]) for key in columns if key in present}
    needed = ("frame_index", "task_index") if instructions.plain else ("frame_index",)
    derived = tuple(name for name in needed if name not in present)
    return Episode(info, arrays, frame_index, task_index, instructions.tasks, derived, filled)


def episodes_in(path: Path) -> frozenset[int]:
    """Returns the episodes that have rows in a file; none where it can't be read."""
    try:
        with _opened(path) as parquet:
            spans = _spans(path, parquet)
            found: set[int] = set()
            for group, span in enumerate(spans):
                if span is not None:
                    found.update(_indices_of(parquet, group).tolist())
            return frozenset(found)
    except (OSError, pa.ArrowException, ValueError):
        return frozenset()


def column_texts(root: Path, files: Sequence[str], key: str) -> list[str]:
    """Returns the different texts of a column in the order in which they come; unreadable files have none."""
    found: dict[str, None] = {}
    for file in files:
        try:
            with _opened(root / file) as parquet:
                if key not in parquet.schema_arrow.names:
                    continue
                for batch in parquet.iter_batches(BATCH_ROWS, columns=[key], use_threads=False):
                    column = batch.column(0)
                    texts = texts_of(column.unique() if _is_text(column) else column)
                    found.update((text, None) for text in texts if text is not None)
        except (OSError, pa.ArrowException, ValueError):
            continue  # its episodes are told of when they are read
    return list(found)


def _is_text(column: pa.Array) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


def _opened(path: Path) -> pq.ParquetFile:
    return open_parquet(path, buffer_size=BUFFER_BYTES)


def _row_groups(path: Path, parquet: pq.ParquetFile, wanted: set[int]) -> list[int]:
    """Row groups that may hold a wanted episode, judged by the first and last episode in each.

    The statistics in the file's footer would tell without reading, but pyarrow ends the whole process where
    one bit of them is wrong.
    """
    every = list(range(parquet.num_row_groups))
    if len(every) < 2:
        return every
    spans = _spans(path, parquet)
    keep = [
        group
        for group in every
        if (span := spans[group]) is None or any(span[0] <= index <= span[1] for index in wanted)
    ]
    return keep or every[:1]


Spans = tuple[tuple[int, int] | None, ...]
_known_spans: dict[tuple[str, int, int], Spans] = {}


def _spans(path: Path, parquet: pq.ParquetFile) -> Spans:
    """First and last episode of each row group, None where that can't be read; kept for as long as we run."""
    state = path.stat()
    key = str(path), state.st_size, state.st_mtime_ns
    if key not in _known_spans:
        spans: list[tuple[int, int] | None] = []
        for group in range(parquet.num_row_groups):
            try:
                indices = _indices_of(parquet, group)
                spans.append((int(indices.min()), int(indices.max())))
            except (OSError, pa.ArrowException, ValueError):
                spans.append(None)
        if len(_known_spans) >= KEPT_SPANS:
            _known_spans.clear()
        _known_spans[key] = tuple(spans)
    return _known_spans[key]


def _indices_of(parquet: pq.ParquetFile, group: int) -> NDArray[np.int64]:
    """The `episode_index` of a row group.

    Raises:
        OSError, pa.ArrowException, ValueError: it has none, or none that are numbers.
    """
    if "episode_index" not in parquet.schema_arrow.names:
        raise ValueError("no episode_index")
    table = parquet.read_row_group(group, columns=["episode_index"], use_threads=False)
    return table["episode_index"].to_numpy().astype(np.int64)


def _check_order(info: EpisodeInfo, batches: Batches) -> None:
    """Without `frame_index`, rows count as frames in their order if nothing says that they are not."""
    for key in ORDER_COLUMNS:
        if key in batches[0].schema.names:
            values = column_of(info, batches, key, Feature("float64", (1,)))
            if np.any(np.diff(values) <= 0):
                row = int(np.argmax(np.diff(values) <= 0)) + 1
                raise bad(info, f"has no frame_index, and {key} does not rise at row {row}")
            return


def _runs(file: str, column: pa.Array) -> Iterator[tuple[int, int, int]]:
    """(episode, first row, row after the last) of each stretch of equal episode indices in a batch."""
    if column.null_count:
        raise fault("a row has no episode_index", file=file)
    indices = column.to_numpy(zero_copy_only=False)
    edges = [0, *(np.flatnonzero(np.diff(indices)) + 1).tolist(), len(indices)]
    for start, stop in pairwise(edges):
        if stop > start:
            yield int(indices[start]), start, stop
