"""Record files of TFDS datasets: TFRecord with its checksums, and ArrayRecord. Bytes only, no meaning.

A TFRecord is its length (8 bytes), the length's checksum (4), the record, the record's checksum (4); a
checksum is CRC-32C, masked as TensorFlow does.
"""

from __future__ import annotations

import importlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pioxide.data.faults import fault, one_line
from pioxide.errors import DatasetError, InputError
from pioxide.files import mistaken_file

HEAD, TAIL = struct.Struct("<QI"), struct.Struct("<I")
# Protobuf holds no message of 2 GiB.
LARGEST = (1 << 31) - 1
FORMATS = ("tfrecord", "array_record")


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        content: Its bytes.
        at: Where they begin in a TFRecord file; an ArrayRecord file's record by its number.
    """

    content: bytes
    at: int


class Torn(DatasetError):
    """The rest of a file can't be read: where a record ends is not known."""


def read_records(root: Path, file: str, kind: str) -> Iterator[Record | DatasetError]:
    """Yields every record of a file, in order; in the place of a damaged one, what is wrong with it.

    Args:
        root: The dataset's directory.
        file: In it.
        kind: One of `FORMATS`.

    Yields:
        Records and faults; a `Torn` is the last.

    Raises:
        InputError: A package is missing.
    """
    try:
        yield from _tfrecord(root, file) if kind == "tfrecord" else _array_record(root, file)
    except (OSError, ValueError, RuntimeError) as error:
        yield _torn(file, mistaken_file(root / file) or f"can't be read ({one_line(error)})")


def read_record(path: Path, number: int) -> bytes:
    """Returns one record of an ArrayRecord file, without reading others."""
    reader = _array_reader(path)
    try:
        return reader.read([number])[0]
    finally:
        reader.close()


def _tfrecord(root: Path, file: str) -> Iterator[Record | DatasetError]:
    checksum = _masked_crc()
    with open(root / file, "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        at, number = 0, 0
        while at < size:
            head = opened.read(HEAD.size)
            if len(head) < HEAD.size:
                yield _torn(file, f"ends in the head of record {number}, at byte {size:,}")
                return
            length, said = HEAD.unpack(head)
            if checksum(head[:8]) != said:
                reason = mistaken_file(root / file) if number == 0 else ""
                yield _torn(file, reason or f"record {number} (byte {at:,}) has a damaged length (CRC)")
                return
            if length > LARGEST:
                yield _torn(
                    file, f"record {number} (byte {at:,}) says {length:,} bytes; protobuf holds 2 GiB"
                )
                return
            if at + HEAD.size + length + TAIL.size > size:
                yield _torn(file, f"ends in record {number}, which begins at byte {at:,}")
                return
            content = opened.read(length)
            tail = opened.read(TAIL.size)
            if len(content) < length or len(tail) < TAIL.size:
                yield _torn(file, f"became shorter while it was read, in record {number}")
                return
            if checksum(content) != TAIL.unpack(tail)[0]:
                yield fault(f"record {number} (byte {at:,}) is damaged: its CRC is another", file=file)
            else:
                yield Record(content, at + HEAD.size)
            at += HEAD.size + length + TAIL.size
            number += 1


def _array_record(root: Path, file: str) -> Iterator[Record | DatasetError]:
    reader = _array_reader(root / file)
    try:
        for number in range(reader.num_records()):
            try:
                yield Record(reader.read([number])[0], number)
            except (ValueError, RuntimeError, IndexError) as error:  # each with its own checksums
                yield fault(f"record {number} can't be read ({one_line(error)})", file=file)
    finally:
        reader.close()


def _torn(file: str, reason: str) -> Torn:
    made = Torn(f"{file}: {reason}")
    made.file = file
    return made


def _masked_crc() -> Any:
    try:
        value = importlib.import_module("google_crc32c").value
    except ImportError:
        raise InputError('TFRecord needs google-crc32c: pip install "pioxide[rlds]"') from None

    def masked(content: bytes) -> int:
        crc = value(content)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    return masked


def _array_reader(path: Path) -> Any:
    try:
        module: Any = importlib.import_module("array_record.python.array_record_module")
    except ImportError:
        raise InputError('ArrayRecord needs array-record: pip install "pioxide[rlds]"') from None
    return module.ArrayRecordReader(str(path))
