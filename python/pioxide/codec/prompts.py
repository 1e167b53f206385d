"""The prompts of the three models, as ids and masks ready for the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide import _core
from pioxide.codec.fast import Decoded, FastCodec, OnOverflow, Partial, TokenBatch
from pioxide.codec.text import TextTokenizer
from pioxide.errors import InputError

# The texts of a batch: one a row, or the distinct ones and which of them each row has.
Texts = Sequence[str] | tuple[Sequence[str], NDArray[np.integer]]


class Prompt(NamedTuple):
    """One prompt, padded to the format's length.

    Attributes:
        tokens: [L] ids, padded with 0.
        mask: [L] True where an id is real.
        length: Ids before truncation, so that `length > len(tokens)` says how much was cut.
        truncated: Whether the end was cut.
    """

    tokens: NDArray[np.int32]
    mask: NDArray[np.bool_]
    length: int
    truncated: bool


class FastPrompt(NamedTuple):
    """One π0-FAST prompt with the masks of its training form.

    Attributes:
        tokens: [L] ids, padded with 0.
        mask: [L] True where an id is real.
        ar_mask: [L] 0 on the prefix, 1 on the causal suffix, 0 on padding.
        loss_mask: [L] True on the suffix, which carries the loss.
        length: Ids before truncation.
        truncated: Whether the end was cut.
    """

    tokens: NDArray[np.int32]
    mask: NDArray[np.bool_]
    ar_mask: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    length: int
    truncated: bool


class PromptBatch(NamedTuple):
    """N prompts: tokens [N, L], mask [N, L], lengths [N] before truncation, truncated [N]."""

    tokens: NDArray[np.int32]
    mask: NDArray[np.bool_]
    lengths: NDArray[np.int32]
    truncated: NDArray[np.bool_]


class FastPromptBatch(NamedTuple):
    """N π0-FAST prompts: a `PromptBatch` with ar_mask [N, L] and loss_mask [N, L]."""

    tokens: NDArray[np.int32]
    mask: NDArray[np.bool_]
    ar_mask: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    lengths: NDArray[np.int32]
    truncated: NDArray[np.bool_]


class Pi0Prompts:
    """π0: the cleaned text and a newline. The state goes to the network as numbers, not as text."""

    __slots__ = ("_core", "tokenizer")

    def __init__(self, tokenizer: TextTokenizer, max_len: int = 48) -> None:
        """Prompts of `max_len` ids in the vocabulary of `tokenizer`."""
        self.tokenizer = tokenizer
        self._core = _core.Pi0Prompts(tokenizer, max_len)

    @property
    def max_len(self) -> int:
        """L, ids in a row."""
        return self._core.max_len

    def encode(self, prompt: str) -> Prompt:
        """One prompt. Its text is tokenized again only when it differs from the last call's."""
        return Prompt._make(self._core.encode(prompt))

    def encode_into(
        self, prompt: str, tokens: NDArray[np.int32], mask: NDArray[np.bool_]
    ) -> tuple[int, bool]:
        """Writes one prompt into `tokens` [L] and `mask` [L] of any L; returns (length, truncated)."""
        return self._core.encode_into(prompt, tokens, mask)

    def encode_batch(self, prompts: Texts) -> PromptBatch:
        """N prompts; each distinct text is tokenized once."""
        return PromptBatch._make(self._core.encode_batch(prompts))

    def __reduce__(self):
        return type(self), (self.tokenizer, self.max_len)


class Pi05Prompts:
    r"""π0.5: `Task: {text}, State: {bins};\nAction: `, the state as one number from 0 to 255 a joint."""

    __slots__ = ("_core", "tokenizer")

    def __init__(self, tokenizer: TextTokenizer, max_len: int = 200) -> None:
        """Prompts of `max_len` ids in the vocabulary of `tokenizer`."""
        self.tokenizer = tokenizer
        self._core = _core.Pi05Prompts(tokenizer, max_len)

    @property
    def max_len(self) -> int:
        """L, ids in a row."""
        return self._core.max_len

    def encode(self, prompt: str, state: ArrayLike) -> Prompt:
        """One prompt.

        Args:
            prompt: The instruction. Tokenized again only when it differs from the last call's.
            state: [D] the normalised state, not padded.

        Raises:
            InputError: A joint is NaN or infinite; the message names it.
        """
        return Prompt._make(self._core.encode(prompt, state))

    def encode_into(
        self, prompt: str, state: ArrayLike, tokens: NDArray[np.int32], mask: NDArray[np.bool_]
    ) -> tuple[int, bool]:
        """Writes one prompt into `tokens` [L] and `mask` [L] of any L; returns (length, truncated)."""
        return self._core.encode_into(prompt, state, tokens, mask)

    def encode_batch(self, prompts: Texts, states: ArrayLike) -> PromptBatch:
        """N prompts with their normalised states [N, D]; each distinct text is tokenized once.

        Raises:
            InputError: A joint is NaN or infinite; the message names row and joint.
        """
        return PromptBatch._make(self._core.encode_batch(prompts, states))

    def __reduce__(self):
        return type(self), (self.tokenizer, self.max_len)


