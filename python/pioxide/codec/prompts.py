"""The prompts of the three models, as ids and masks ready for the network."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide import _core
from pioxide.codec.action_codec import ActionCodec
from pioxide.codec.fast import Decoded, FastCodec, OnOverflow, Partial, TokenBatch
from pioxide.codec.text import TextTokenizer
from pioxide.errors import InputError

# Whose prompts: weights need the text that they were trained on.
PromptStyle = Literal["openpi", "lerobot"]
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
    r"""π0: the text and a newline. The state goes to the network as numbers, not as text.

    >>> from pioxide.demo import text_model_path
    >>> tokenizer = TextTokenizer.load(text_model_path())
    >>> prompt = Pi0Prompts(tokenizer).encode(" pick_up the cube ")
    >>> prompt.length, prompt.truncated, prompt.tokens.shape
    (6, False, (48,))
    >>> tokenizer.decode(prompt.tokens[prompt.mask])
    'pick up the cube\n'
    """

    __slots__ = ("_core", "style", "tokenizer")

    def __init__(self, tokenizer: TextTokenizer, max_len: int = 48, *, style: PromptStyle = "openpi") -> None:
        """Makes prompts of `max_len` ids in the vocabulary of `tokenizer`.

        Args:
            tokenizer: The text vocabulary.
            max_len: L, ids in a row.
            style: "openpi" strips the text, turns its underscores and newlines into spaces, and encodes the
                final newline on its own. "lerobot" keeps the text, adds the newline only where it is missing,
                and encodes both together.
        """
        self.tokenizer = tokenizer
        self.style: PromptStyle = style
        self._core = _core.Pi0Prompts(tokenizer, max_len, style)

    @property
    def max_len(self) -> int:
        """Returns L, ids in a row."""
        return self._core.max_len

    def encode(self, prompt: str) -> Prompt:
        """Returns one prompt. Its text is tokenized again only when it differs from the last call's."""
        return Prompt._make(self._core.encode(prompt))

    def encode_into(
        self, prompt: str, tokens: NDArray[np.int32], mask: NDArray[np.bool_]
    ) -> tuple[int, bool]:
        """Writes one prompt into `tokens` [L] and `mask` [L] of any L; returns (length, truncated)."""
        return self._core.encode_into(prompt, tokens, mask)

    def encode_batch(self, prompts: Texts) -> PromptBatch:
        """Returns N prompts; each distinct text is tokenized once."""
        return PromptBatch._make(self._core.encode_batch(prompts))

    def __reduce__(self):
        return functools.partial(type(self), style=self.style), (self.tokenizer, self.max_len)


class Pi05Prompts:
    r"""π0.5: `Task: {text}, State: {bins};\nAction: `, the state as one number from 0 to 255 a joint.

    >>> from pioxide.demo import text_model_path
    >>> tokenizer = TextTokenizer.load(text_model_path())
    >>> prompt = Pi05Prompts(tokenizer).encode("Fold the towel", [-0.5, 0.0, 0.25])
    >>> tokenizer.decode(prompt.tokens[prompt.mask])
    'Task: Fold the towel, State: 64 128 160;\nAction: '
    """

    __slots__ = ("_core", "state_width", "style", "tokenizer")

    def __init__(
        self,
        tokenizer: TextTokenizer,
        max_len: int = 200,
        *,
        style: PromptStyle = "openpi",
        state_width: int | None = None,
    ) -> None:
        """Makes prompts of `max_len` ids in the vocabulary of `tokenizer`.

        Args:
            tokenizer: The text vocabulary.
            max_len: L, ids in a row.
            style: Whose prompts. They differ only for texts that hold a control piece such as `<eos>`:
                "openpi" reads it as letters, "lerobot" as that piece.
            state_width: Joints that the text holds; a narrower state is filled up with zeros (bin 128). None
                writes the state as it comes. LeRobot up to 0.4 wrote 32 joints; openpi and later versions of
                LeRobot write the robot's.
        """
        self.tokenizer, self.state_width = tokenizer, state_width
        self.style: PromptStyle = style
        self._core = _core.Pi05Prompts(tokenizer, max_len, style, state_width)

    @property
    def max_len(self) -> int:
        """Returns L, ids in a row."""
        return self._core.max_len

    def encode(self, prompt: str, state: ArrayLike) -> Prompt:
        """Encodes one prompt.

        Args:
            prompt: The instruction. Tokenized again only when it differs from the last call's.
            state: [D] the normalised state, not padded.

        Raises:
            InputError: A joint is NaN or infinite (the message names it), or D is over `state_width`.
        """
        return Prompt._make(self._core.encode(prompt, state))

    def encode_into(
        self, prompt: str, state: ArrayLike, tokens: NDArray[np.int32], mask: NDArray[np.bool_]
    ) -> tuple[int, bool]:
        """Writes one prompt into `tokens` [L] and `mask` [L] of any L; returns (length, truncated)."""
        return self._core.encode_into(prompt, state, tokens, mask)

    def encode_batch(self, prompts: Texts, states: ArrayLike) -> PromptBatch:
        """Returns N prompts with their normalised states [N, D]; each distinct text is tokenized once.

        Raises:
            InputError: A joint is NaN or infinite; the message names row and joint.
        """
        return PromptBatch._make(self._core.encode_batch(prompts, states))

    def __reduce__(self):
        made = functools.partial(type(self), style=self.style, state_width=self.state_width)
        return made, (self.tokenizer, self.max_len)


