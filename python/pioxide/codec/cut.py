"""Cuts a text model to what some texts need: the same ids in the same order, but fewer of them.

A network of a million parameters can't afford the 257,152 rows of PaliGemma's vocabulary.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from pioxide.codec.pieces import PIECE, Piece, PieceKind, encoded_piece, fields
from pioxide.codec.state import STATE_BINS
from pioxide.codec.text import TextTokenizer
from pioxide.errors import InputError
from pioxide.family import FAST_SKIPPED_IDS

# What prompts are written with besides words.
_LAYOUTS = ("{}\n", "Task: {}, State: 0 -1;\nAction: |", "Task: {}, State: 0 -1;\n")
# Of a state.
NUMBERS = range(-1, STATE_BINS)
_PRINTABLE = "".join(map(chr, range(33, 127))) + "\n▁"


class CutTextModel(NamedTuple):
    """A text model and where its ids come from.

    Attributes:
        tokenizer: The smaller one.
        kept: The id in the larger vocabulary of each of its ids, in order; None for one that is new.
    """

    tokenizer: TextTokenizer
    kept: tuple[int | None, ...]


def cut_text_model(
    tokenizer: TextTokenizer, texts: Iterable[str], *, fast_tokens: int = 0, whole_numbers: bool = False
) -> CutTextModel:
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
        whole_numbers: Whether each number of a state (-1 to 255, behind a space) becomes one piece, where
            PaliGemma's vocabulary has one a digit. A network that starts from noise and small learns what 256
            pieces mean long before it learns to read digits.

    Raises:
        InputError: The vocabulary has no room for so many FAST tokens; or it sets digits apart that belong
            together.
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
    model = list(fields(tokenizer.to_bytes()))
    pieces = [Piece.read(body) for number, _, body in model if number == PIECE]
    raw = [raw for number, raw, _ in model if number == PIECE]
    chosen = [id for id, piece in enumerate(pieces) if id < 4 or id >= size - tail or _stays(piece, wanted)]
    new = _number_pieces({pieces[id].text for id in chosen}, pieces) if whole_numbers else []
    head = sum(id < size - tail for id in chosen)
    kept = (*chosen[:head], *(None for _ in new), *chosen[head:])
    written = [
        *(raw[id] for id in chosen[:head]),
        *(encoded_piece(piece) for piece in new),
        *(raw[id] for id in chosen[head:]),
        *(other for number, other, _ in model if number != PIECE),
    ]
    cut = TextTokenizer.from_bytes(b"".join(written))
    if new and any(len(cut.encode(f" {number}")) != 1 for number in NUMBERS):
        raise InputError(
            "whole_numbers: the vocabulary has pieces of digits that nothing joins; leave it out"
        )
    return CutTextModel(cut, kept)


def _stays(piece: Piece, wanted: Container[str]) -> bool:
    """Returns whether a piece is kept: what is wanted, and all that is no text."""
    return piece.text in wanted or piece.kind not in (PieceKind.NORMAL, PieceKind.USER_DEFINED)


def _number_pieces(there: Container[str], pieces: Iterable[Piece]) -> list[Piece]:
    """Returns a piece for each number that has none, merged after all others: `▁1`, `▁12`, `▁128`."""
    lowest = min(piece.score for piece in pieces)
    texts = [text for text in ("▁-", *(f"▁{number}" for number in NUMBERS)) if text not in there]
    return [Piece(text, PieceKind.NORMAL, lowest - 1 - rank) for rank, text in enumerate(texts)]
