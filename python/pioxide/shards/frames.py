"""Cuts an episode into blocks of normalised states and action chunks, for fit, tokenize and inspect alike.

What is done to the numbers, and in which order, is `pioxide.contract.Numbers`' alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract, Numbers, known
from pioxide.data import Episode, FrameColumns, windows

# Frames worked on at a time: with H = 50 and D = 26 a block of float64 chunks is 21 MB.
BLOCK_FRAMES = 2048


@dataclass(frozen=True)
class Frames:
    """Some frames of one episode, n of them, in their order, as a model sees them.

    Attributes:
        episode: Its number.
        frame_index: [n].
        task_index: [n].
        prompts: Distinct instructions.
        prompt_index: [n] which of them each frame has.
        state: [n, S] float64, normalised.
        chunks: [n, H, D] float64, relative where the contract says so, normalised. May be a view that
            overlaps.
    """

    episode: int
    frame_index: NDArray[np.int64]
    task_index: NDArray[np.int64]
    prompts: list[str]
    prompt_index: NDArray[np.int64]
    state: NDArray[np.float64]
    chunks: NDArray[np.float64]

    def __len__(self) -> int:
        """Returns the number of frames n."""
        return len(self.frame_index)


@dataclass(frozen=True)
class FrameCutter:
    """Cuts episodes into frames.

    Attributes:
        numbers: What happens to states and actions.
        columns: Which columns they are.
        horizon: H, actions in a chunk. A chunk past its episode's end repeats the last action.
    """

    numbers: Numbers
    columns: FrameColumns
    horizon: int

    @classmethod
    def of(cls, contract: Contract, columns: FrameColumns) -> FrameCutter:
        """Reads it off a contract.

        Raises:
            ContractError: A field that numbers depend on is unknown, or the statistics are another robot's.
        """
        return cls(Numbers.of(contract), columns, known(contract.action_horizon, "action_horizon"))

    def blocks(self, episode: Episode, frames: int | None = None) -> Iterator[Frames]:
        """Yields the frames of an episode that rows are made of, up to `BLOCK_FRAMES` at a time.

        Args:
            episode: Whose `kept` frames, or all.
            frames: Only the first so many of them.
        """
        made = self.numbers.episode(self.columns.state(episode), self.columns.actions(episode))
        chunks = windows(made.steps, self.horizon)
        prompts, prompt_index = episode.prompts
        number = len(episode) if episode.kept is None else len(episode.kept)
        stop = number if frames is None else min(frames, number)
        for first in range(0, stop, BLOCK_FRAMES):
            part = slice(first, min(first + BLOCK_FRAMES, stop))
            if episode.kept is not None:
                part = episode.kept[part]
            yield Frames(
                episode=episode.index,
                frame_index=episode.frame_index[part],
                task_index=episode.task_index[part],
                prompts=prompts,
                prompt_index=prompt_index[part],
                state=made.state(part),
                chunks=made.chunks(chunks, part),
            )
