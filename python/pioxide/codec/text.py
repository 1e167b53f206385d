"""SentencePiece text as ids and back: PaliGemma's vocabulary, or any BPE `.model` of the same make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pioxide import _core
from pioxide.errors import FormatError
from pioxide.files import mistaken, read_bytes

if TYPE_CHECKING:
    import os


class TextTokenizer(_core.TextTokenizer):
    """A SentencePiece BPE model. Its ids equal the `sentencepiece` package's.

    The model that ships with the package stands for PaliGemma's here:

    >>> from pioxide.demo import text_model_path
    >>> tokenizer = TextTokenizer.load(text_model_path())
    >>> ids = tokenizer.encode("pick up the red cube", bos=True)
    >>> [tokenizer.piece(id) for id in ids]
    ['<bos>', 'pick', '▁up', '▁the', '▁red', '▁cube']
    >>> tokenizer.decode(ids)
    'pick up the red cube'
    """

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextTokenizer:
        """Reads a `.model` file.

        Raises:
            FormatError: The file is absent, or is not a SentencePiece BPE model that can be reproduced
                exactly.
        """
        model = read_bytes(Path(path))
        if reason := mistaken(model[:64]):
            raise FormatError(f"{path}: {reason}")
        try:
            return cls(model)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from None

    @classmethod
    def from_bytes(cls, model: bytes) -> TextTokenizer:
        """Reads the content of a `.model` file."""
        return cls(model)

    def __reduce__(self):
        return type(self), (self.to_bytes(),)
