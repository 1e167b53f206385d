"""Turns rows of training tokens, as `pioxide.shards.TokenDataset` gives them, into a loss's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError
from pioxide.models.observation import Observation
from pioxide.models.pi0 import Pi0Config
from pioxide.models.pi0_fast import Pi0FastConfig


class TrainingBatch(NamedTuple):
    """What a loss takes: `model.loss(observation, actions, ...)`, or for π0-FAST `model.loss(observation)`.

    Attributes:
        observation: The moments.
        actions: [B, H, W] float32 normalised and padded to the model's width; None for π0-FAST, whose actions
            are tokens.
    """

    observation: Observation
    actions: NDArray[np.float32] | None


def training_batch(
    config: Pi0Config | Pi0FastConfig,
    rows: Mapping[str, NDArray[Any]],
    images: Mapping[str, NDArray[np.uint8]],
    image_masks: Mapping[str, NDArray[np.bool_]] | None = None,
) -> TrainingBatch:
    """Makes a model's observation and actions of token rows and their images, on the host.

    Args:
        config: The model's.
        rows: `tokens` [B, L] and `mask` [B, L]; for π0 and π0.5 `actions` [B, H, D], for π0 `state` [B, S],
            for π0-FAST `ar_mask` and `loss_mask` [B, L]. Other columns are left alone.
        images: By camera, [B, S, S, 3] uint8.
        image_masks: By camera, [B] which rows have it; a camera without a mask is there in every row.

    Raises:
        InputError: A column is missing, or has another horizon or more dimensions than the model.
    """
    symbol = config.family.symbol

    def column(name: str) -> NDArray[Any]:
        if name not in rows:
            raise InputError(
                f"{symbol} learns from {name!r}, and the rows have {sorted(rows)}: they may be those of "
                "another model"
            )
        return np.asarray(rows[name])

    def widened(name: str) -> NDArray[np.float32]:
        values = column(name)
        missing = config.action_dim - values.shape[-1]
        if missing < 0:
            raise InputError(
                f"{name}: {values.shape[-1]} dimensions, and this {symbol} is {config.action_dim} wide"
            )
        return np.pad(values.astype(np.float32, copy=False), [(0, 0)] * (values.ndim - 1) + [(0, missing)])

    tokens, mask = column("tokens"), column("mask")
    observation = Observation(dict(images), dict(image_masks or {}), tokens, mask)  # type: ignore[arg-type]
    if isinstance(config, Pi0FastConfig):
        masks = column("ar_mask"), column("loss_mask")
        return TrainingBatch(observation._replace(ar_mask=masks[0], loss_mask=masks[1]), None)
    actions = widened("actions")
    if actions.shape[1] != config.action_horizon:
        raise InputError(
            f"actions: chunks of {actions.shape[1]} steps, and this {symbol} has a horizon of "
            f"{config.action_horizon}"
        )
    if config.family.state_is_vector:
        observation = observation._replace(state=widened("state"))
    return TrainingBatch(observation, actions)
