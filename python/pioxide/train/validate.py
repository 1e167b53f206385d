"""Judges a policy on held-out episodes while it is trained: always the same batches, noise and flow times.

A flow loss says little of actions, so the policy also acts on them: its error in the robot's units at several
steps of the chunk, and of π0-FAST's answers how many decode.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from numpy.typing import NDArray

from pioxide.codec import Pi0FastPrompts
from pioxide.contract import Numbers, known, make_prompts
from pioxide.data.loader import Batch as HostBatch
from pioxide.errors import IncompleteChunkError, InputError
from pioxide.models import Pi0, Pi0Fast
from pioxide.sampling import sample_actions, sample_tokens
from pioxide.train.config import TrainConfig
from pioxide.train.losses import NAMED_MEANS, Batch, Parts, parts_of
from pioxide.train.place import place_batch
from pioxide.train.run import Source, mean_of


class HeldOut:
    """Judges by the first batches of a source of held-out episodes."""

    def __init__(self, config: TrainConfig, source: Source, mesh: Mesh) -> None:
        """Reads the batches, which are kept.

        Raises:
            InputError: There are none, or several hosts train.
        """
        if jax.process_count() > 1:
            raise InputError("held-out episodes are judged by one host only, and these are several")
        self.config, self.mesh = config, mesh
        self.batches = list(islice(source.batches(0), config.validation.batches))
        if not self.batches:
            raise InputError("the held-out episodes make no batch")
        self.contract = source.contract
        self.numbers = Numbers.of(source.contract)
        self.prompts = None
        if source.codec is not None and not known(source.contract.family, "family").is_flow:
            prompts = make_prompts(source.contract, source.tokenizer, source.codec)
            assert isinstance(prompts, Pi0FastPrompts)
            self.prompts = prompts
        self.programs: tuple[Callable[..., Any], Callable[..., Any]] | None = None

    def __call__(self, graph: Any, trained: Any, frozen: Any) -> dict[str, float]:
        """Returns the loss and the actions' error by step and dimension, in the robot's units.

        Where tokens are learnt, also `token_accuracy`, with the right tokens before each, and beside a flow
        the two losses. Of π0-FAST also which share `decodes` of the answers that it writes itself; the error
        is of those.
        """
        if self.programs is None:
            self.programs = self._compile(graph)
        loss, act = self.programs
        parts: list[Parts] = []
        errors: list[NDArray[np.float64]] = []
        decoded, answers = 0, 0
        for i, host in enumerate(self.batches):
            placed = place_batch(host, self.mesh)
            parts.append(jax.device_get(loss(trained, frozen, placed, jax.random.key(i))))
            made = act(trained, frozen, self._asked(host, placed), jax.random.key(i))
            if self.prompts is None:
                errors.append(self._error(np.asarray(made, np.float64), host))
            else:
                for row, ids in enumerate(np.asarray(made)):
                    answers += 1
                    chunk, wanted = self._decoded(ids), self._wanted(host, row)
                    if chunk is not None and wanted is not None:
                        decoded += 1
                        errors.append(np.abs(self._units(chunk[None]) - self._units(wanted[None])))
        total = sum(float(one.loss.total) for one in parts)
        numbers = {"loss": total / max(sum(float(one.loss.counted) for one in parts), 1.0)}
        for name, field in NAMED_MEANS.items():
            means = [mean_of(one) for p in parts if (one := getattr(p, field)) is not None]
            if means:
                numbers[name] = float(np.mean(means))
        if self.prompts is not None:
            numbers["decodes"] = decoded / max(answers, 1)
        return numbers | self._by_step(errors)

    def _compile(self, graph: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        steps = self.config.validation.flow_steps
        longest = 1
        if self.prompts is not None:
            longest = max(int(b.loss_mask.sum(axis=1).max()) for b in self.batches if b.loss_mask is not None)

        @jax.jit
        def loss(trained: Any, frozen: Any, batch: Batch, key: Any) -> Parts:
            return parts_of(nnx.merge(graph, trained, frozen), batch, key, settings=self.config.loss)

        @jax.jit
        def act(trained: Any, frozen: Any, batch: Batch, key: Any) -> Any:
            model: Pi0 | Pi0Fast = nnx.merge(graph, trained, frozen)
            if isinstance(model, Pi0Fast):
                return sample_tokens(model, batch.observation, max_tokens=longest + 8, scan_layers=True)
            assert batch.actions is not None
            noise = jax.random.normal(key, batch.actions.shape)
            return sample_actions(model, batch.observation, noise, num_steps=steps, scan_layers=True)

        return loss, act

    def _asked(self, host: HostBatch, placed: Batch) -> Batch:
        """Returns a batch without its answers."""
        if host.loss_mask is None:
            return placed
        prompt = host.token_mask & ~host.loss_mask
        seen = placed.observation
        sharding = seen.token_mask.sharding
        ids = jax.device_put(np.where(prompt, host.tokens, 0), sharding)
        mask = jax.device_put(prompt, sharding)
        return placed._replace(
            observation=seen._replace(tokens=ids, token_mask=mask, ar_mask=None, loss_mask=None)
        )

    def _wanted(self, host: HostBatch, row: int) -> NDArray[np.float64] | None:
        assert host.loss_mask is not None
        return self._decoded(host.tokens[row][host.loss_mask[row]])

    def _decoded(self, ids: NDArray[Any]) -> NDArray[np.float64] | None:
        assert self.prompts is not None
        robot = known(self.contract.robot, "robot")
        horizon = known(self.contract.action_horizon, "action_horizon")
        try:
            made = self.prompts.ids_to_actions(ids, horizon=horizon, dim=robot.action_dim)
        except (IncompleteChunkError, InputError):
            return None
        return np.asarray(made.actions, np.float64)

    def _error(self, made: NDArray[np.float64], host: HostBatch) -> NDArray[np.float64]:
        assert host.actions is not None
        assert host.action_mask is not None
        error = np.abs(self._units(made) - self._units(host.actions.astype(np.float64)))
        return np.where(host.action_mask[..., : error.shape[-1]], error, np.nan)

    def _units(self, actions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns chunks in the robot's units, relative ones from a state of zeros."""
        states = np.zeros((len(actions), self.numbers.robot.state_dim))
        return self.numbers.invert_actions(actions, states)

    def _by_step(self, errors: list[NDArray[np.float64]]) -> dict[str, float]:
        if not errors:
            return {}
        each = np.concatenate(errors)
        horizon = each.shape[1]
        numbers: dict[str, float] = {}
        for step in sorted({1, max(horizon // 4, 1), max(horizon // 2, 1), horizon}):
            values = each[:, step - 1]
            if np.isfinite(values).any():
                numbers[f"error/step_{step}"] = float(np.nanmean(values))
        for dim, values in enumerate(np.moveaxis(each, -1, 0)):
            if np.isfinite(values).any():
                numbers[f"error/dimension_{dim:02d}"] = float(np.nanmean(values))
        return numbers
