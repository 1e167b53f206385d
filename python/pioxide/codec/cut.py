"""Cuts a text model to what some texts need: the same ids in the same order, but fewer of them.

A network of a million parameters can't afford the 257,152 rows of PaliGemma's vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pioxide.codec.pieces import PIECE, PieceKind, fields, read_piece
from pioxide.codec.text import TextTokenizer
from pioxide.errors import InputError
from pioxide.family import FAST_SKIPPED_IDS

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
    kept: list[int] = []
    out = bytearray()
    piece = 0
    for number, raw, body in fields(tokenizer.to_bytes()):
        if number == PIECE:
            text, kind = read_piece(body)
            first = piece < 4 or kind not in (PieceKind.NORMAL, PieceKind.USER_DEFINED)
            if first or text in wanted or piece >= size - tail:
                kept.append(piece)
                out += raw
            piece += 1
        else:
            out += raw
    return CutTextModel(TextTokenizer.from_bytes(bytes(out)), tuple(kept))
