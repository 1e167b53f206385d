"""`tf.train.Example` taken apart without TensorFlow: where each feature's values lie, and the values.

The message is `Features` (field 1) of a map from a name to a list of bytes, floats or integers, one a step
where the feature is of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import FormatError

# Wire types of protobuf.
VARINT, I64, LENGTH, I32 = 0, 1, 2, 5


class Kind(IntEnum):
    """Which list a feature is, by its field's number."""

    BYTES = 1
    FLOATS = 2
    INTEGERS = 3


class Span(NamedTuple):
    """Where a piece of a record lies."""

    start: int
    stop: int


class Values(NamedTuple):
    """A feature of a record, not taken apart yet; `kind` is None where it is empty."""

    kind: Kind | None
    span: Span


def features_of(record: bytes) -> dict[str, Values]:
    """Returns where every feature lies; values are not looked at.

    Raises:
        FormatError: It is no Example.
    """
    found: dict[str, Values] = {}
    for _, features in _messages(record, Span(0, len(record)), 1):
        for _, entry in _messages(record, features, 1):
            name, values = "", Values(None, Span(0, 0))
            for part, span in _messages(record, entry, 1, 2):
                if part == 1:
                    name = _text(record[span.start : span.stop])
                    continue
                for kind, inside in _messages(record, span, *Kind):
                    if values.kind is not None:
                        raise FormatError(f"is no Example (a feature has two lists, at byte {inside.start})")
                    values = Values(Kind(kind), inside)
            found[name] = values
    return found


def bytes_of(record: bytes, values: Values) -> list[Span]:
    """Returns where each of a feature's texts or pictures lies.

    Raises:
        FormatError: It holds numbers, or is torn.
    """
    if values.kind is None:
        return []
    if values.kind is not Kind.BYTES:
        raise FormatError(f"holds {values.kind.name.lower()}, expected bytes")
    return [span for _, span in _messages(record, values.span, 1)]


def numbers_of(record: bytes, values: Values) -> NDArray[np.float32] | NDArray[np.int64]:
    """Returns a feature's numbers in a row.

    Raises:
        FormatError: It holds bytes, or is torn.
    """
    if values.kind is None:
        return np.zeros(0, np.float32)
    if values.kind is Kind.BYTES:
        raise FormatError("holds bytes, expected numbers")
    # Numbers that are not packed are each a field of its own, whose bytes are those that packed ones have.
    alone = I32 if values.kind is Kind.FLOATS else VARINT
    spans = [span for _, span in _known(record, values.span, (1,), (LENGTH, alone))]
    content = b"".join(record[span.start : span.stop] for span in spans)
    if values.kind is Kind.INTEGERS:
        return _varints(content)
    if len(content) % 4:
        raise FormatError("ends in the middle of a number")
    return np.frombuffer(content, "<f4").astype(np.float32)


def _messages(record: bytes, within: Span, *numbers: int) -> Iterator[tuple[int, Span]]:
    """Fields of these numbers, which are messages or texts; others are passed over, as protobuf does."""
    return _known(record, within, numbers, (LENGTH,))


def _known(
    record: bytes, within: Span, numbers: Sequence[int], wires: Sequence[int]
) -> Iterator[tuple[int, Span]]:
    for number, wire, span in _fields(record, within):
        if number not in numbers:
            continue
        if wire not in wires:
            expected = " or ".join(map(str, wires))
            place = f"field {number} at byte {span.start}"
            raise FormatError(f"is no Example ({place} has wire type {wire}, expected {expected})")
        yield number, span


def _fields(record: bytes, within: Span) -> Iterator[tuple[int, int, Span]]:
    """Number, wire type and content of each field of a message."""
    at, stop = within
    while at < stop:
        tag, at = _varint(record, at, stop)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise FormatError(f"is no Example (a field without a number at byte {at})")
        if wire == LENGTH:
            size, at = _varint(record, at, stop)
        elif wire == VARINT:
            size = _varint(record, at, stop)[1] - at
        elif wire in (I64, I32):
            size = 8 if wire == I64 else 4
        else:
            raise FormatError(f"is no Example (wire type {wire} at byte {at})")
        if at + size > stop:
            raise FormatError(f"is no Example (a field of {size} bytes at byte {at} leads past its end)")
        yield number, wire, Span(at, at + size)
        at += size


def _varint(record: bytes, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = record[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise FormatError(f"is no Example (an integer is torn at byte {at})")


def _varints(content: bytes) -> NDArray[np.int64]:
    raw = np.frombuffer(content, np.uint8)
    if not len(raw):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(raw < 128)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    if not len(ends) or ends[-1] != len(raw) - 1 or (ends - starts > 9).any():
        raise FormatError("holds an integer that is torn")
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    parts = (raw & np.uint8(127)).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"is no Example (a name that is not UTF-8: {content[:40]!r})") from error
