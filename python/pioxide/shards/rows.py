"""Frames -> Arrow rows, one class a model: what a training loader reads, without padding.

Columns of every row: `episode`, `frame`, `task` (int32), `tokens` (list<int32>: prompt ids after truncation,
    no padding)
and `length` (int32: ids before truncation, so `length > max_len` marks a row that was cut). Then, by model:

    pi0       `state` float32[S] and `actions` float32[H*D], normalised, row-major
    pi05      `actions` float32[H*D]; the state stands in the prompt, or nowhere where the contract says so
    pi0_fast  `prefix_length` (int32: ids up to it are one bidirectional block without loss, those after it
    are causal and
              carry the loss) and `clipped` (int32: coefficients that the FAST vocabulary lacks)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pioxide.codec import ActionCodec, Pi0FastPrompts, Pi0Prompts, Pi05Prompts
from pioxide.contract import Pipeline, known
from pioxide.data.overflow import chunk_of, placed
from pioxide.errors import InputError, OverflowingChunkError
from pioxide.shards.frames import Frames
from pioxide.shards.settings import OnOverflow

COMMON = [
    pa.field("episode", pa.int32(), nullable=False),
    pa.field("frame", pa.int32(), nullable=False),
    pa.field("task", pa.int32(), nullable=False),
    pa.field("tokens", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    pa.field("length", pa.int32(), nullable=False),
]


class Counts(NamedTuple):
    """What is worth knowing of some rows; see `ShardRecord`."""

    tokens: int = 0
    action_tokens: int = 0
    longest: int = 0
    truncated: int = 0
    clipped_rows: int = 0
    clipped: int = 0

    def plus(self, other: Counts) -> Counts:
        """Returns both together."""
        sums = [a + b for a, b in zip(self, other, strict=True)]
        return Counts(*sums)._replace(longest=max(self.longest, other.longest))


class RowMaker(Protocol):
    """Turns frames into rows of one schema."""

    @property
    def schema(self) -> pa.Schema:
        """Returns the columns."""
        ...

    def rows(self, frames: Frames) -> tuple[pa.RecordBatch, Counts]:
        """Returns one row a frame."""
        ...


@dataclass(frozen=True)
class FlowRows:
    """Rows for π0 and π0.5: actions as numbers; the state as numbers, in the prompt, or (π0.5) nowhere.

    Attributes:
        prompts: As the contract has them.
        state_dim: Numbers of the state where the network reads a vector, else None.
        action_numbers: H * D.
    """

    prompts: Pi0Prompts | Pi05Prompts
    state_dim: int | None
    action_numbers: int

    @property
    def schema(self) -> pa.Schema:
        """See the module."""
        state = [] if self.state_dim is None else [_floats("state", self.state_dim)]
        return pa.schema([*COMMON, *state, _floats("actions", self.action_numbers)])

    def rows(self, frames: Frames) -> tuple[pa.RecordBatch, Counts]:
        """Returns one row a frame."""
        texts = (frames.prompts, frames.prompt_index)
        if isinstance(self.prompts, Pi05Prompts):
            batch = self.prompts.encode_batch(texts, frames.state)
        else:
            batch = self.prompts.encode_batch(texts)
        tokens, counts = _tokens(batch.tokens, batch.mask, batch.lengths)
        state = [] if self.state_dim is None else [_vectors(frames.state)]
        columns = [tokens, _int32(batch.lengths), *state, _vectors(frames.chunks)]
        return pa.record_batch([*_indices(frames), *columns], schema=self.schema), counts


@dataclass(frozen=True)
class Pi0FastRows:
    """Rows for π0-FAST: instruction, state and actions as text."""

    prompts: Pi0FastPrompts
    codec: ActionCodec
    on_overflow: OnOverflow
    joints: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """See the module."""
        last = [pa.field(name, pa.int32(), nullable=False) for name in ("prefix_length", "clipped")]
        return pa.schema([*COMMON, *last])

    def rows(self, frames: Frames) -> tuple[pa.RecordBatch, Counts]:
        """Returns one row a frame.

        Raises:
            OverflowingChunkError: A coefficient has no token and `on_overflow` is "error"; names episode and
                frame.
        """
        try:
            actions = self.codec.encode_batch(frames.chunks, on_overflow=self.on_overflow)
        except OverflowingChunkError as error:
            way_out = "leave the episode out (--episodes, --skip-bad), mend it, or take --on-overflow clip"
            chunk = chunk_of(error)
            if chunk is None:
                raise
            place = (frames.episode, int(frames.frame_index[chunk]))
            raise placed(error, place, self.joints, way_out) from None
        batch = self.prompts.encode_batch((frames.prompts, frames.prompt_index), frames.state, actions)
        tokens, counts = _tokens(batch.tokens, batch.mask, batch.lengths)
        prefix = np.count_nonzero(batch.mask & ~batch.loss_mask, axis=1)
        counts = counts._replace(
            action_tokens=int(actions.offsets[-1]),
            clipped_rows=int(np.count_nonzero(actions.clipped)),
            clipped=int(actions.clipped.sum()),
        )
        columns = [tokens, _int32(batch.lengths), _int32(prefix), _int32(actions.clipped)]
        return pa.record_batch([*_indices(frames), *columns], schema=self.schema), counts


def row_maker(pipeline: Pipeline, on_overflow: OnOverflow) -> RowMaker:
    """Returns what makes the rows of a pipeline's model.

    Raises:
        InputError: π0-FAST without a FAST tokenizer, or a pipeline without a text tokenizer.
    """
    prompts, robot = pipeline.prompts, pipeline.numbers.robot
    if prompts is None:
        raise InputError("rows need prompts; give the pipeline a text tokenizer")
    if isinstance(prompts, Pi0FastPrompts):
        if pipeline.codec is None:
            raise InputError(
                "pi0_fast needs a FAST tokenizer; make one with `pioxide fit`, or `pioxide fetch fast`"
            )
        return Pi0FastRows(prompts, pipeline.codec, on_overflow, tuple(robot.joint_names))
    horizon = known(pipeline.contract.action_horizon, "action_horizon")
    state_dim = robot.state_dim if pipeline.family.state_is_vector else None
    return FlowRows(prompts, state_dim, horizon * robot.action_dim)


def _floats(name: str, size: int) -> pa.Field:
    return pa.field(name, pa.list_(pa.field("item", pa.float32(), nullable=False), size), nullable=False)


def _indices(frames: Frames) -> list[pa.Array]:
    episode = np.full(len(frames), frames.episode, np.int32)
    return [pa.array(episode), _int32(frames.frame_index), _int32(frames.task_index)]


def _int32(values: NDArray) -> pa.Array:
    return pa.array(np.ascontiguousarray(values, dtype=np.int32))


def _vectors(values: NDArray) -> pa.Array:
    """[n, ...] as n float32 vectors."""
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(len(values), -1)
    kind = pa.list_(pa.field("item", pa.float32(), nullable=False), flat.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind)


def _tokens(tokens: NDArray, mask: NDArray, lengths: NDArray) -> tuple[pa.Array, Counts]:
    """Padded ids [n, L] as lists without padding, and their counts."""
    kept = np.count_nonzero(mask, axis=1)
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
    kind = pa.list_(pa.field("item", pa.int32(), nullable=False))
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens[mask].astype(np.int32)), type=kind)
    longest = int(lengths.max(initial=0))
    return lists, Counts(int(offsets[-1]), 0, longest, int(np.count_nonzero(lengths > kept)), 0, 0)
