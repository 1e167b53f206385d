"""The data files of a LeRobot dataset: rows of one Parquet file in bounded memory, Arrow columns as arrays.

A file is read in batches and cut where `episode_index` changes, so it makes no difference whether it holds
one episode (v2) or many (v3), in one row group or in one an episode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pioxide.data.episode import Episode, EpisodeInfo, Feature
from pioxide.data.faults import fault, one_line
from pioxide.errors import DatasetError

# Rows decoded at a time and bytes read at a time: with 26 joints twice a batch is 0.8 MB.
BATCH_ROWS = 4096
BUFFER_BYTES = 1 << 20
INDEX_COLUMNS = ("episode_index", "frame_index", "task_index")

Batches = list[pa.RecordBatch]


def episode_batches(
    root: Path, file: str, columns: Sequence[str], wanted: set[int]
) -> Iterator[tuple[int, Batches]]:
    """The rows of a file by episode, in the file's order; row groups without a wanted episode are not read.

    Args:
        root: the dataset.
        file: relative to it.
        columns: which to decode; `episode_index` is added.
        wanted: episode indices; rows of others are passed over.

    Yields:
        Episode index, and its rows as record batches.

    Raises:
        DatasetError: the file is missing, is no Parquet, lacks a column, or breaks off.
    """
    names = list(dict.fromkeys([*columns, *INDEX_COLUMNS]))
    try:
        with pq.ParquetFile(root / file, buffer_size=BUFFER_BYTES, pre_buffer=False) as parquet:
            present = parquet.schema_arrow.names
            missing = [name for name in names if name not in present]
            if missing:
                raise fault(f'has no column "{missing[0]}"', file=file)
            groups = _row_groups(parquet, wanted)
            batches = parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=names, use_threads=False)
            current, held = -1, []
            for batch in batches:
                for index, start, stop in _runs(file, batch.column("episode_index")):
                    if index != current:
                        if held:
                            yield current, held
                        current, held = index, []
                    if index in wanted:
                        held.append(batch.slice(start, stop - start))
            if held:
                yield current, held
    except FileNotFoundError as error:
        raise fault("no such file", file=file) from error
    except DatasetError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise fault(f"can't be read as Parquet ({one_line(error)})", file=file) from error


def build_episode(
    info: EpisodeInfo,
    batches: Batches,
    columns: Sequence[str],
    features: dict[str, Feature],
    tasks: dict[int, str],
) -> Episode:
    """Turn an episode's rows into arrays, checking all that can be wrong with them.

    Raises:
        DatasetError: another number of rows than the metadata says, frames out of order, a value that is
            missing, not finite or of another dimension (with frame and joint), or a task index that has no
            task.
    """
    rows = sum(batch.num_rows for batch in batches)
    if rows != info.length:
        raise _bad(info, f"has {rows} rows, the metadata says {info.length}")
    frame_index = _indices(info, batches, "frame_index")
    expected = np.arange(rows)
    if not np.array_equal(frame_index, expected):
        row = int(np.argmax(frame_index != expected))
        raise _bad(info, f"row {row} has frame_index {frame_index[row]}, frames must count from 0")
    task_index = _indices(info, batches, "task_index")
    for task in np.unique(task_index):
        if int(task) not in tasks:
            row = int(np.argmax(task_index == task))
            raise _bad(info, f"frame {row} has task_index {task}, and no such task is listed in meta/")
    arrays = {key: _column(info, batches, key, features[key]) for key in columns}
    return Episode(info, arrays, frame_index, task_index, tasks)


def _row_groups(parquet: pq.ParquetFile, wanted: set[int]) -> list[int]:
    """Row groups that may hold a wanted episode, judged by their min and max; all where a file keeps none."""
    metadata = parquet.metadata
    column = metadata.schema.names.index("episode_index")
    low, high = min(wanted), max(wanted)
    keep = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        if statistics is not None and statistics.has_min_max:
            first, last = statistics.min, statistics.max
            if last < low or first > high or not any(first <= index <= last for index in wanted):
                continue
        keep.append(group)
    return keep


def _runs(file: str, column: pa.Array) -> Iterator[tuple[int, int, int]]:
    """(episode, first row, row after the last) of each stretch of equal episode indices in a batch."""
    if column.null_count:
        raise fault("a row has no episode_index", file=file)
    indices = column.to_numpy(zero_copy_only=False)
    edges = [0, *(np.flatnonzero(np.diff(indices)) + 1).tolist(), len(indices)]
    for start, stop in pairwise(edges):
        if stop > start:
            yield int(indices[start]), start, stop


def _indices(info: EpisodeInfo, batches: Batches, key: str) -> NDArray[np.int64]:
    values = _column(info, batches, key, Feature("int64", (1,)))
    if not np.issubdtype(values.dtype, np.integer):
        raise _bad(info, f'"{key}" holds {values.dtype}, expected integers')
    return values.astype(np.int64, copy=False)


def _column(info: EpisodeInfo, batches: Batches, key: str, feature: Feature) -> NDArray:
    """[T] for plain numbers, [T, *shape] otherwise; checked for missing and non-finite values."""
    parts, frame = [], 0
    for batch in batches:
        parts.append(_numbers(info, key, batch.column(key), feature, frame))
        frame += batch.num_rows
    flat = np.concatenate(parts)  # copies, so that an episode doesn't keep its whole batch alive
    table = flat.reshape(info.length, feature.dim)
    if np.issubdtype(flat.dtype, np.floating) and not np.isfinite(flat).all():
        frame, joint = (int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise _bad(info, f'"{key}" frame {frame}, dimension {feature.label(joint)} is {table[frame, joint]}')
    return table.reshape(info.length, *feature.shape) if feature.shape not in ((), (1,)) else flat


def _numbers(info: EpisodeInfo, key: str, column: pa.Array, feature: Feature, frame: int) -> NDArray:
    """The values of one batch's column in one line, of which each row must have `feature.dim`."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    counts: NDArray[np.int64] | None = None  # numbers a row so far, while lists within lists are opened
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or _is_fixed(column.type):
        _no_nulls(info, key, column, frame, feature)
        lengths = (
            pc.call_function("list_value_length", [column]).to_numpy(zero_copy_only=False).astype(np.int64)
        )
        if counts is None:
            counts = lengths
        else:
            ends = np.concatenate([[0], np.cumsum(counts)])
            totals = np.concatenate([[0], np.cumsum(lengths)])
            counts = np.diff(totals[ends])
        column = column.flatten()
    if counts is None:
        counts = np.ones(len(column), np.int64)
    if np.any(counts != feature.dim):
        row = int(np.argmax(counts != feature.dim))
        raise _bad(info, f'"{key}" frame {frame + row} has {counts[row]} numbers, expected {feature.dim}')
    _no_nulls(info, key, column, frame, feature, per_row=feature.dim)
    if not (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_boolean(column.type)
    ):
        raise _bad(info, f'"{key}" holds {column.type}, expected numbers')
    return column.to_numpy(zero_copy_only=False)


def _is_fixed(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind)


def _no_nulls(
    info: EpisodeInfo, key: str, column: pa.Array, frame: int, feature: Feature, per_row: int | None = None
) -> None:
    if column.null_count == 0:
        return
    position = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
    if per_row is None:
        raise _bad(info, f'"{key}" has no value in frame {frame + position} or after')
    row, joint = divmod(position, per_row)
    raise _bad(info, f'"{key}" frame {frame + row}, dimension {feature.label(joint)} has no value')


def _bad(info: EpisodeInfo, reason: str) -> DatasetError:
    return fault(reason, file=info.file, episode=info.index)
