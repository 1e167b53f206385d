"""What the compiled half offers; `pioxide.codec` is what people use. Held to the module by stubtest."""

from collections.abc import Iterable
from typing import Any, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import disjoint_base

__all__ = [
    "VERSION",
    "FastCodec",
    "Pi0FastPrompts",
    "Pi0Prompts",
    "Pi05Prompts",
    "SafetyFilter",
    "TextTokenizer",
    "fast_fit",
    "state_bins",
]

VERSION: Final[str]

_Tokens = NDArray[np.int32]
_Mask = NDArray[np.bool_]

@disjoint_base
class TextTokenizer:
    def __new__(cls, model: bytes) -> TextTokenizer: ...
    def to_bytes(self) -> bytes: ...
    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> NDArray[np.int32]:
        """Encodes text to [n] ids, with the begin- or end-of-sequence id where asked for."""
    def decode(self, token_ids: ArrayLike) -> str:
        """Decodes [n] ids: control pieces vanish, bytes that are no UTF-8 become U+FFFD."""
    def piece(self, id: int) -> str:
        """The piece of an id; IndexError outside the vocabulary."""
    def id(self, piece: str) -> int:
        """The id of a piece; KeyError where there is none."""
    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def pad_id(self) -> int | None: ...
    @property
    def unk_id(self) -> int: ...
    def __len__(self) -> int: ...

@final
class FastCodec:
    def __new__(cls, tokenizer_json: bytes, processor_config: bytes) -> FastCodec: ...
    def encode(self, chunk: ArrayLike, on_overflow: str) -> tuple[NDArray[np.int32], int]: ...
    def encode_batch(
        self, chunks: ArrayLike, on_overflow: str
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]: ...
    def decode(
        self, ids: ArrayLike, horizon: int, dim: int, partial: str
    ) -> tuple[NDArray[np.float64], int]: ...
    def decode_batch(
        self,
        tokens: ArrayLike | Iterable[ArrayLike],
        offsets: ArrayLike | None,
        horizon: int,
        dim: int,
        partial: str,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
    def files(self, horizon: int | None, dim: int | None) -> dict[str, str]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def scale(self) -> float: ...
    @property
    def min_token(self) -> int: ...
    @property
    def representable(self) -> list[tuple[int, int]]: ...
    def token_bytes(self, id: int) -> bytes | None: ...
    @property
    def value_range(self) -> tuple[int, int]: ...
    @property
    def horizon(self) -> int | None: ...
    @property
    def dim(self) -> int | None: ...

@final
class Pi0Prompts:
    def __new__(cls, tokenizer: TextTokenizer, max_len: int, style: str) -> Pi0Prompts: ...
    def encode(self, prompt: str) -> tuple[_Tokens, _Mask, int, bool]: ...
    def encode_into(self, prompt: str, tokens: _Tokens, mask: _Mask) -> tuple[int, bool]: ...
    def encode_batch(self, prompts: Any) -> tuple[_Tokens, _Mask, NDArray[np.int32], _Mask]: ...
    @property
    def max_len(self) -> int: ...

@final
class Pi05Prompts:
    def __new__(
        cls, tokenizer: TextTokenizer, max_len: int, style: str, state_width: int | None
    ) -> Pi05Prompts: ...
    def encode(self, prompt: str, state: ArrayLike) -> tuple[_Tokens, _Mask, int, bool]: ...
    def encode_into(
        self, prompt: str, state: ArrayLike, tokens: _Tokens, mask: _Mask
    ) -> tuple[int, bool]: ...
    def encode_batch(
        self, prompts: Any, states: ArrayLike
    ) -> tuple[_Tokens, _Mask, NDArray[np.int32], _Mask]: ...
    @property
    def max_len(self) -> int: ...
    @property
    def uses_table(self) -> bool: ...

@final
class Pi0FastPrompts:
    def __new__(
        cls,
        tokenizer: TextTokenizer,
        fast_vocab: int,
        max_len: int,
        style: str,
        state_width: int | None,
        skipped_ids: int,
    ) -> Pi0FastPrompts: ...
    def encode(
        self, prompt: str, state: ArrayLike, action_ids: ArrayLike | None
    ) -> tuple[_Tokens, _Mask, _Tokens, _Mask, int, bool]: ...
    def encode_into(
        self, prompt: str, state: ArrayLike, tokens: _Tokens, mask: _Mask
    ) -> tuple[int, bool]: ...
    def encode_batch(
        self, prompts: Any, states: ArrayLike, flat_ids: ArrayLike | None, offsets: ArrayLike | None
    ) -> tuple[_Tokens, _Mask, _Tokens, _Mask, NDArray[np.int32], _Mask]: ...
    @property
    def answer_start(self) -> _Tokens: ...
    @property
    def answer_end(self) -> _Tokens: ...
    def text_ids(self, fast_ids: ArrayLike) -> _Tokens: ...
    def fast_ids(self, tokens: ArrayLike, continued: bool) -> NDArray[np.int32]: ...
    def ids_to_actions(
        self, codec: FastCodec, tokens: ArrayLike, horizon: int, dim: int, partial: str, continued: bool
    ) -> tuple[NDArray[np.float64], int]: ...
    def ids_to_actions_batch(
        self,
        codec: FastCodec,
        tokens: ArrayLike | Iterable[ArrayLike],
        horizon: int,
        dim: int,
        partial: str,
        continued: bool,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
    @property
    def max_len(self) -> int: ...
    @property
    def uses_table(self) -> bool: ...

_Joints = tuple[int, ...]

@final
class SafetyFilter:
    def __new__(
        cls,
        dim: int,
        hz: float,
        low: ArrayLike,
        high: ArrayLike,
        velocity: ArrayLike,
        acceleration: ArrayLike,
        motion: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    ) -> SafetyFilter: ...
    @property
    def placed(self) -> bool: ...
    def reset(self, position: ArrayLike) -> SafetyFilter: ...
    def hold(self) -> SafetyFilter: ...
    def apply(
        self, wanted: ArrayLike
    ) -> tuple[NDArray[np.float64], SafetyFilter, tuple[_Joints, _Joints, _Joints, _Joints] | None]: ...

def fast_fit(
    chunks: Iterable[ArrayLike], *, vocab_size: int, scale: float, regex_split: bool | None
) -> tuple[bytes, bytes]: ...
def state_bins(state: ArrayLike) -> NDArray[np.int16]: ...
