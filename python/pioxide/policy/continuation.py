"""What a robot's previous chunk gives to its next one: actions to continue, or a draft to verify."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec import Pi0FastPrompts
from pioxide.contract import Pipeline, known
from pioxide.engine import FlowSampler, Sampler, TokenSampler
from pioxide.errors import InputError
from pioxide.policy.session import Session
from pioxide.sampling import Draft, PrevChunkLeftOver, pad_prev_chunk_left_over


class Continuation(NamedTuple):
    """What is left of one robot's chunk.

    Attributes:
        prev_chunk_left_over: [n, D] in the robot's units, the action that is due at the observation first.
        inference_delay: How many of these will have been played before the answer is there.
    """

    prev_chunk_left_over: ArrayLike
    inference_delay: int = 0


class Continuations:
    """Turns what is left of chunks into what an engine reads.

    Actions in the robot's units become what the model would have given for them at the new state: relative
    ones were relative to an earlier state, and what the robot will do is what has to agree.

    Attributes:
        wanted: Whether the sampler uses them at all.
    """

    def __init__(self, pipeline: Pipeline, sampler: Sampler, horizon: int, dim: int) -> None:
        """Prepares for chunks [H, W] of a model."""
        self._pipeline, self._horizon, self._dim = pipeline, horizon, dim
        self._continues = isinstance(sampler, FlowSampler) and sampler.realtime is not None
        self._draft = sampler.max_tokens if isinstance(sampler, TokenSampler) and sampler.speculative else 0
        # Trained for delays up to this; guided weights take any.
        self._longest = horizon
        if isinstance(sampler, FlowSampler) and sampler.realtime == "trained":
            self._longest = known(pipeline.contract.max_delay, "max_delay")
        self.wanted = self._continues or self._draft > 0

    def inputs(
        self,
        left_over: Sequence[Continuation | None],
        robot_states: NDArray[np.float64],
        sessions: Sequence[Session],
    ) -> dict[str, Any]:
        """Returns the fields of `Inputs` that a batch's previous chunks fill.

        Args:
            left_over: What is left of each robot's chunk.
            robot_states: [B, S] in the robot's units, of the new observations.
            sessions: Whose previous answers are drafts where nothing is left.

        Raises:
            InputError: Something is left that nothing can use, or of a wrong shape; or the delay is longer
                than the weights were trained for.
        """
        if not self.wanted:
            if any(one is not None for one in left_over):
                raise InputError(
                    "prev_chunk_left_over: this policy's sampler has neither realtime nor speculative"
                )
            return {}
        rows = [self._row(one, state) for one, state in zip(left_over, robot_states, strict=True)]
        if self._continues:
            parts: list[Any] = [np.concatenate(part) for part in zip(*rows, strict=True)]
            return {"prev_chunk_left_over": PrevChunkLeftOver(*parts)}
        drafts = [
            self._tokens(None if one is None or not np.size(one.prev_chunk_left_over) else row, session)
            for one, row, session in zip(left_over, rows, sessions, strict=True)
        ]
        tokens = np.zeros((len(drafts), self._draft), np.int32)
        for row, ids in zip(tokens, drafts, strict=True):
            row[: len(ids)] = ids
        lengths = np.array([len(ids) for ids in drafts], np.int32)
        return {"draft": Draft(tokens, lengths)}

    def _row(self, one: Continuation | None, state: NDArray[np.float64]) -> PrevChunkLeftOver:
        """Returns one robot's, with a leading axis of 1; relative to the new state and normalised."""
        given, delay = (None, 0) if one is None else one
        left = None
        if given is not None and np.size(given):
            dim = self._pipeline.numbers.robot.action_dim
            if np.ndim(given) != 2:
                raise InputError(
                    f"prev_chunk_left_over: expected actions [n, {dim}], got shape {np.shape(given)}"
                )
            normalised = self._pipeline.numbers.apply_actions(given, state)
            left = np.zeros((len(normalised), self._dim))
            left[:, :dim] = normalised
        if isinstance(delay, bool) or not isinstance(delay, Integral):
            raise InputError(f"inference_delay: expected a whole number of actions, got {delay!r}")
        row = pad_prev_chunk_left_over(left, int(delay), horizon=self._horizon, dim=self._dim)
        if (kept := int(row.inference_delay[0])) > self._longest:
            raise InputError(
                f"inference_delay: {kept} actions will be played before the answer, and these weights were "
                f"trained for delays of up to {self._longest} (max_delay): they might not continue it. "
                "Ask earlier or at a lower rate, train with a larger max_delay, or use an RTCConfig, which "
                "guides any weights"
            )
        return row

    def _tokens(self, row: PrevChunkLeftOver | None, session: Session) -> NDArray[np.int32]:
        """Returns the ids of a chunk that the answer may be like, or those of the answer before."""
        ids = session.previous
        if row is not None:
            prompts, codec = self._pipeline.prompts, self._pipeline.codec
            assert isinstance(prompts, Pi0FastPrompts)
            assert codec is not None
            ids = prompts.first_fast_id - codec.encode(np.asarray(row.actions[0]), on_overflow="clip").ids
        return ids[: self._draft]
