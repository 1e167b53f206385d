"""`SubtaskPrompts`: π0.5's question for a subtask and its answer, before the actions that follow from it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.pieces import text_ids
from pioxide.codec.state import state_bins
from pioxide.codec.text import TextTokenizer
from pioxide.errors import InputError
from pioxide.family import FAST_SKIPPED_IDS


class SubtaskPrompts:
    r"""Asks for a subtask by `Task: {text}, State: {bins};\nSubtask: `; the answer is its text and the end.

    Its actions are then asked for by the family's own prompt, in which the subtask stands in the
    instruction's place: they depend on the subtask alone, as in the paper (arXiv 2504.16054). Public forks of
    openpi write both so.

    >>> from pioxide.demo import text_model_path
    >>> tokenizer = TextTokenizer.load(text_model_path())
    >>> prompts = SubtaskPrompts(tokenizer)
    >>> ids, truncated = prompts.encode("tidy_up the table", [-0.5, 0.25])
    >>> tokenizer.decode(ids)
    'Task: tidy up the table, State: 64 160;\nSubtask: '
    >>> prompts.read(prompts.answer("pick up the red cube"))
    'pick up the red cube'
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        max_len: int = 200,
        *,
        reads_state: bool = True,
        state_width: int | None = None,
        action_tokens: int = 0,
    ) -> None:
        r"""Makes prompts of at most `max_len` ids in the vocabulary of `tokenizer`.

        Args:
            tokenizer: The text vocabulary.
            max_len: L, ids in a prompt.
            reads_state: Whether the state is in the text; else it is `Task: {text};\nSubtask: `.
            state_width: See `Pi05Prompts`.
            action_tokens: Ids at the vocabulary's end that stand for actions, before the last 128.

        Raises:
            InputError: The vocabulary has no piece that ends a sequence.
        """
        if tokenizer.eos_id is None:
            raise InputError("the text vocabulary has no piece that ends a sequence, which a subtask needs")
        self.tokenizer, self.max_len = tokenizer, max_len
        self.reads_state, self.state_width = reads_state, state_width
        self.action_tokens = action_tokens
        self.end = tokenizer.eos_id

    @cached_property
    def writable(self) -> NDArray[np.bool_]:
        """Returns [V] which ids an answer may hold: text that stands for no action, and the end."""
        mask = text_ids(self.tokenizer)
        if self.action_tokens:
            last = len(mask) - FAST_SKIPPED_IDS
            mask[max(last - self.action_tokens, 0) : last] = False
        mask[self.end] = True
        return mask

    def encode(self, prompt: str, state: ArrayLike) -> tuple[NDArray[np.int32], bool]:
        """Returns the ids [n] of a question, not padded, and whether its end was cut.

        Args:
            prompt: The instruction.
            state: [D] the normalised state, not padded; left alone where the text does not hold it.

        Raises:
            InputError: A joint is NaN or infinite, or D is over `state_width`.
        """
        text = f"Task: {_clean(prompt)}"
        if self.reads_state:
            text += f", State: {' '.join(map(str, self._bins(state)))}"
        ids = self.tokenizer.encode(f"{text};\nSubtask: ", bos=True)
        return ids[: self.max_len], len(ids) > self.max_len

    def answer(self, subtask: str) -> NDArray[np.int32]:
        """Returns the ids [n] of an answer, its end included.

        Raises:
            InputError: There is no text, or a part of it has no id that is text.
        """
        text = _clean(subtask)
        if not text:
            raise InputError(f"subtask: expected a text, got {subtask!r}")
        ids = self.tokenizer.encode(text, eos=True)
        for id in ids[~self.writable[ids]]:
            raise InputError(
                f"subtask {subtask!r}: {self.tokenizer.piece(int(id))!r} is no text in this vocabulary; "
                "say it in other words"
            )
        return ids

    def read(self, ids: ArrayLike) -> str:
        """Returns the text of generated ids [n]; what follows the end is left alone.

        Raises:
            InputError: There is no end, or no text before it.
        """
        written = np.asarray(ids, np.int32)
        ends = np.flatnonzero(written == self.end)
        text = self.tokenizer.decode(written[: ends[0]] if ends.size else written).strip()
        if not ends.size:
            raise InputError(f"no end after {len(written)} tokens, but {text!r}")
        if not text:
            raise InputError("no text")
        return text

    def _bins(self, state: ArrayLike) -> list[int]:
        values = np.asarray(state, np.float64)
        if self.state_width is not None:
            missing = self.state_width - len(values)
            if missing < 0:
                raise InputError(f"state: {len(values)} joints, and the text holds {self.state_width}")
            values = np.pad(values, (0, missing))
        return state_bins(values).tolist()


def _clean(text: str) -> str:
    """As openpi cleans instructions."""
    return text.strip().replace("_", " ").replace("\n", " ")
