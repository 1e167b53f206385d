"""The pieces of a SentencePiece file: what each is, and which ids are text."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.codec.text import TextTokenizer

# The field of a model file that holds a piece; of a piece, its text, its score and its kind.
PIECE, _TEXT, _SCORE, _KIND = 1, 1, 2, 3
_VARINT, _BYTES, _FLOAT = 0, 2, 5  # how a field's value is written


class PieceKind(enum.IntEnum):
    """What a piece is, as the file numbers it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One piece of a vocabulary.

    Attributes:
        text: As it is written, a space as `▁`.
        kind: A `PieceKind`.
        score: Of two pairs that could be merged the one with the higher score is.
    """

    text: str
    kind: int
    score: float

    @classmethod
    def read(cls, body: bytes) -> Piece:
        """Reads one, of the bytes of its field."""
        text, kind, score = "", int(PieceKind.NORMAL), 0.0
        for number, _, value in fields(body):
            if number == _TEXT:
                text = value.decode("utf-8", "surrogateescape")
            elif number == _SCORE:
                (score,) = struct.unpack("<f", value)
            elif number == _KIND:
                kind = value[0]
        return cls(text, kind, score)


def encoded_piece(piece: Piece) -> bytes:
    """Returns the field of a model file that holds a piece; of a text of up to 100 bytes."""
    text = piece.text.encode()
    body = bytes([_TEXT << 3 | _BYTES, len(text)]) + text
    body += bytes([_SCORE << 3 | _FLOAT]) + struct.pack("<f", piece.score)
    body += bytes([_KIND << 3 | _VARINT, piece.kind])
    return bytes([PIECE << 3 | _BYTES, len(body)]) + body


def text_ids(tokenizer: TextTokenizer) -> NDArray[np.bool_]:
    """Returns [V] which ids are text: learnt pieces, bytes, and white space.

    Special ids are not, nor what a vocabulary's makers defined besides: `<loc0001>`, `<unused7>`, tags.

    >>> from pioxide.demo import text_model_path
    >>> tokenizer = TextTokenizer.load(text_model_path())
    >>> [bool(text_ids(tokenizer)[tokenizer.id(piece)]) for piece in ("▁red", "<0x0A>", "<eos>")]
    [True, True, False]
    """
    return np.array(
        [_is_text(Piece.read(body)) for number, _, body in fields(tokenizer.to_bytes()) if number == PIECE],
        np.bool_,
    )


def _is_text(piece: Piece) -> bool:
    if piece.kind == PieceKind.USER_DEFINED:
        return not piece.text.strip(" \n\t\r▁")
    return piece.kind in (PieceKind.NORMAL, PieceKind.BYTE)


def fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields number, all bytes and the value's bytes of each field of a protocol buffer."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == _BYTES:
            length, at = _varint(message, at)
            body, at = message[at : at + length], at + length
        elif wire == _VARINT:
            begin = at
            _, at = _varint(message, at)
            body = message[begin:at]
        else:
            width = {1: 8, _FLOAT: 4}[wire]
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
