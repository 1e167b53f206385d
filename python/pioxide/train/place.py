"""Brings the loader's batches, NumPy on each host, to the devices as the losses read them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from pioxide.data.loader import Batch as HostBatch
from pioxide.errors import InputError
from pioxide.models import Answer, Observation, batch_sharding
from pioxide.train.losses import Batch


def place_batch(batch: HostBatch, mesh: Mesh) -> Batch:
    """Puts a host's rows on its devices; all hosts' rows together are the global batch.

    Raises:
        InputError: The batch teaches nothing: no action of it is real, or no token carries the loss.
    """
    check_batch(batch)
    observation = Observation(
        dict(batch.images),  # type: ignore[arg-type]
        dict(batch.image_masks),  # type: ignore[arg-type]
        batch.tokens,  # type: ignore[arg-type]
        batch.token_mask,  # type: ignore[arg-type]
        state=batch.state,  # type: ignore[arg-type]
        ar_mask=batch.ar_mask,  # type: ignore[arg-type]
        loss_mask=batch.loss_mask,  # type: ignore[arg-type]
    )
    answer = None
    if batch.answer is not None and batch.answer_mask is not None:
        answer = Answer(batch.answer, batch.answer_mask)  # type: ignore[arg-type]
    whole = Batch(observation, batch.actions, batch.action_mask, answer)  # type: ignore[arg-type]
    return jax.tree.map(lambda rows: place_rows(rows, mesh), whole)


def place_rows(rows: NDArray[Any], mesh: Mesh) -> jax.Array:
    """Puts a host's rows of one array on its devices; see `place_batch`."""
    sharding, hosts = batch_sharding(mesh), jax.process_count()
    if hosts == 1:
        return jax.device_put(rows, sharding)
    return jax.make_array_from_process_local_data(sharding, rows, (len(rows) * hosts, *rows.shape[1:]))


def own_rows(array: jax.Array) -> NDArray[Any]:
    """Returns this host's rows of an array that was placed, or computed, as `place_rows` does."""
    if jax.process_count() == 1:
        return np.asarray(array)
    parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def check_batch(batch: HostBatch) -> None:
    """Refuses a batch from which nothing, or nonsense, would be learnt.

    Raises:
        InputError: Says what of it.
    """
    if batch.actions is not None:
        mask = batch.action_mask
        if mask is None or mask.shape != batch.actions.shape:
            got = None if mask is None else mask.shape
            raise InputError(f"action_mask: expected {batch.actions.shape} as the actions are, got {got}")
        if not mask.any():
            raise InputError("the batch has no real action: every step and dimension is padding")
        if not np.isfinite(batch.actions).all():
            raise InputError("the batch holds actions that are NaN or infinite")
    elif batch.loss_mask is None or not batch.loss_mask.any():
        raise InputError("the batch has neither actions nor tokens that carry a loss")
    if batch.state is not None and not np.isfinite(batch.state).all():
        raise InputError("the batch holds states that are NaN or infinite")
