"""The pieces of a SentencePiece file: what each is, and which ids are text."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pioxide.codec.text import TextTokenizer

# The field of a model file that holds a piece; of a piece, its text and its kind.
PIECE, _TEXT, _KIND = 1, 1, 3


class PieceKind(enum.IntEnum):
    """What a piece is, as the file numbers it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def text_ids(tokenizer: TextTokenizer) -> NDArray[np.bool_]:
    """Returns [V] which ids are text: learnt pieces, bytes, and white space.

    Special ids are not, nor what a vocabulary's makers defined besides: `<loc0001>`, `<unused7>`, tags.

    >>> from pioxide.demo import text_model_path
    >>> tokenizer = TextTokenizer.load(text_model_path())
    >>> [bool(text_ids(tokenizer)[tokenizer.id(piece)]) for piece in ("▁red", "<0x0A>", "<eos>")]
    [True, True, False]
    """
    return np.array(
        [_is_text(*read_piece(body)) for number, _, body in fields(tokenizer.to_bytes()) if number == PIECE],
        np.bool_,
    )


def _is_text(text: str, kind: int) -> bool:
    if kind == PieceKind.USER_DEFINED:
        return not text.strip(" \n\t\r▁")
    return kind in (PieceKind.NORMAL, PieceKind.BYTE)


def read_piece(body: bytes) -> tuple[str, int]:
    """Returns a piece's text and its kind, of the bytes of its field."""
    text, kind = "", int(PieceKind.NORMAL)
    for number, _, value in fields(body):
        if number == _TEXT:
            text = value.decode("utf-8", "surrogateescape")
        elif number == _KIND:
            kind = value[0]
    return text, kind


def fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields number, all bytes and the value's bytes of each field of a protocol buffer."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 2:
            length, at = _varint(message, at)
            body, at = message[at : at + length], at + length
        elif wire == 0:
            begin = at
            _, at = _varint(message, at)
            body = message[begin:at]
        else:
            width = {1: 8, 5: 4}[wire]
            body, at = message[at : at + width], at + width
        yield tag >> 3, message[start:at], body


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