class Pi0FastPrompts:
    r"""π0-FAST: `Task: {text}, State: {bins};\n`, in training then `Action: `, the action ids, `|`, the end.

    FAST id t is text id `vocab_size - 1 - 128 - t`.
    """

    __slots__ = ("_core", "codec", "tokenizer")

    def __init__(self, tokenizer: TextTokenizer, codec: FastCodec | None, max_len: int = 250) -> None:
        """Prompts of `max_len` ids; without `codec` only prefixes can be made.

        Raises:
            InputError: The text vocabulary is too small for the codec's ids.
        """
        self.tokenizer, self.codec = tokenizer, codec
        self._core = _core.Pi0FastPrompts(tokenizer, 1 if codec is None else codec.vocab_size, max_len)

    @property
    def max_len(self) -> int:
        """L, ids in a row."""
        return self._core.max_len

    def encode(
        self,
        prompt: str,
        state: ArrayLike,
        actions: ArrayLike | None = None,
        *,
        on_overflow: OnOverflow = "error",
    ) -> FastPrompt:
        """One prompt: the prefix alone, or with `actions` the training form.

        Args:
            prompt: The instruction.
            state: [D] the normalised state, not padded.
            actions: [H, D] the normalised action chunk, not padded.
            on_overflow: See `FastCodec.encode`.
        """
        ids = None if actions is None else self._codec().encode(actions, on_overflow=on_overflow).ids
        return FastPrompt._make(self._core.encode(prompt, state, ids))

    def encode_into(
        self, prompt: str, state: ArrayLike, tokens: NDArray[np.int32], mask: NDArray[np.bool_]
    ) -> tuple[int, bool]:
        """Writes one prefix into `tokens` [L] and `mask` [L] of any L; returns (length, truncated)."""
        return self._core.encode_into(prompt, state, tokens, mask)

    def encode_batch(
        self,
        prompts: Texts,
        states: ArrayLike,
        actions: ArrayLike | TokenBatch | None = None,
        *,
        on_overflow: OnOverflow = "error",
    ) -> FastPromptBatch:
        """N prompts with states [N, D], and for training with action chunks [N, H, D] or their tokens.

        Raises:
            InputError: The message names the row, and the joint or dimension at fault.
        """
        if actions is None:
            return FastPromptBatch._make(self._core.encode_batch(prompts, states, None, None))
        if not isinstance(actions, TokenBatch):
            actions = self._codec().encode_batch(actions, on_overflow=on_overflow)
        return FastPromptBatch._make(self._core.encode_batch(prompts, states, actions.ids, actions.offsets))

    def ids_to_fast(self, ids: ArrayLike, *, continued: bool = False) -> NDArray[np.int32]:
        """The FAST ids in a generated sequence: between the first `Action: ` and the next `|` or the end.

        Args:
            ids: [n] text ids, with or without the prompt before them.
            continued: Whether the sequence goes on after a prefix that ended in `Action: ` already.

        Raises:
            InputError: There is no `Action: `, or a token stands there that is no action; names its position.
        """
        return self._core.fast_ids(ids, continued)

    def ids_to_actions(
        self, ids: ArrayLike, *, horizon: int, dim: int, partial: Partial = "error", continued: bool = False
    ) -> Decoded:
        """A generated sequence to normalised actions [horizon, dim], from the ids directly.

        Raises:
            InputError: As `ids_to_fast`.
            IncompleteChunkError: As `FastCodec.decode`.
        """
        codec = self._codec()._core
        return Decoded._make(self._core.ids_to_actions(codec, ids, horizon, dim, partial, continued))

    def ids_to_actions_batch(
        self,
        ids: Sequence[ArrayLike] | NDArray[np.integer],
        *,
        horizon: int,
        dim: int,
        partial: Partial = "error",
        continued: bool = False,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """N generated sequences to normalised actions, without the GIL.

        Args:
            ids: N sequences of text ids as `ids_to_actions` takes them, or [N, L] of them, where what follows
                a sequence's end is not read.
            horizon: H of the chunks.
            dim: D of the chunks.
            partial: See `FastCodec.decode`.
            continued: See `ids_to_fast`.

        Returns:
            Actions [N, horizon, dim], and [N] how many coefficients were missing.

        Raises:
            InputError, IncompleteChunkError: As `ids_to_actions`; the message names the sequence too.
        """
        codec = self._codec()._core
        return self._core.ids_to_actions_batch(codec, ids, horizon, dim, partial, continued)

    def _codec(self) -> FastCodec:
        if self.codec is None:
            raise InputError("these prompts were made without a codec, which actions need")
        return self.codec

    def __reduce__(self):
        return type(self), (self.tokenizer, self.codec, self.max_len)
