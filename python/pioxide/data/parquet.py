"""Opens Parquet files, whatever bytes their names are: pyarrow takes names that are UTF-8 only."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq


def open_parquet(
    path: Path,
    *,
    buffer_size: int = 0,
    checksums: bool = False,
    footer: pq.FileMetaData | None = None,
    memory_map: bool = False,
) -> pq.ParquetFile:
    """Returns an open file; close it, or use it in a `with`.

    Args:
        path: of the file.
        buffer_size: bytes read at a time; 0 reads a column's part of a row group at a go.
        checksums: whether pages with a checksum are checked.
        footer: of the file, where it was read before; opening takes a tenth of the time then.
        memory_map: whether the file is mapped into memory in place of being read.

    Raises:
        OSError, pyarrow.ArrowException: it can't be opened, or is no Parquet file.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        handle = os.open(path, os.O_RDONLY)
        try:
            return _open(f"/dev/fd/{handle}", buffer_size, checksums, footer, memory_map)
        finally:
            os.close(handle)
    return _open(str(path), buffer_size, checksums, footer, memory_map)


def _open(
    name: str, buffer_size: int, checksums: bool, footer: pq.FileMetaData | None, memory_map: bool
) -> pq.ParquetFile:
    return pq.ParquetFile(
        name,
        metadata=footer,
        buffer_size=buffer_size,
        memory_map=memory_map,
        pre_buffer=False,
        page_checksum_verification=checksums,
    )
