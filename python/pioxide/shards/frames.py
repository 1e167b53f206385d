"""An episode's arrays -> normalised states and action chunks, in blocks. Shared by fit and tokenize."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.data import Episode, LeRobotDataset, windows
from pioxide.errors import InputError
from pioxide.family import Normalization
from pioxide.shards.settings import ActionSpace
from pioxide.transforms import DeltaActions, Quantile, Stats, ZScore

# Frames worked on at a time: with H = 50 and D = 26 a block of float64 chunks is 21 MB.
BLOCK_FRAMES = 2048

NORMALIZERS = {"quantile": Quantile, "zscore": ZScore}


@dataclass(frozen=True)
class Frames:
    """Some consecutive frames of one episode, n of them, as a model sees them.

    Attributes:
        episode: its number.
        frame_index: [n].
        task_index: [n].
        prompts: distinct instructions.
        prompt_index: [n], which of them each frame has.
        state: [n, S] float64, normalised.
        chunks: [n, H, D] float64, relative where the delta mask says so, normalised. May be a view that
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
        """Number of frames n."""
        return len(self.frame_index)


@dataclass(frozen=True)
class Framer:
    """Cuts episodes into frames, in openpi's order: delta actions, then normalise.

    Attributes:
        space: columns, horizon and delta mask.
        state: normalisation of the state.
        actions: normalisation of the actions.
    """

    space: ActionSpace
    state: Quantile | ZScore
    actions: Quantile | ZScore

    @classmethod
    def make(cls, space: ActionSpace, stats: dict[str, Stats], normalization: Normalization) -> Framer:
        """From norm statistics with the keys "state" and "actions".

        Raises:
            InputError: a key is missing, or quantiles are needed and the statistics have none.
        """
        for key in ("state", "actions"):
            if key not in stats:
                has = ", ".join(stats) or "nothing"
                raise InputError(f'the norm statistics have no "{key}", only {has}')
        kind = NORMALIZERS[normalization]
        return cls(space, kind(stats["state"]), kind(stats["actions"]))

    def check(self, dataset: LeRobotDataset) -> None:
        """Refuse, before any work, statistics or a delta mask that don't fit the dataset.

        Raises:
            InputError: a column is missing, or fewer dimensions are covered than the dataset has.
        """
        state_dim, action_dim = check_space(self.space, dataset)
        for name, stats, dim in (
            ("state", self.state.stats, state_dim),
            ("actions", self.actions.stats, action_dim),
        ):
            if stats.dim < dim:
                raise InputError(
                    f'the norm statistics cover {stats.dim} dimensions of "{name}", the dataset has {dim}; '
                    "were they made for other columns?"
                )

    def blocks(self, episode: Episode, frames: int | None = None) -> Iterator[Frames]:
        """The first `frames` frames of an episode (all by default), at most `BLOCK_FRAMES` at a time."""
        states, actions = episode.stack(self.space.state_keys), episode.stack(self.space.action_keys)
        delta = DeltaActions(self.space.mask) if self.space.mask else None
        # Absolute actions are normalised once a frame; relative ones differ from chunk to chunk.
        chunks = windows(actions if delta else self.actions.apply(actions), self.space.horizon)
        prompts, prompt_index = episode.prompts
        stop = len(episode) if frames is None else min(frames, len(episode))
        for first in range(0, stop, BLOCK_FRAMES):
            part = slice(first, min(first + BLOCK_FRAMES, stop))
            block = chunks[part]
            if delta is not None:
                block = self.actions.apply(delta.apply(block, states[part]))
            yield Frames(
                episode=episode.index,
                frame_index=episode.frame_index[part],
                task_index=episode.task_index[part],
                prompts=prompts,
                prompt_index=prompt_index[part],
                state=self.state.apply(states[part]),
                chunks=block,
            )


def check_space(space: ActionSpace, dataset: LeRobotDataset) -> tuple[int, int]:
    """The dimensions (S, D) of state and actions.

    Raises:
        InputError: a column is missing or holds no numbers, or the delta mask is longer than state or
            actions.
    """
    state_dim, action_dim = dataset.dim(space.state_keys), dataset.dim(space.action_keys)
    covered = len(space.mask)
    if covered > min(state_dim, action_dim):
        raise InputError(
            f"the delta mask covers {covered} dimensions; the state has {state_dim}, the actions {action_dim}"
        )
    return state_dim, action_dim
