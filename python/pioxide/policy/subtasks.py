"""Subtasks: what π0.5 says that it does next, before it acts; one for each robot, kept for some chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import SubtaskPrompts, TextTokenizer
from pioxide.contract import Contract, Frames, make_subtask_prompts
from pioxide.engine import Engine, Inputs, TextSampler, TokenFormat
from pioxide.errors import InputError, PolicyError
from pioxide.policy.answer import SubtaskOptions
from pioxide.policy.session import Subtask
from pioxide.sampling import BROKEN


class SubtaskWriter:
    """Asks a policy's language model for subtasks when they are due. Keeps nothing of a robot."""

    def __init__(
        self, options: SubtaskOptions, contract: Contract, tokenizer: TextTokenizer, engine: Engine
    ) -> None:
        """Shares the engine's weights.

        Raises:
            ContractError: The weights did not learn to write subtasks, or nobody says whether they did.
        """
        self.options = options
        self.prompts: SubtaskPrompts = make_subtask_prompts(contract, tokenizer)
        token_format = TokenFormat((self.prompts.end,), writable=self.prompts.writable)
        self.engine = engine.writer(TextSampler(options.max_tokens), token_format)

    def update(
        self,
        frames: Frames,
        images: dict[str, NDArray[Any]],
        masks: dict[str, NDArray[np.bool_]] | None,
        before: Sequence[Subtask | None],
    ) -> tuple[list[Subtask], NDArray[np.bool_]]:
        """Returns the subtask of each robot, a new one where that is due, and [B] which questions were cut.

        Args:
            frames: What B robots see.
            images: Of them, resized.
            masks: By slot, [B] which rows have that image; None where all do.
            before: The subtask so far, None for a robot without.

        Raises:
            PolicyError: A robot has no subtask yet, and what the model wrote is none; or it gave NaN.
        """
        cut = np.zeros(len(before), np.bool_)
        due = [row for row, one in enumerate(before) if self._due(one)]
        said = dict(enumerate(before))
        if due:
            asked: list[NDArray[np.int32]] = []
            for row in due:
                ids, cut[row] = self.prompts.encode(frames.prompts[row], frames.state[row])
                asked.append(ids)
            tokens, lengths = padded(asked)
            inputs = Inputs(
                {slot: image[due] for slot, image in images.items()},
                tokens,
                lengths,
                None if masks is None else {slot: mask[due] for slot, mask in masks.items()},
            )
            written = self.engine.run(inputs).tokens
            assert written is not None
            said |= {row: self._read(ids, before[row]) for row, ids in zip(due, written, strict=True)}
        return [one for one in said.values() if one is not None], cut

    def _due(self, now: Subtask | None) -> bool:
        return now is None or (not now.given and now.chunks >= self.options.every)

    def _read(self, ids: NDArray[np.int32], before: Subtask | None) -> Subtask:
        if (ids == BROKEN).any():
            raise PolicyError(
                "the network gave scores of a subtask's tokens that are NaN or infinite; look for NaN in the "
                "weights"
            )
        try:
            return Subtask(self.prompts.read(ids))
        except InputError as error:
            if before is None:
                raise PolicyError(
                    f"the language model wrote no subtask: {error}; raise SubtaskOptions.max_tokens if it is "
                    "one that goes on, or give the session a subtask"
                ) from error
            return before._replace(unreadable=str(error))


def padded(ids: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Returns rows of ids as [B, L], padded with 0, and their lengths [B]."""
    lengths = np.array([len(one) for one in ids], np.int32)
    tokens = np.zeros((len(ids), int(lengths.max())), np.int32)
    for row, one in zip(tokens, ids, strict=True):
        row[: len(one)] = one
    return tokens, lengths
