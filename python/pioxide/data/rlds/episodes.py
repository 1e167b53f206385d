"""One record of an RLDS dataset -> one episode: its numbers, its instructions, where its pictures lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.data.rlds.example import Span, Values, bytes_of, features_of, numbers_of
from pioxide.data.rlds.layout import STEPS, Leaf, RldsDirectory
from pioxide.data.rlds.mapping import CheckedMapping
from pioxide.data.rlds.records import Record
from pioxide.errors import FormatError

# Where a picture lies: in a TFRecord file at byte `at`; in ArrayRecord at byte `inner` of record `at`.
PLACE = np.dtype([("at", "<u8"), ("inner", "<u4"), ("size", "<u4")])
# How pictures begin that TFDS writes.
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG"
# Added to an episode's number for what is drawn: another one would draw otherwise.
TEXT_DRAW, CAMERA_DRAW = 1, 3


@dataclass(frozen=True)
class Steps:
    """An episode of T steps.

    Attributes:
        state: [T, S] float32, or float64 where one of its features has whole numbers that float32 may round.
        actions: [T, D], likewise.
        texts: T instructions.
        pictures: By camera, [T] of `PLACE`.
        said: What the record says of the whole episode, by the last part of its key.
    """

    state: NDArray[np.floating]
    actions: NDArray[np.floating]
    texts: list[str]
    pictures: dict[str, NDArray[Any]]
    said: dict[str, Any]

    def __len__(self) -> int:
        """Returns T."""
        return len(self.actions)


def read_steps(record: Record, index: int, checked: CheckedMapping, directory: RldsDirectory) -> Steps:
    """Returns an episode.

    Args:
        record: Its bytes.
        index: Its number, which decides what is drawn.
        checked: What its features mean.
        directory: Where it is from.

    Raises:
        FormatError: A feature is not there, or not as the directory describes it; names it.
    """
    content = record.content
    features = features_of(content)
    length: int | None = None

    def numbers(leaves: dict[str, Leaf]) -> NDArray[np.floating]:
        nonlocal length
        parts: list[NDArray[np.floating]] = []
        dtype = stored_as(leaves.values())
        for key, leaf in leaves.items():
            found = _unsigned(_values(features, key, lambda values: numbers_of(content, values)), leaf)
            if len(found) % leaf.dim:
                raise FormatError(f"{key} has {len(found):,} numbers, which are no steps of {leaf.dim}")
            length = _agreed(key, len(found) // leaf.dim, length)
            parts.append(_exact(found, dtype, key, leaf.dim).reshape(length, leaf.dim))
        return np.concatenate(parts, axis=1)

    def pieces(key: str) -> list[Span]:
        found = _values(features, key, lambda values: bytes_of(content, values))
        _agreed(key, len(found), length)
        return found

    state, actions = numbers(checked.state), numbers(checked.action)
    if not length:
        raise FormatError("has no steps")
    texts = _drawn_texts(content, [(key, pieces(key)) for key in checked.instructions], length, index)
    pictures: dict[str, NDArray[Any]] = {}
    for name, leaves in checked.cameras.items():
        # One for the whole episode: a model with memory sees what the same camera showed before.
        drawn = int(np.random.default_rng([index, CAMERA_DRAW]).integers(len(leaves)))
        spans = {key: pieces(key) for key in leaves}
        for key, found in spans.items():
            for frame, (start, _) in enumerate(found):
                if content[start : start + 3] != JPEG and content[start : start + 4] != PNG:
                    raise FormatError(f"{key} of step {frame} is neither JPEG nor PNG")
        pictures[name] = _places(record, list(spans.values())[drawn], directory.kind)
    return Steps(state, actions, texts, pictures, _said(content, features, directory))


def stored_as(leaves: Iterable[Leaf]) -> np.dtype[Any]:
    """Returns the type of a column of these features: the smallest float that holds what they declare."""
    wide = any(leaf.dtype in ("int32", "uint32", "int64", "uint64") for leaf in leaves)
    return np.dtype(np.float64 if wide else np.float32)


def _unsigned(found: NDArray[Any], leaf: Leaf) -> NDArray[Any]:
    """Numbers of a feature; records hold unsigned integers of 64 bits as signed ones."""
    return found.view(np.uint64) if leaf.dtype == "uint64" and found.dtype == np.int64 else found


def _exact(found: NDArray[Any], dtype: np.dtype[Any], key: str, dim: int) -> NDArray[np.floating]:
    """The numbers as floats, none of them another number than before."""
    made = found.astype(dtype)
    if found.dtype.kind in "iu":
        largest = 1 << (np.finfo(dtype).nmant + 1)
        low = np.int64(-largest) if found.dtype.kind == "i" else np.uint64(0)
        if (beyond := np.flatnonzero((found < low) | (found > found.dtype.type(largest)))).size:
            raise FormatError(
                f"{key} of step {beyond[0] // dim} is {found[beyond[0]]}; {dtype}, as it is kept, holds "
                f"whole numbers up to {largest} only"
            )
    return made


def _values(features: dict[str, Values], key: str, read: Any) -> Any:
    values = features.get(STEPS + key)
    if values is None:
        raise FormatError(f"has no {STEPS}{key}; it has {', '.join(sorted(features)) or 'nothing'}")
    try:
        return read(values)
    except FormatError as error:
        raise FormatError(f"{key} {error}") from error


def _agreed(key: str, found: int, length: int | None) -> int:
    if length is not None and found != length:
        raise FormatError(f"{key} has {found:,} steps, and the features before it have {length:,}")
    return found


def _places(record: Record, spans: list[Span], kind: str) -> NDArray[Any]:
    starts = np.array([span.start for span in spans], np.uint64)
    out = np.zeros(len(spans), PLACE)
    out["size"] = [span.stop - span.start for span in spans]
    if kind == "tfrecord":
        out["at"] = starts + np.uint64(record.at)
    else:
        out["at"], out["inner"] = record.at, starts
    return out


def _drawn_texts(content: bytes, keys: list[tuple[str, list[Span]]], length: int, index: int) -> list[str]:
    """For each step one of its texts that are not empty; "" where all are, or there are none."""
    known: dict[bytes, str] = {}

    def text(key: str, step: int, span: Span) -> str:
        raw = content[span.start : span.stop]
        if raw not in known:
            try:
                known[raw] = raw.decode()
            except UnicodeDecodeError as error:
                raise FormatError(f"{key} of step {step} is not UTF-8 ({raw[:40]!r})") from error
        return known[raw]

    drawn = np.random.default_rng([index, TEXT_DRAW]).random(length)
    texts: list[str] = []
    for step in range(length):
        there = [one for key, spans in keys if (one := text(key, step, spans[step])).strip()]
        texts.append(there[int(drawn[step] * len(there))] if there else "")
    return texts


def _said(content: bytes, features: dict[str, Values], directory: RldsDirectory) -> dict[str, Any]:
    """Texts and plain numbers of the whole episode; what is more than one value, or NaN, is left out."""
    out: dict[str, Any] = {}
    for key, leaf in directory.keys(steps=False).items():
        name, values = key.rsplit("/", 1)[-1], features.get(key)
        if values is None or leaf.kind not in ("text", "number"):
            continue
        if leaf.kind == "text":
            spans = bytes_of(content, values)
            if len(spans) == 1:
                try:
                    out[name] = content[spans[0].start : spans[0].stop].decode()
                except UnicodeDecodeError as error:
                    raise FormatError(f"{key} is not UTF-8") from error
        else:
            found = _unsigned(numbers_of(content, values), leaf)
            if len(found) == 1 and np.isfinite(found[0]):
                out[name] = bool(found[0]) if leaf.dtype == "bool" else found[0].item()
    return out
