"""What an action codec is worth on some chunks: their length in tokens, and what is lost there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec
from pioxide.contract import Numbers
from pioxide.data import LeRobotDataset
from pioxide.data.portions import Crew, Portion
from pioxide.shards.frames import FrameCutter


class Judged(NamedTuple):
    """What came of some chunks.

    Attributes:
        lengths: How many chunks have each number of tokens.
        horizon: Steps in each.
        squares: [D] sum of squared errors.
        largest: [D] largest error.
        clipped: Coefficients that were clipped.
        clipped_chunks: Chunks with any.
    """

    lengths: NDArray[np.int64]
    horizon: int
    squares: NDArray[np.float64]
    largest: NDArray[np.float64]
    clipped: int
    clipped_chunks: int

    @classmethod
    def of(cls, codec: ActionCodec, chunks: NDArray[np.float64]) -> Judged:
        """Encodes and decodes chunks [n, H, D]."""
        _, horizon, dim = chunks.shape
        tokens = codec.encode_batch(chunks, on_overflow="clip")
        decoded, _ = codec.decode_batch(tokens, horizon=horizon, dim=dim)
        error = np.abs(decoded - chunks)
        return cls(
            np.bincount(np.diff(tokens.offsets)),
            horizon,
            np.square(error).sum(axis=(0, 1)),
            error.max(axis=(0, 1), initial=0),
            int(tokens.clipped.sum()),
            int(np.count_nonzero(tokens.clipped)),
        )


class Evaluation:
    """Adds up block after block; memory is a count a token length and a few numbers a joint."""

    def __init__(self, codec: ActionCodec, numbers: Numbers, names: list[str]):
        """Starts with nothing seen.

        Args:
            codec: What to judge.
            numbers: Of the contract, to give errors in the robot's units too.
            names: Of the D action dimensions.
        """
        self.codec = codec
        self.names = names
        self.unit = robot_units(numbers)
        self.lengths: NDArray[np.int64] = np.zeros(0, np.int64)
        self.chunks = self.steps = self.clipped = self.clipped_chunks = 0
        self.horizon = 0
        self.squares = np.zeros(len(names))
        self.largest = np.zeros(len(names))

    def add(self, chunks: NDArray[np.float64]) -> None:
        """Encodes and decodes chunks [n, H, D] and notes what comes of it."""
        self.join(Judged.of(self.codec, chunks))

    def join(self, judged: Judged) -> None:
        """Notes what came of some chunks; the last bits depend on the order."""
        lengths = np.zeros(max(len(self.lengths), len(judged.lengths)), np.int64)
        lengths[: len(self.lengths)] += self.lengths
        lengths[: len(judged.lengths)] += judged.lengths
        self.lengths = lengths
        self.horizon = judged.horizon
        self.squares += judged.squares
        self.largest = np.maximum(self.largest, judged.largest)
        n = int(judged.lengths.sum())
        self.chunks += n
        self.steps += n * judged.horizon
        self.clipped += judged.clipped
        self.clipped_chunks += judged.clipped_chunks

    def read(self, crew: Crew, number: int, cutter: FrameCutter, episodes: Sequence[int]) -> None:
        """Adds all chunks of these episodes of a crew's dataset."""
        for made in crew.each(_Judge(self.codec, cutter), crew.portions(number, episodes)):
            for judged in made:
                self.join(judged)

    def result(self) -> dict[str, Any]:
        """Returns the figures as JSON values; errors are normalised except under "joints"."""
        total = int((self.lengths * np.arange(len(self.lengths))).sum())
        mean = total / self.chunks
        naive = self.horizon * len(self.names)
        rms = np.sqrt(self.squares / self.steps)
        return {
            "chunks": self.chunks,
            "tokens": {
                "mean": mean,
                "p50": self._quantile(0.5),
                "p99": self._quantile(0.99),
                "max": len(self.lengths) - 1,
            },
            "naive_tokens": naive,
            "compression": naive / mean,
            "error": {
                "rms": float(np.sqrt(self.squares.sum() / (self.steps * len(self.names)))),
                "max": float(self.largest.max()),
            },
            "joints": [
                {"name": name, "rms": float(r), "max": float(m)}
                for name, r, m in zip(self.names, rms * self.unit, self.largest * self.unit, strict=True)
            ],
            "clipped_chunks": self.clipped_chunks,
            "clipped_coefficients": self.clipped,
        }

    def _quantile(self, probability: float) -> int:
        """The shortest length that at least this share of the chunks does not exceed."""
        reached = np.cumsum(self.lengths)
        return int(np.searchsorted(reached, np.ceil(probability * self.chunks)))


@dataclass(frozen=True)
class _Judge:
    """Judges a codec on a portion, block by block; see `portions.Work`."""

    codec: ActionCodec
    cutter: FrameCutter

    def __call__(self, dataset: LeRobotDataset, portion: Portion) -> list[Judged]:
        return [
            Judged.of(self.codec, block.chunks)
            for episode in dataset.scan(self.cutter.columns.all, portion.episodes)
            for block in self.cutter.blocks(episode)
        ]


def robot_units(numbers: Numbers) -> NDArray[np.float64]:
    """Returns how many of the robot's units one normalised unit of each action dimension is, [D]."""
    ends = np.stack([np.zeros(numbers.robot.action_dim), np.ones(numbers.robot.action_dim)])
    low, high = numbers.robot.invert_actions(numbers.actions.invert(ends))
    return np.abs(high - low)
