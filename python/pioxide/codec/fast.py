"""FAST: action chunks to tokens and back (arXiv 2501.09747, section V).

A chunk [H, D] goes through an orthonormal DCT along time, is scaled and rounded, and its coefficients, lowest
frequency first, become characters that byte-level BPE joins to tokens.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide import _core
from pioxide.codec.chunk_shape import chunk_shape
from pioxide.errors import FormatError
from pioxide.files import make_directory, mistaken, read_bytes, write_text

# The code that reads a tokenizer's directory for transformers. It is written there and never imported here.
PROCESSOR = "processing_action_tokenizer.py"

OnOverflow = Literal["error", "clip"]
Partial = Literal["error", "pad"]


class Encoded(NamedTuple):
    """Token ids of one chunk, and how many of its coefficients were clipped to a representable one."""

    ids: NDArray[np.int32]
    clipped: int


class Decoded(NamedTuple):
    """Actions [H, D], and how many coefficients were missing and taken as zero."""

    actions: NDArray[np.float64]
    missing: int


@dataclass(frozen=True, eq=False)
class TokenBatch(Sequence[NDArray[np.int32]]):
    """Token ids of N chunks, one after another.

    >>> import numpy as np
    >>> codec = FastCodec.fit(np.sin(np.arange(320).reshape(10, 16, 2)), vocab_size=300)
    >>> batch = codec.encode_batch(np.sin(np.arange(64).reshape(2, 16, 2)))
    >>> len(batch), batch[1].shape == (batch.lengths[1],)
    (2, True)

    Attributes:
        ids: Every chunk's ids, int32.
        offsets: [N + 1] where each chunk's ids start and the last one's end.
        clipped: [N] coefficients clipped in each chunk.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    clipped: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"chunk {index} of {len(self)}")
        index %= len(self)
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Returns [N] tokens in each chunk."""
        return np.diff(self.offsets)


class FastCodec:
    """A FAST tokenizer: immutable, shareable between threads, in the files Hugging Face's loaders read.

    The shape of a chunk is never remembered from a call; where it is not said, it is what the files carry.
    What the vocabulary can't represent is an error that names the place, or, when asked, the nearest
    representable value together with a count.

    >>> import numpy as np
    >>> steps = np.linspace(0, np.pi, 16)
    >>> chunks = [np.stack([np.sin(steps + n), np.cos(steps * n)], axis=1) for n in range(20)]
    >>> codec = FastCodec.fit(chunks, vocab_size=300)
    >>> ids, clipped = codec.encode(chunks[0])
    >>> ids.dtype, clipped
    (dtype('int32'), 0)
    >>> actions, missing = codec.decode(ids, horizon=16, dim=2)
    >>> bool(np.abs(actions - chunks[0]).max() < 1 / codec.scale), missing
    (True, 0)
    >>> codec.encode(np.full((16, 2), 1e6))
    Traceback (most recent call last):
    pioxide.errors.OverflowingChunkError: coefficient ... has no token (...); are the actions normalised?
    """

    __slots__ = ("_core",)

    def __init__(self, tokenizer_json: bytes, processor_config: bytes) -> None:
        """Reads the content of `tokenizer.json` and `processor_config.json`.

        Raises:
            FormatError: They are not a FAST tokenizer; the message says what was found.
        """
        self._core = _core.FastCodec(tokenizer_json, processor_config)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> FastCodec:
        """Reads a directory in the published layout (`tokenizer.json`, `processor_config.json`).

        Raises:
            FormatError: A file is absent, or is not what its name says.
        """
        names = ("tokenizer.json", "processor_config.json")
        files = [read_bytes(Path(directory, name)) for name in names]
        for name, content in zip(names, files, strict=True):
            if reason := mistaken(content[:64]):
                raise FormatError(f"{Path(directory, name)}: {reason}")
        try:
            return cls(*files)
        except FormatError as error:
            raise FormatError(f"{directory}: {error}") from None

    @classmethod
    def fit(
        cls,
        chunks: Sequence[ArrayLike] | NDArray[np.floating],
        *,
        vocab_size: int = 1024,
        scale: float = 10.0,
        regex_split: bool | None = None,
    ) -> FastCodec:
        """Trains a vocabulary on normalised action chunks.

        Args:
            chunks: [N, H, D], or N chunks [H, D] that may differ in horizon.
            vocab_size: Tokens in the vocabulary, the 256 byte tokens included.
            scale: Multiplies the coefficients before rounding: larger is finer and longer.
            regex_split: Whether merges stop at the borders of character classes, as in published tokenizers.
                None takes the default that `docs/fast.md` argues for.

        Raises:
            InputError: A chunk is empty or holds NaN or infinity, or the vocabulary is too small.
        """
        return cls(*_core.fast_fit(chunks, vocab_size=vocab_size, scale=scale, regex_split=regex_split))

    def save(
        self, directory: str | os.PathLike[str], *, horizon: int | None = None, dim: int | None = None
    ) -> None:
        """Writes the files that `transformers`, openpi and LeRobot load; each appears whole or not at all.

        One of them is code, run by `AutoProcessor.from_pretrained(directory, trust_remote_code=True)`: so
        openpi and LeRobot load an action tokenizer.

        Args:
            directory: Made if absent.
            horizon: Written as the default `time_horizon`, for readers that want one.
            dim: Written as the default `action_dim`.

        Raises:
            InputError: `horizon` or `dim` is one that no tokenizer may have; nothing is written then.
        """
        files = self._core.files(horizon, dim)
        files[PROCESSOR] = (Path(__file__).parent / "hub" / PROCESSOR).read_text("utf-8")
        directory = Path(directory)
        make_directory(directory)
        for name, text in files.items():
            write_text(directory / name, text)

    def encode(self, chunk: ArrayLike, *, on_overflow: OnOverflow = "error") -> Encoded:
        """Encodes one chunk.

        Args:
            chunk: [H, D] normalised actions. float32 is computed in float32, all else in float64, as the
                reference does; any strides.
            on_overflow: What to do with a coefficient that has no token: "error", or "clip" to the nearest
                that has.

        Raises:
            OverflowingChunkError: A coefficient has no token; names time-frequency index, dimension and
                value.
            InputError: The chunk is empty, or holds NaN or infinity.
        """
        return Encoded._make(self._core.encode(chunk, on_overflow))

    def encode_batch(self, chunks: ArrayLike, *, on_overflow: OnOverflow = "error") -> TokenBatch:
        """Encodes [N, H, D] chunks of any strides (a sliding window is fine), without the GIL.

        Raises:
            OverflowingChunkError: As `encode`; the message names the chunk too.
        """
        return TokenBatch(*self._core.encode_batch(chunks, on_overflow))

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
            ids: [n] FAST ids.
            horizon: H of the chunk; what the codec's files carry by default.
            dim: D of the chunk, likewise.
            partial: What to do when coefficients are missing: "error", or "pad" with zeros and count them.

        Raises:
            IncompleteChunkError: The ids hold fewer or more coefficients than horizon x dim.
            InputError: An id is outside the vocabulary, or bytes are no character.
        """
        if horizon is None or dim is None:
            horizon, dim = chunk_shape(self, horizon, dim)
        return Decoded._make(self._core.decode(ids, horizon, dim, partial))

    def decode_batch(
        self,
        tokens: Sequence[ArrayLike] | TokenBatch,
        *,
        horizon: int | None = None,
        dim: int | None = None,
        partial: Partial = "error",
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Decodes N chunks of one shape, without the GIL.

        Returns:
            Actions [N, horizon, dim], and [N] how many coefficients were missing.

        Raises:
            IncompleteChunkError, InputError: As `decode`; the message names the chunk too.
        """
        if horizon is None or dim is None:
            horizon, dim = chunk_shape(self, horizon, dim)
        if isinstance(tokens, TokenBatch):
            return self._core.decode_batch(tokens.ids, tokens.offsets, horizon, dim, partial)
        return self._core.decode_batch(tokens, None, horizon, dim, partial)

    @property
    def vocab_size(self) -> int:
        """Returns the number of ids, holes included: every id is below it."""
        return self._core.vocab_size

    @property
    def scale(self) -> float:
        """Returns what coefficients are multiplied by before rounding."""
        return self._core.scale

    @property
    def min_token(self) -> int:
        """Returns the coefficient that the character U+0000 stands for."""
        return self._core.min_token

    @property
    def value_range(self) -> tuple[int, int]:
        """Returns the lowest and highest rounded coefficient between which every one has a token.

        The range holds zero where zero has a token, else it is the nearest to zero. `representable` has all.
        """
        return self._core.value_range

    @property
    def representable(self) -> list[tuple[int, int]]:
        """Returns the rounded coefficients with a token, as ranges from first to last, sorted.

        A coefficient's character has the code `coefficient - min_token`, and ids are pieces of the
        characters' UTF-8.
        """
        return self._core.representable

    def token_bytes(self, id: int) -> bytes | None:
        """Returns what an id decodes to: UTF-8, perhaps a cut character; None where no chunk has the id.

        Raises:
            IndexError: The id is outside the vocabulary.
        """
        return self._core.token_bytes(id)

    @property
    def horizon(self) -> int | None:
        """Returns the default `time_horizon` its files carry, if any."""
        return self._core.horizon

    @property
    def dim(self) -> int | None:
        """Returns the default `action_dim` its files carry, if any."""
        return self._core.dim

    @property
    def kind(self) -> str:
        """Returns "fast"; see `ActionCodec`."""
        return "fast"

    @property
    def steps(self) -> None:
        """Returns None: a dimension has as many coefficients as the chunk has actions; see `ActionCodec`."""
        return None

    @property
    def coefficient_range(self) -> tuple[float, float]:
        """Returns `value_range` before scaling; see `ActionCodec`."""
        low, high = self.value_range
        return low / self.scale, high / self.scale

    @property
    def description(self) -> str:
        """Returns the vocabulary's size, the scale and the range of coefficients; see `ActionCodec`."""
        low, high = self.value_range
        return f"FAST, {self.vocab_size:,} tokens, scale {self.scale:g}, coefficients {low:,} to {high:,}"

    @property
    def fingerprint(self) -> str:
        """Returns a SHA-256 digest of all that ids depend on: codecs with the same one write the same ids."""
        text = self._core.files(None, None)["tokenizer.json"]
        return hashlib.sha256(f"{self.scale!r} {self.min_token} {text}".encode()).hexdigest()

    def __reduce__(self):
        files = self._core.files(self.horizon, self.dim)
        return type(self), (files["tokenizer.json"].encode(), files["processor_config.json"].encode())

    def __repr__(self) -> str:
        return f"FastCodec(vocab_size={self.vocab_size}, scale={self.scale:g}, min_token={self.min_token})"
