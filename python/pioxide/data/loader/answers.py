"""`Answers`: the actions of π0 and π0.5 as tokens, which their language model may learn to write as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec, Pi0FastPrompts, Pi0Prompts, Pi05Prompts, TextTokenizer, TokenBatch
from pioxide.contract.pipeline import Prompts
from pioxide.errors import InputError


@dataclass(frozen=True)
class Answers:
    """Writes action tokens as they stand behind a prompt: `Action: `, the tokens, `|`, the end.

    Attributes:
        prompts: Whose ids: those of π0-FAST.
        start: Ids before the action tokens; none where the prompt ends in `Action: ` already.
        length: A, ids in a row; what is longer is cut.
    """

    prompts: Pi0FastPrompts
    start: NDArray[np.int32]
    length: int

    @classmethod
    def of(
        cls, prompts: Prompts | None, tokenizer: TextTokenizer, codec: ActionCodec | None, length: int
    ) -> Answers:
        """Makes them for a family's prompts.

        Raises:
            InputError: The prompts are π0-FAST's, which hold their answers, or there is no codec.
        """
        if not isinstance(prompts, Pi0Prompts | Pi05Prompts):
            raise InputError("answer_len: π0-FAST has its answer in its prompt's row already; leave it at 0")
        if codec is None:
            raise InputError("answer_len: answers are action tokens, which need an action codec: pass codec=")
        writes = Pi0FastPrompts(tokenizer, codec)
        start = np.zeros(0, np.int32) if isinstance(prompts, Pi05Prompts) else writes.answer_start
        return cls(writes, start, length)

    def write(self, tokens: TokenBatch) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Returns ids [n, A], padded with 0, and which are real."""
        ids, end = self.prompts.fast_to_ids(tokens.ids), self.prompts.answer_end
        rows = np.zeros((len(tokens), self.length), np.int32)
        mask = np.zeros(rows.shape, np.bool_)
        for row, real, a, b in zip(rows, mask, tokens.offsets[:-1], tokens.offsets[1:], strict=True):
            answer = np.concatenate([self.start, ids[a:b], end])[: self.length]
            row[: len(answer)] = answer
            real[: len(answer)] = True
        return rows, mask
