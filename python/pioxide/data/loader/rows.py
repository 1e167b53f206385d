"""Text and numbers of a source's rows, made of the recording as `pioxide tokenize` makes them, or read back.

Both give a `Part`: arrays of n rows at the shapes of a `Batch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import Advantage, Pi0FastPrompts, Pi05Prompts, SubtaskPrompts, with_advantage
from pioxide.contract import Contract, Pipeline, known
from pioxide.data.loader.answers import Answers
from pioxide.data.loader.index import FrameIndex
from pioxide.data.overflow import chunk_of, placed
from pioxide.errors import ContractError, InputError, OverflowingChunkError


class Part(NamedTuple):
    """Text and numbers of n rows; see `Batch`."""

    tokens: NDArray[np.int32]
    token_mask: NDArray[np.bool_]
    state: NDArray[np.float32] | None = None
    actions: NDArray[np.float32] | None = None
    action_mask: NDArray[np.bool_] | None = None
    ar_mask: NDArray[np.int32] | None = None
    loss_mask: NDArray[np.bool_] | None = None
    answer: NDArray[np.int32] | None = None
    answer_mask: NDArray[np.bool_] | None = None


class Rows(Protocol):
    """What gives text and numbers of rows."""

    def part(self, rows: NDArray[np.int64]) -> Part:
        """Returns those of rows [n], in this order."""
        ...

    def unadvised(self, rows: NDArray[np.int64]) -> Part:
        """Returns those of rows [n] without the advantage in their prompts."""
        ...

    def question(self, rows: NDArray[np.int64]) -> Part:
        """Returns those of rows [n] that ask for their subtask, and teach no action.

        Raises:
            InputError: There are no subtasks.
        """
        ...


class Widths(NamedTuple):
    """Sizes of the arrays.

    Attributes:
        horizon: H.
        action_dim: D, the robot's.
        model_dim: W, the model's; None for π0-FAST, which has no padded actions.
    """

    horizon: int
    action_dim: int
    model_dim: int | None

    @classmethod
    def of(cls, contract: Contract) -> Widths:
        """Reads them off a contract.

        Raises:
            ContractError: It does not say them, or the robot is wider than the model.
        """
        contract.require(
            "family", "robot", "action_horizon", "text_len", "model_dim", doing="making training batches"
        )
        robot, horizon = known(contract.robot, "robot"), known(contract.action_horizon, "action_horizon")
        family = known(contract.family, "family")
        if not family.is_flow:
            return cls(horizon, robot.action_dim, None)
        width = known(contract.model_dim, "model_dim")
        # π0.5 reads the state as text, however many numbers it has.
        if max(robot.action_dim, robot.state_dim if family.state_is_vector else 0) > width:
            of_state = f"{robot.state_dim} numbers of state, " if family.state_is_vector else ""
            error = ContractError(
                f"model_dim: {robot.name} has {of_state}{robot.action_dim} numbers of an action, and the "
                f"model holds {width}; choose joints, or a wider model"
            )
            error.fields = ("model_dim", "robot")
            raise error
        return cls(horizon, robot.action_dim, width)

    def actions(
        self, chunks: NDArray[np.floating], there: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Returns chunks [n, H, D] padded to [n, H, W], and the mask of what is real."""
        assert self.model_dim is not None
        actions = np.zeros((*chunks.shape[:2], self.model_dim), np.float32)
        actions[..., : self.action_dim] = chunks
        mask = np.zeros(actions.shape, np.bool_)
        mask[..., : self.action_dim] = there[..., None]
        return actions, mask


@dataclass(frozen=True)
class Saying:
    """What the language model learns to say of N rows.

    Attributes:
        prompts: Questions and answers.
        length: A, ids of an answer in a row.
    """

    prompts: SubtaskPrompts
    length: int


