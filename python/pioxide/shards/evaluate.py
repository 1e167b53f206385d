"""What an action codec is worth on some chunks: their length in tokens, and what is lost there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec
from pioxide.contract import Numbers


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
        n, self.horizon, dim = chunks.shape
        tokens = self.codec.encode_batch(chunks, on_overflow="clip")
        decoded, _ = self.codec.decode_batch(tokens, horizon=self.horizon, dim=dim)
        lengths = np.bincount(np.diff(tokens.offsets), minlength=len(self.lengths))
        lengths[: len(self.lengths)] += self.lengths
        self.lengths = lengths
        error = np.abs(decoded - chunks)
        self.squares += np.square(error).sum(axis=(0, 1))
        self.largest = np.maximum(self.largest, error.max(axis=(0, 1), initial=0))
        self.chunks += n
        self.steps += n * self.horizon
        self.clipped += int(tokens.clipped.sum())
        self.clipped_chunks += int(np.count_nonzero(tokens.clipped))

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


def robot_units(numbers: Numbers) -> NDArray[np.float64]:
    """Returns how many of the robot's units one normalised unit of each action dimension is, [D]."""
    ends = np.stack([np.zeros(numbers.robot.action_dim), np.ones(numbers.robot.action_dim)])
    low, high = numbers.robot.invert_actions(numbers.actions.invert(ends))
    return np.abs(high - low)
