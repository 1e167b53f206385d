"""Cuts a text model to what some texts need: the same ids in the same order, but fewer of them.

A network of a million parameters can't afford the 257,152 rows of PaliGemma's vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pioxide.codec.text import TextTokenizer
from pioxide.errors import InputError
from pioxide.family import FAST_SKIPPED_IDS

# Kinds of pieces in a SentencePiece file that are not learnt text.
_NORMAL = 1
_PIECE, _TEXT, _KIND = 1, 1, 3
# What prompts are written with besides words.
_LAYOUTS = ("{}\n", "Task: {}, State: 0 -1;\nAction: |", "Task: {}, State: 0 -1;\n")
_PRINTABLE = "".join(map(chr, range(33, 127))) + "\n▁"


class CutTextModel(NamedTuple):
    """A text model and where its ids come from.

    Attributes:
        tokenizer: The smaller one.
        kept: The id in the larger vocabulary of each of its ids, in order.
    """

    tokenizer: TextTokenizer
    kept: tuple[int, ...]


def cut_text_model(tokenizer: TextTokenizer, texts: Iterable[str], *, fast_tokens: int = 0) -> CutTextModel:
    """Returns a text model that writes these texts with the same pieces, and any other text somehow.

    Kept are special ids, bytes, single printable characters, each piece that a text is written with and all
    pieces inside one (which merging passes through), and at the end so many ids as FAST tokens take.

    >>> from pioxide.demo import text_model_path
    >>> whole = TextTokenizer.load(text_model_path())
    >>> cut, kept = cut_text_model(whole, ["pick up the red cube"], fast_tokens=64)
    >>> [cut.piece(id) for id in cut.encode("pick up the red cube")]
    ['pick', '▁up', '▁the', '▁red', '▁cube']
    >>> cut.vocab_size < whole.vocab_size, whole.piece(kept[500]) == cut.piece(500)
    (True, True)

    Args:
        tokenizer: The larger one.
        texts: Instructions; kept is what every model's prompt of them holds.
        fast_tokens: FAST ids of the action tokenizer; 0 for π0 and π0.5.

    Raises:
        InputError: The vocabulary has no room for so many FAST tokens.
    """
    size = tokenizer.vocab_size
    tail = fast_tokens + FAST_SKIPPED_IDS if fast_tokens else 0
    if tail > size:
        raise InputError(f"fast_tokens: {fast_tokens} and the {FAST_SKIPPED_IDS} behind them are over {size}")
    cased = {form for text in texts for form in (text, text.lower())}
    written = [layout.format(text) for layout in _LAYOUTS for text in sorted(cased)]
    used = {tokenizer.piece(id) for text in written for id in tokenizer.encode(text)}
    inside = {piece[i:j] for piece in used for i in range(len(piece)) for j in range(i + 1, len(piece) + 1)}
    wanted = inside | set(_PRINTABLE)
    fields = list(_fields(tokenizer.to_bytes()))
    kept: list[int] = []
    out = bytearray()
    piece = 0
    for number, raw, body in fields:
        if number == _PIECE:
            text, kind = _read_piece(body)
            first = piece < 4 or kind not in (_NORMAL, 4)
            if first or text in wanted or piece >= size - tail:
                kept.append(piece)
                out += raw
            piece += 1
        else:
            out += raw
    return CutTextModel(TextTokenizer.from_bytes(bytes(out)), tuple(kept))


def _read_piece(body: bytes) -> tuple[str, int]:
    text, kind = "", _NORMAL
    for number, _, value in _fields(body):
        if number == _TEXT:
            text = value.decode("utf-8", "surrogateescape")
        elif number == _KIND:
            kind = value[0]
    return text, kind


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
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
