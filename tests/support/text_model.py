"""A tiny SentencePiece model, written byte by byte: PaliGemma's make and special ids, a handful of pieces."""

import struct
from collections.abc import Iterator
from pathlib import Path

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
WORDS = ["▁t", "▁to", "he", "▁the", "in", "on", "ck", "ab", "ta", "ow", "el", "Ta", "St", "Act", "io", "ion"]
# Pieces that only FAST ids use: 128 that they skip, and room for a vocabulary of 1024 and more.
FILLERS = 1400


def write_text_model(path: Path, vocab_size: int | None = None) -> Path:
    """Writes the model, of so many ids where a network's vocabulary asks for more, and returns its path."""
    spelled = 5 + 256 + len(WORDS) + 1 + 94
    path.write_bytes(b"".join(_model(FILLERS if vocab_size is None else vocab_size - spelled)))
    return path


def _model(fillers: int) -> Iterator[bytes]:
    for text, kind in (("<pad>", CONTROL), ("<eos>", CONTROL), ("<bos>", CONTROL), ("<unk>", UNKNOWN)):
        yield _piece(text, 0.0, kind)
    for byte in range(256):
        yield _piece(f"<0x{byte:02X}>", 0.0, BYTE)
    yield _piece("\n", 0.0, USER_DEFINED)
    for rank, text in enumerate([*WORDS, "▁", *map(chr, range(33, 127))]):
        yield _piece(text, -float(rank), NORMAL)
    for i in range(fillers):
        yield _piece(f"<f{i}>", 0.0, USER_DEFINED)
    # trainer: BPE, byte fallback, and what the special pieces are called
    names = zip((45, 46, 47, 48), (b"<unk>", b"<bos>", b"<eos>", b"<pad>"), strict=True)
    yield _field(2, _number(3, 2) + _number(35, 1) + b"".join(_field(n, name) for n, name in names))
    # normaliser: identity, no dummy prefix, spaces kept and escaped
    yield _field(3, _field(1, b"identity") + _field(2, b"") + _number(3, 0) + _number(4, 0) + _number(5, 1))


def _piece(text: str, score: float, kind: int) -> bytes:
    return _field(1, _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind))


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
