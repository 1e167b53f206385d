"""`Batch`: what a training step reads of B moments of robot datasets. NumPy only, on the host.

The loader makes them, `pioxide.train` puts them on devices, and nothing between changes what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """B moments, every array with the batch first.

    H is the action horizon, W the model's width, L the padded length of a prompt, S the side of an image.

    Attributes:
        images: By slot in the model's order, [B, S, S, 3] uint8, or float32 in [-1, 1] where the contract
            resizes as LeRobot does; black where a row has no such camera. With memory [B, T, S, S, 3], the
            newest last; black before an episode's beginning.
        image_masks: By slot, [B] whether the network attends to that image; with memory [B, T] which frames
            there are.
        tokens: [B, L] ids, padded with 0.
        token_mask: [B, L] True on real ids.
        state: [B, W] normalised and padded; None where the network reads no vector.
        actions: [B, H, W] normalised and padded; None for π0-FAST, whose actions are tokens.
        action_mask: [B, H, W] which actions are real: False in steps after an episode's end and in padded
            dimensions. None for π0-FAST.
        ar_mask: [B, L] 0 on the prefix, 1 on the suffix; π0-FAST only.
        loss_mask: [B, L] True on the suffix; π0-FAST only.
        source: [B] which of the loader's datasets a row is from.
        answer: [B, A] the actions as tokens, padded with 0, for π0 and π0.5 whose language model learns to
            write them behind the prompt; else None.
        answer_mask: [B, A] True on real ids of it.
    """

    images: dict[str, NDArray[Any]]
    image_masks: dict[str, NDArray[np.bool_]]
    tokens: NDArray[np.int32]
    token_mask: NDArray[np.bool_]
    state: NDArray[np.float32] | None
    actions: NDArray[np.float32] | None
    action_mask: NDArray[np.bool_] | None
    ar_mask: NDArray[np.int32] | None
    loss_mask: NDArray[np.bool_] | None
    source: NDArray[np.int32]
    answer: NDArray[np.int32] | None = None
    answer_mask: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Returns B."""
        return len(self.tokens)
