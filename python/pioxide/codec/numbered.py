"""Codecs of one token a number: what `BinningCodec` and `BeastCodec` have in common.

A chunk becomes [S, D] quantised numbers, each an integer from 0 to bins - 1. Its ids are these integers, row
by row: all dimensions of the first, then of the second.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import floats
from pioxide.codec.chunk_shape import chunk_shape
from pioxide.codec.fast import Decoded, Encoded, OnOverflow, Partial, TokenBatch
from pioxide.errors import IncompleteChunkError, InputError, OverflowingChunkError
from pioxide.files import make_directory, write_json

# What a directory of such a codec holds, and the version of that file.
FILE_NAME = "action_codec.json"
VERSION = 1
# An id is spelled as the character of that code, and the codes behind this one are no characters.
MOST_BINS = 0xD800


class NumberCodec(ABC):
    """An action codec that writes one token a number. Immutable, shareable between threads."""

    def __init__(self, bins: int, horizon: int | None, dim: int | None) -> None:
        """Checks what both codecs have.

        Raises:
            InputError: Too few or too many bins, or a chunk without numbers.
        """
        check_bins(bins)
        for name, value in (("horizon", horizon), ("dim", dim)):
            if value is not None and (not _whole(value) or value < 1):
                raise InputError(f"{name}: expected a whole number above 0, got {value!r}")
        self.bins, self._horizon, self._dim = bins, horizon, dim

    @property
    def vocab_size(self) -> int:
        """Returns the number of ids: every id is below it."""
        return self.bins

    @property
    def horizon(self) -> int | None:
        """Returns the horizon that it was fitted for; None for any."""
        return self._horizon

    @property
    def dim(self) -> int | None:
        """Returns the numbers in an action that it was fitted for; None for any."""
        return self._dim

    @property
    @abstractmethod
    def kind(self) -> str:
        """Returns the codec's name in files and messages."""

    @property
    @abstractmethod
    def steps(self) -> int | None:
        """Returns S, quantised numbers of each dimension; None for as many as the chunk has actions."""

    @property
    @abstractmethod
    def coefficient_range(self) -> tuple[float, float]:
        """Returns the lowest and highest of the numbers that are quantised which any token stands for."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Returns the codec in a few words, for people."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Returns all that ids depend on, as JSON values."""

    @abstractmethod
    def _quantise(self, chunks: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns ids [N, S, D] of chunks [N, H, D], the nearest there are, and which were out of range."""

    @abstractmethod
    def _actions(self, ids: NDArray[np.int64], horizon: int) -> NDArray[np.float64]:
        """Returns actions [N, horizon, D] of ids [N, S, D]."""

    @abstractmethod
    def _overflow(self, chunk: NDArray[np.float64], step: int, dim: int) -> str:
        """Says what of a chunk [H, D] is out of range at one of its numbers, and what the range is."""

    def token_bytes(self, id: int) -> bytes | None:
        """Returns what an id is spelled as: one character, since it stands for one number.

        Raises:
            IndexError: The id is outside the vocabulary.
        """
        if not 0 <= id < self.bins:
            raise IndexError(f"id {id} of {self.bins}")
        return chr(id).encode()

    @property
    def fingerprint(self) -> str:
        """Returns a SHA-256 digest of all that ids depend on: codecs with the same one write the same ids."""
        text = json.dumps({"codec": self.kind, **self.settings()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def encode(self, chunk: ArrayLike, *, on_overflow: OnOverflow = "error") -> Encoded:
        """Encodes one chunk.

        Args:
            chunk: [H, D] normalised actions, computed in float64.
            on_overflow: What to do with a number outside the range: "error", or "clip" to its end.

        Raises:
            OverflowingChunkError: A number is outside the range; names step, dimension and value.
            InputError: The chunk is empty, of another shape, or holds NaN or infinity.
        """
        chunks = self._chunks(chunk, 2)[None]
        ids, outside = self._ids(chunks, on_overflow, several=False)
        return Encoded(ids.reshape(-1).astype(np.int32), int(outside.sum()))

    def encode_batch(self, chunks: ArrayLike, *, on_overflow: OnOverflow = "error") -> TokenBatch:
        """Encodes [N, H, D] chunks.

        Raises:
            OverflowingChunkError, InputError: As `encode`; the message names the chunk too.
        """
        given = self._chunks(chunks, 3)
        ids, outside = self._ids(given, on_overflow, several=True)
        each = ids.shape[1] * ids.shape[2]
        return TokenBatch(
            ids.reshape(-1).astype(np.int32),
            np.arange(len(ids) + 1, dtype=np.int64) * each,
            outside.sum(axis=(1, 2), dtype=np.int64),
        )

    def decode(
        self,
        ids: ArrayLike,
        *,
        horizon: int | None = None,
        dim: int | None = None,
        partial: Partial = "error",
    ) -> Decoded:
        """Decodes the ids of one chunk to actions [horizon, dim].

        Args:
            ids: [n] ids.
            horizon: H of the chunk; what the codec's files carry by default.
            dim: D of the chunk, likewise.
            partial: What to do when ids are missing: "error", or "pad" with the ids of zero and count them.

        Raises:
            IncompleteChunkError: There are fewer or more ids than the chunk's numbers.
            InputError: An id is outside the vocabulary, or the codec is of other chunks.
        """
        actions, missing = self._decoded([ids], *chunk_shape(self, horizon, dim), partial, several=False)
        return Decoded(actions[0], int(missing[0]))

    def decode_batch(
        self,
        tokens: Sequence[ArrayLike] | TokenBatch,
        *,
        horizon: int | None = None,
        dim: int | None = None,
        partial: Partial = "error",
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Decodes N chunks of one shape.

        Returns:
            Actions [N, horizon, dim], and [N] how many numbers were missing.

        Raises:
            IncompleteChunkError, InputError: As `decode`; the message names the chunk too.
        """
        return self._decoded(tokens, *chunk_shape(self, horizon, dim), partial, several=True)

    def save(
        self, directory: str | os.PathLike[str], *, horizon: int | None = None, dim: int | None = None
    ) -> None:
        """Writes `action_codec.json`, whole or not at all, with the chunk's shape where it is given."""
        content = {
            "codec": self.kind,
            "version": VERSION,
            **self.settings(),
            "time_horizon": horizon if horizon is not None else self.horizon,
            "action_dim": dim if dim is not None else self.dim,
        }
        make_directory(Path(directory))
        write_json(Path(directory) / FILE_NAME, content)

    def _chunks(self, value: ArrayLike, ndim: int) -> NDArray[np.float64]:
        expected = "chunk: expected actions [H, D]" if ndim == 2 else "chunks: expected actions [N, H, D]"
        array = floats(value, expected)
        if array.ndim != ndim or 0 in array.shape[-2:]:
            raise InputError(f"{expected}, got shape {array.shape}")
        if self._dim is not None and array.shape[-1] != self._dim:
            raise InputError(f"{expected} of {self._dim} dimensions, got shape {array.shape}")
        if not np.isfinite(array).all():
            *chunk, step, dim = np.argwhere(~np.isfinite(array))[0].tolist()
            where = f"chunk {chunk[0]}: " if chunk else ""
            raise InputError(f"{where}step {step}, dimension {dim} is {array[(*chunk, step, dim)]}")
        return array

    def _ids(
        self, chunks: NDArray[np.float64], on_overflow: OnOverflow, *, several: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if on_overflow not in ("error", "clip"):
            raise InputError(f'on_overflow: expected "error" or "clip", got {on_overflow!r}')
        ids, outside = self._quantise(chunks)
        if on_overflow == "error" and outside.any():
            chunk, step, dim = np.argwhere(outside)[0].tolist()
            where = f"chunk {chunk}: " if several else ""
            raise OverflowingChunkError(f"{where}{self._overflow(chunks[chunk], step, dim)}")
        return ids, outside

    def _decoded(
        self,
        tokens: Sequence[ArrayLike] | TokenBatch,
        horizon: int,
        dim: int,
        partial: Partial,
        *,
        several: bool,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        if partial not in ("error", "pad"):
            raise InputError(f'partial: expected "error" or "pad", got {partial!r}')
        if not (_whole(horizon) and _whole(dim)) or min(horizon, dim) < 1:
            raise InputError(f"a chunk of [{horizon}, {dim}]: expected whole numbers above 0")
        if self._dim is not None and dim != self._dim:
            raise InputError(f"a chunk of [{horizon}, {dim}]: this codec's actions have {self._dim} numbers")
        steps = self.steps or horizon
        rows = [self._row(one, i if several else None) for i, one in enumerate(tokens)]
        zero = self._quantise(np.zeros((1, horizon, dim)))[0].reshape(-1)
        ids = np.tile(zero, (len(rows), 1))
        missing = np.zeros(len(rows), np.int64)
        for i, row in enumerate(rows):
            missing[i] = steps * dim - len(row)
            if missing[i] < 0 or (missing[i] and partial == "error"):
                where = f"chunk {i}: " if several else ""
                raise IncompleteChunkError(
                    f"{where}{len(row)} ids, and a chunk of {horizon} x {dim} has {steps * dim}"
                )
            ids[i, : len(row)] = row
        return self._actions(ids.reshape(len(rows), steps, dim), horizon), missing

    def _row(self, value: ArrayLike, index: int | None) -> NDArray[np.int64]:
        where = "" if index is None else f"chunk {index}: "
        row = np.asarray(value)
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise InputError(f"{where}expected ids [n], got {row.dtype} of shape {row.shape}")
        wrong = (row < 0) | (row >= self.bins)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise InputError(f"{where}id {row[at]} at position {at} is outside the {self.bins} bins")
        return row.astype(np.int64)


def check_bins(bins: Any) -> None:
    """Refuses a number of ids that no codec may have.

    Raises:
        InputError: It is none, or too few or too many.
    """
    if not _whole(bins) or not 2 <= bins <= MOST_BINS:
        raise InputError(f"bins: expected 2 to {MOST_BINS:,}, got {bins!r}")


def fields_of(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Returns the fields of a codec's file.

    Raises:
        InputError: One is missing, or there is one that this version does not know.
    """
    every = {"codec", "version", "time_horizon", "action_dim", *names}
    if missing := sorted(every - set(document)):
        raise InputError(f"it has no {missing[0]!r}")
    if foreign := sorted(set(document) - every):
        raise InputError(f"this pioxide knows no field {foreign[0]!r}")
    return {name: document[name] for name in names}


def is_number(value: Any) -> bool:
    """Returns whether a value, which may come out of a file, is a real number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
