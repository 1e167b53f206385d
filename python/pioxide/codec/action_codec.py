"""What an action codec is to the rest of the house, whichever it is: chunks of actions to tokens and back.

`FastCodec`, `BinningCodec` and `BeastCodec` are such codecs. `fit` makes them; `tokenize`, prompts, the
grammar and policies use them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.beast import BeastCodec
from pioxide.codec.binning import BinningCodec
from pioxide.codec.fast import Decoded, Encoded, FastCodec, OnOverflow, Partial, TokenBatch
from pioxide.codec.numbered import FILE_NAME, VERSION
from pioxide.errors import FormatError, InputError
from pioxide.files import read_json

# Files by which a directory is known to hold a codec.
FAST_FILE_NAMES = ("tokenizer.json", "processor_config.json")


@runtime_checkable
class ActionCodec(Protocol):
    """A codec: immutable, shareable between threads, and without memory of the chunks that it has seen.

    A chunk [H, D] is turned into coefficients [S, D] (frequencies, actions, control points), these into
    integers, and the integers, row by row, into a text of one character each, whose pieces are the tokens.
    """

    @property
    def kind(self) -> str:
        """Returns the codec's name: "fast", "binning" or "beast"."""
        ...

    @property
    def description(self) -> str:
        """Returns the codec and its settings in a few words, for people."""
        ...

    @property
    def vocab_size(self) -> int:
        """Returns the number of ids: every id is below it."""
        ...

    @property
    def horizon(self) -> int | None:
        """Returns H that it was fitted for; None for any."""
        ...

    @property
    def dim(self) -> int | None:
        """Returns D that it was fitted for; None for any."""
        ...

    @property
    def steps(self) -> int | None:
        """Returns S, coefficients of each dimension; None for as many as the chunk has actions."""
        ...

    @property
    def coefficient_range(self) -> tuple[float, float]:
        """Returns the lowest and highest coefficient with a token, in the unit of normalised actions."""
        ...

    @property
    def fingerprint(self) -> str:
        """Returns a SHA-256 digest of all that ids depend on: codecs with the same one write the same ids."""
        ...

    def token_bytes(self, id: int) -> bytes | None:
        """Returns what an id is spelled as: UTF-8, a character a coefficient; None where no chunk has the id.

        A text is a chunk's where it has as many characters as the chunk has coefficients. FAST's ids may
        begin or end inside a character; those of other codecs are one character each.

        Raises:
            IndexError: The id is outside the vocabulary.
        """
        ...

    def encode(self, chunk: ArrayLike, *, on_overflow: OnOverflow = "error") -> Encoded:
        """Encodes one normalised chunk [H, D]; see `FastCodec.encode`."""
        ...

    def encode_batch(self, chunks: ArrayLike, *, on_overflow: OnOverflow = "error") -> TokenBatch:
        """Encodes normalised chunks [N, H, D]; see `FastCodec.encode_batch`."""
        ...

    def decode(
        self,
        ids: ArrayLike,
        *,
        horizon: int | None = None,
        dim: int | None = None,
        partial: Partial = "error",
    ) -> Decoded:
        """Decodes the ids of one chunk; see `FastCodec.decode`."""
        ...

    def decode_batch(
        self,
        tokens: Sequence[ArrayLike] | TokenBatch,
        *,
        horizon: int | None = None,
        dim: int | None = None,
        partial: Partial = "error",
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Decodes N chunks of one shape; see `FastCodec.decode_batch`."""
        ...

    def save(
        self, directory: str | os.PathLike[str], *, horizon: int | None = None, dim: int | None = None
    ) -> None:
        """Writes the files that `load_codec` reads, with the chunk's shape where it is given."""
        ...


def load_codec(directory: str | os.PathLike[str]) -> ActionCodec:
    """Reads an action codec from the directory that its `save` wrote.

    Raises:
        FormatError: There is none, or two, or a file is not what its name says.
    """
    file = Path(directory, FILE_NAME)
    if not file.is_file():
        return FastCodec.load(directory)
    if any(Path(directory, name).is_file() for name in FAST_FILE_NAMES):
        raise FormatError(
            f"{directory} holds {FILE_NAME} and a FAST tokenizer: nobody knows which of them wrote "
            "the tokens; remove one"
        )
    content: Any = read_json(file)
    if not isinstance(content, Mapping):
        raise FormatError(f"{file}: expected an object, got {type(content).__name__}")
    document = cast("Mapping[str, Any]", content)
    kinds = {"binning": BinningCodec.from_json, "beast": BeastCodec.from_json}
    kind = document.get("codec")
    if kind not in kinds:
        raise FormatError(f"{file}: codec {kind!r}, this pioxide reads {' and '.join(kinds)}")
    if document.get("version") != VERSION:
        raise FormatError(f"{file}: version {document.get('version')!r}, this pioxide reads {VERSION}")
    try:
        return kinds[str(kind)](document)
    except InputError as error:
        raise FormatError(f"{file}: {error}") from error


def holds_codec(directory: str | os.PathLike[str]) -> bool:
    """Returns whether a directory holds what `load_codec` reads."""
    return Path(directory, FILE_NAME).is_file() or all(
        Path(directory, name).is_file() for name in FAST_FILE_NAMES
    )