class Pi0FastPrompts:
    r"""π0-FAST: `Task: {text}, State: {bins};\n`, in training then `Action: `, the action ids, `|`, the end.

    FAST id t is text id `first_fast_id - t`.

    >>> import numpy as np
    >>> from pioxide.demo import text_model_path
    >>> tokenizer = TextTokenizer.load(text_model_path())
    >>> chunk = np.sin(np.arange(32).reshape(16, 2) / 5)
    >>> prompts = Pi0FastPrompts(tokenizer, FastCodec.fit([chunk, chunk / 2], vocab_size=300))
    >>> row = prompts.encode("Fold the towel", [-0.5, 0.25], chunk)
    >>> tokenizer.decode(row.tokens[row.mask & ~row.loss_mask])
    'Task: fold the towel, State: 64 160;\n'
    >>> decoded = prompts.ids_to_actions(row.tokens, horizon=16, dim=2)
    >>> bool(np.abs(decoded.actions - chunk).max() < 0.1), decoded.missing
    (True, 0)
    """

    __slots__ = ("_core", "codec", "skipped_ids", "state_width", "style", "tokenizer")

    def __init__(
        self,
        tokenizer: TextTokenizer,
        codec: ActionCodec | None,
        max_len: int = 250,
        *,
        style: PromptStyle = "openpi",
        state_width: int | None = None,
        skipped_ids: int = 128,
    ) -> None:
        """Makes prompts of `max_len` ids; without `codec` only prefixes can be made.

        Args:
            tokenizer: The text vocabulary.
            codec: The action tokenizer. The ids of any codec lie where those of FAST do.
            max_len: L, ids in a row. LeRobot cuts the prefix and the answer each at its own length; here only
                the whole row is cut, and `truncated` says so.
            style: "openpi" lower-cases the text and keeps its newlines. "lerobot" keeps case, turns newlines
                into spaces, and puts a second beginning of sequence before `Action: `, which is causal and
                carries no loss.
            state_width: See `Pi05Prompts`.
            skipped_ids: Ids at the end of the text vocabulary that FAST ids leave alone.

        Raises:
            InputError: The text vocabulary is too small for the codec's ids.
        """
        self.tokenizer, self.codec = tokenizer, codec
        self.state_width, self.skipped_ids = state_width, skipped_ids
        self.style: PromptStyle = style
        fast_vocab = 1 if codec is None else codec.vocab_size
        self._core = _core.Pi0FastPrompts(tokenizer, fast_vocab, max_len, style, state_width, skipped_ids)

    @property
    def max_len(self) -> int:
        """Returns L, ids in a row."""
        return self._core.max_len

    @property
    def first_fast_id(self) -> int:
        """Returns the text id of FAST id 0; the others count down from it."""
        return self.tokenizer.vocab_size - 1 - self.skipped_ids

    @property
    def answer_start(self) -> NDArray[np.int32]:
        """Returns the ids that begin the answer, before actions: `Action: `, behind a BOS in LeRobot's style.

        LeRobot 0.6 trains with that BOS causal, as here, but generates with it as the end of the prompt,
        where the whole prompt attends to it.
        """
        return self._core.answer_start

    @property
    def answer_end(self) -> NDArray[np.int32]:
        """Returns the ids that end the answer, behind actions: those of `|`, then the end of the sequence."""
        return self._core.answer_end

    def fast_to_ids(self, fast_ids: ArrayLike) -> NDArray[np.int32]:
        """Returns [n] text ids of [n] FAST ids; `ids_to_fast` finds them again.

        Raises:
            InputError: An id is outside the FAST vocabulary; names its position.
        """
        return self._core.text_ids(fast_ids)

    def encode(
        self,
        prompt: str,
        state: ArrayLike,
        actions: ArrayLike | None = None,
        *,
        on_overflow: OnOverflow = "error",
    ) -> FastPrompt:
        """Returns one prompt: the prefix alone, or with `actions` the training form.

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
        """Returns N prompts with states [N, D]; for training also with action chunks [N, H, D] or tokens.

        Raises:
            InputError: The message names the row, and the joint or dimension at fault.
        """
        if actions is None:
            return FastPromptBatch._make(self._core.encode_batch(prompts, states, None, None))
        if not isinstance(actions, TokenBatch):
            actions = self._codec().encode_batch(actions, on_overflow=on_overflow)
        return FastPromptBatch._make(self._core.encode_batch(prompts, states, actions.ids, actions.offsets))

    def ids_to_fast(self, ids: ArrayLike, *, continued: bool = False) -> NDArray[np.int32]:
        """Returns a generated sequence's FAST ids: between the first `Action: ` and the next `|` or the end.

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
        """Decodes a generated sequence to normalised actions [horizon, dim], from the ids directly.

        Raises:
            InputError: As `ids_to_fast`.
            IncompleteChunkError: As `FastCodec.decode`.
        """
        codec = self._codec()
        if not isinstance(codec, FastCodec):
            fast = self.ids_to_fast(ids, continued=continued)
            return codec.decode(fast, horizon=horizon, dim=dim, partial=partial)
        core = codec._core  # pyright: ignore[reportPrivateUsage]
        return Decoded._make(self._core.ids_to_actions(core, ids, horizon, dim, partial, continued))

    def ids_to_actions_batch(
        self,
        ids: Sequence[ArrayLike] | NDArray[np.integer],
        *,
        horizon: int,
        dim: int,
        partial: Partial = "error",
        continued: bool = False,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Decodes N generated sequences to normalised actions, without the GIL.

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
        codec = self._codec()
        if not isinstance(codec, FastCodec):
            decoded = [
                self._named(i, one, horizon=horizon, dim=dim, partial=partial, continued=continued)
                for i, one in enumerate(ids)
            ]
            actions = np.stack([one.actions for one in decoded]) if decoded else np.zeros((0, horizon, dim))
            return actions, np.array([one.missing for one in decoded], np.int64)
        core = codec._core  # pyright: ignore[reportPrivateUsage]
        return self._core.ids_to_actions_batch(core, ids, horizon, dim, partial, continued)

    def _named(
        self, index: int, ids: ArrayLike, *, horizon: int, dim: int, partial: Partial, continued: bool
    ) -> Decoded:
        """One of several sequences, which its errors name."""
        try:
            return self.ids_to_actions(ids, horizon=horizon, dim=dim, partial=partial, continued=continued)
        except InputError as error:  # IncompleteChunkError stays what it is
            raise type(error)(f"sequence {index}: {error}") from error

    def _codec(self) -> ActionCodec:
        if self.codec is None:
            raise InputError("these prompts were made without a codec, which actions need")
        return self.codec

    def __reduce__(self):
        made = functools.partial(
            type(self), style=self.style, state_width=self.state_width, skipped_ids=self.skipped_ids
        )
        return made, (self.tokenizer, self.codec, self.max_len)
