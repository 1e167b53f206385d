"""Arrow columns of one episode -> arrays, checked value by value; a fault names episode, frame and joint."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pioxide.data.episode import EpisodeInfo, Feature
from pioxide.data.faults import fault
from pioxide.errors import DatasetError

Batches = list[pa.RecordBatch]


def indices_of(info: EpisodeInfo, batches: Batches, key: str) -> NDArray[np.int64]:
    """Returns whole numbers [T] of a column.

    Raises:
        DatasetError: it holds something else, or a value is missing.
    """
    values = column_of(info, batches, key, Feature("int64", (1,)))
    if not np.issubdtype(values.dtype, np.integer):
        raise bad(info, f'"{key}" holds {values.dtype}, expected integers')
    return values.astype(np.int64, copy=False)


def column_of(info: EpisodeInfo, batches: Batches, key: str, feature: Feature) -> NDArray:
    """Returns [T] for plain numbers, [T, *shape] otherwise; checked for missing and non-finite values."""
    parts, frame = [], 0
    for batch in batches:
        parts.append(_numbers(info, key, batch.column(key), feature, frame))
        frame += batch.num_rows
    flat = np.concatenate(parts)  # copies, so that an episode doesn't keep its whole batch alive
    table = flat.reshape(info.length, feature.dim)
    if np.issubdtype(flat.dtype, np.floating) and not np.isfinite(flat).all():
        frame, joint = (int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise bad(info, f'"{key}" frame {frame}, dimension {feature.label(joint)} is {table[frame, joint]}')
    return table.reshape(info.length, *feature.shape) if feature.shape not in ((), (1,)) else flat


def _numbers(info: EpisodeInfo, key: str, column: pa.Array, feature: Feature, frame: int) -> NDArray:
    """The values of one batch's column in one line, of which each row must have `feature.dim`."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    leaf = column.type
    while pa.types.is_list(leaf) or pa.types.is_large_list(leaf) or _is_fixed(leaf):
        leaf = leaf.value_type
    if pa.types.is_null(leaf):
        raise bad(info, f'"{key}" holds no values at all, expected numbers')
    if not (pa.types.is_integer(leaf) or pa.types.is_floating(leaf) or pa.types.is_boolean(leaf)):
        raise bad(info, f'"{key}" holds {_short(leaf)}, expected numbers')
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
        raise bad(info, f'"{key}" frame {frame + row} has {counts[row]} numbers, expected {feature.dim}')
    _no_nulls(info, key, column, frame, feature, per_row=feature.dim)
    return column.to_numpy(zero_copy_only=False)


def _short(kind: pa.DataType) -> str:
    text = str(kind)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _is_fixed(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind)


def _no_nulls(
    info: EpisodeInfo, key: str, column: pa.Array, frame: int, feature: Feature, per_row: int | None = None
) -> None:
    if column.null_count == 0:
        return
    position = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
    if per_row is None:
        raise bad(info, f'"{key}" has no value in frame {frame + position} or after')
    row, joint = divmod(position, per_row)
    raise bad(info, f'"{key}" frame {frame + row}, dimension {feature.label(joint)} has no value')


def bad(info: EpisodeInfo, reason: str) -> DatasetError:
    """Returns a fault of an episode, to raise."""
    return fault(reason, file=info.file, episode=info.index)