@dataclass(frozen=True)
class RecordedRows:
    """Rows made of a recording's numbers.

    Attributes:
        index: The rows.
        states: [N, S] as recorded.
        actions: [N, D] as recorded.
        task: [N] which of `prompts`.
        prompts: Instructions.
        pipeline: Of the source's contract.
        widths: Of the arrays.
        on_overflow: For coefficients without a token.
        name: What messages call the source.
        answers: π0 and π0.5: writes the actions as tokens too; None where nothing learns them.
        subtask: [N] which of `subtasks`, -1 for none; None where there are none.
        subtasks: What stands in the instruction's place.
        saying: How the language model is asked for them; None where it is not.
        good: [N] whether the actions of each are good, which prompts then say; None where nobody says.
    """

    index: FrameIndex
    states: NDArray[np.floating]
    actions: NDArray[np.floating]
    task: NDArray[np.int32]
    prompts: tuple[str, ...]
    pipeline: Pipeline
    widths: Widths
    on_overflow: Literal["error", "clip"]
    name: str
    answers: Answers | None = None
    subtask: NDArray[np.int32] | None = None
    subtasks: tuple[str, ...] = ()
    saying: Saying | None = None
    good: NDArray[np.bool_] | None = None

    def part(self, rows: NDArray[np.int64]) -> Part:
        """See `Rows`."""
        return self._part(rows, self._texts(rows, self.good))

    def unadvised(self, rows: NDArray[np.int64]) -> Part:
        """See `Rows`."""
        return self._part(rows, self._texts(rows, None))

    def said(self) -> tuple[str, ...]:
        """Returns every text that `part` writes into prompts."""
        acting = np.ones(len(self.index), np.bool_) if self.subtask is None else self.subtask >= 0
        return self._texts(np.flatnonzero(acting), self.good)[0]

    def _texts(
        self, rows: NDArray[np.int64], good: NDArray[np.bool_] | None
    ) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Returns what stands in the prompts of rows, and which of it each has."""
        texts, which = self.prompts, self.task
        if self.subtask is not None:
            texts, which = self.subtasks, self.subtask
        advantage = np.zeros(len(rows), np.int64) if good is None else 1 + good[rows]
        said, row = np.unique(3 * which[rows].astype(np.int64) + advantage, return_inverse=True)
        words = (None, Advantage.NEGATIVE, Advantage.POSITIVE)
        return tuple(with_advantage(texts[one // 3], words[one % 3]) for one in said.tolist()), row

    def _part(self, rows: NDArray[np.int64], texts: tuple[tuple[str, ...], NDArray[np.int64]]) -> Part:
        window, there = self.index.window(rows, self.widths.horizon)
        made = self.pipeline.numbers.episode(self.states[rows], self.actions[window.reshape(-1)])
        everything = slice(0, len(rows))
        state = made.state(everything)
        chunks = made.chunks(made.steps.reshape(len(rows), self.widths.horizon, -1), everything)
        prompts = self.pipeline.prompts
        if isinstance(prompts, Pi0FastPrompts):
            tokens = self._encoded(chunks, rows)
            batch = prompts.encode_batch(texts, state, tokens)
            return Part(batch.tokens, batch.mask, ar_mask=batch.ar_mask, loss_mask=batch.loss_mask)
        if isinstance(prompts, Pi05Prompts):
            text = prompts.encode_batch(texts, state)
        elif prompts is not None:
            text = prompts.encode_batch(texts)
        else:
            raise InputError("a loader needs a text tokenizer, which prompts are made with")
        part = Part(
            text.tokens, text.mask, self.pipeline.state_vector(state), *self.widths.actions(chunks, there)
        )
        if self.answers is None:
            if self.saying is None:
                return part
            nothing = np.zeros((len(rows), self.saying.length), np.int32)
            return part._replace(answer=nothing, answer_mask=nothing.astype(np.bool_))
        answer, mask = self.answers.write(self._encoded(chunks, rows))
        return part._replace(answer=answer, answer_mask=mask)

    def question(self, rows: NDArray[np.int64]) -> Part:
        """See `Rows`."""
        if self.saying is None or self.subtask is None:
            raise InputError(f"{self.name}: there are no subtasks to ask for")
        prompts, length = self.saying.prompts, self.saying.length
        made = self.pipeline.numbers.episode(self.states[rows], self.actions[rows])
        states = made.state(slice(0, len(rows)))
        tokens = np.zeros((len(rows), prompts.max_len), np.int32)
        answer = np.zeros((len(rows), length), np.int32)
        mask, answer_mask = np.zeros(tokens.shape, np.bool_), np.zeros(answer.shape, np.bool_)
        for i, (row, state) in enumerate(zip(rows.tolist(), states, strict=True)):
            asked, _ = prompts.encode(self.prompts[self.task[row]], state)
            said = prompts.answer(self.subtasks[self.subtask[row]])[:length]
            for out, real, ids in ((tokens[i], mask[i], asked), (answer[i], answer_mask[i], said)):
                out[: len(ids)], real[: len(ids)] = ids, True
        chunk = (len(rows), self.widths.horizon, self.widths.model_dim or 0)
        actions, nothing = np.zeros(chunk, np.float32), np.zeros(chunk, np.bool_)
        return Part(tokens, mask, None, actions, nothing, answer=answer, answer_mask=answer_mask)

    def _encoded(self, chunks: NDArray[np.float64], rows: NDArray[np.int64]) -> Any:
        codec = self.pipeline.codec
        if codec is None:
            raise InputError("action tokens need an action codec, such as FAST: pass codec=")
        try:
            return codec.encode_batch(chunks, on_overflow=self.on_overflow)
        except OverflowingChunkError as error:
            chunk = chunk_of(error)
            if chunk is None:
                raise
            row = rows[chunk : chunk + 1]
            place = (self.index.infos[int(self.index.episode[row][0])].index, int(self.index.frame(row)[0]))
            joints = self.pipeline.numbers.robot.joint_names
            way_out = "leave the episode out, mend it, or take on_overflow clip"
            found = placed(error, place, joints, way_out)
            raise OverflowingChunkError(f"{self.name}: {found}") from None


@dataclass(frozen=True)
class TokenizedRows:
    """Rows that `pioxide tokenize` made, in memory.

    Attributes:
        index: The rows of the recording, N of them.
        at: [N] which of the M token rows each is, -1 for none.
        ids: All token rows' ids, one after another.
        offsets: [M + 1] where each one's ids begin.
        prefix: [M] ids before the answer; π0-FAST only.
        state: [M, S] normalised; π0 only.
        actions: [M, H, D] normalised; π0 and π0.5.
        pipeline: Of the rows' contract.
        widths: Of the arrays.
        text_len: L.
    """

    index: FrameIndex
    at: NDArray[np.int64]
    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    prefix: NDArray[np.int32] | None
    state: NDArray[np.float32] | None
    actions: NDArray[np.float32] | None
    pipeline: Pipeline
    widths: Widths
    text_len: int

    def part(self, rows: NDArray[np.int64]) -> Part:
        """See `Rows`."""
        at = self.at[rows]
        lengths = self.offsets[at + 1] - self.offsets[at]
        mask = np.arange(self.text_len) < lengths[:, None]
        tokens = np.zeros(mask.shape, np.int32)
        tokens[mask] = np.concatenate([self.ids[self.offsets[i] : self.offsets[i + 1]] for i in at])
        if self.prefix is not None:
            suffix = mask & (np.arange(self.text_len) >= self.prefix[at][:, None])
            return Part(tokens, mask, ar_mask=suffix.astype(np.int32), loss_mask=suffix)
        assert self.actions is not None
        _, there = self.index.window(rows, self.widths.horizon)
        state = None if self.state is None else self.pipeline.state_vector(self.state[at].astype(np.float64))
        return Part(tokens, mask, state, *self.widths.actions(self.actions[at], there))

    def unadvised(self, rows: NDArray[np.int64]) -> Part:
        """See `Rows`."""
        return self.part(rows)

    def question(self, rows: NDArray[np.int64]) -> Part:
        """See `Rows`."""
        raise InputError("token rows hold no subtasks")
