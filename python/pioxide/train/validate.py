"""Judges a policy on held-out episodes while it is trained: always the same batches, noise and flow times.

A flow loss says little of actions, so the policy also acts on them: its error in the robot's units at several
steps of the chunk, and of π0-FAST's answers how many decode. Of several hosts each judges its
rows of a batch, and their sums are added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from pioxide.codec import Pi0FastPrompts
from pioxide.contract import Numbers, known, make_prompts, one_a_robot
from pioxide.data.loader import Batch as HostBatch
from pioxide.errors import IncompleteChunkError, InputError
from pioxide.models import Pi0, Pi0Fast, batch_sharding
from pioxide.sampling import sample_actions, sample_tokens
from pioxide.train.config import TrainConfig
from pioxide.train.losses import NAMED_MEANS, Batch, Parts, parts_of
from pioxide.train.place import own_rows, place_batch, place_rows
from pioxide.train.run import Source, mean_of


class HeldOut:
    """Judges by the first batches of a source of held-out episodes. All hosts have to call it together."""

    def __init__(self, config: TrainConfig, source: Source, mesh: Mesh) -> None:
        """Reads this host's rows of the batches, which are kept.

        Raises:
            InputError: There are none, or they are of several robots; see `HeldOutByRobot`.
        """
        contract, *others = one_a_robot(source.contracts)
        if others:
            raise InputError("held-out episodes of several robots: judge each robot's by itself")
        self.config, self.mesh = config, mesh
        self.batches = list(islice(source.batches(0), config.validation.batches))
        if not self.batches:
            raise InputError("the held-out episodes make no batch")
        self.contract = contract
        self.numbers = Numbers.of(contract)
        self.prompts = None
        if source.codec is not None and not known(contract.family, "family").is_flow:
            prompts = make_prompts(contract, source.tokenizer, source.codec)
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
            self.programs = self.compiled(graph, self.longest())
        loss, act = self.programs
        parts: list[Parts] = []
        horizon = known(self.contract.action_horizon, "action_horizon")
        errors = _Errors(np.zeros((2, horizon, self.numbers.robot.action_dim)))
        decoded, answers = 0, 0
        for i, host in enumerate(self.batches):
            placed = place_batch(host, self.mesh)
            seed = np.uint32(i)
            parts.append(jax.device_get(loss(trained, frozen, placed, seed)))
            made = own_rows(act(trained, frozen, self._asked(host, placed), seed))
            if self.prompts is None:
                errors.add(self._error(made.astype(np.float64), host))
            else:
                for row, ids in enumerate(made):
                    answers += 1
                    chunk, wanted = self._decoded(ids), self._wanted(host, row)
                    if chunk is not None and wanted is not None:
                        decoded += 1
                        errors.add(np.abs(self._units(chunk[None]) - self._units(wanted[None])))
        total = sum(float(one.loss.total) for one in parts)
        numbers = {"loss": total / max(sum(float(one.loss.counted) for one in parts), 1.0)}
        for name, field in NAMED_MEANS.items():
            means = [mean_of(one) for p in parts if (one := getattr(p, field)) is not None]
            if means:
                numbers[name] = float(np.mean(means))
        if self.prompts is not None:
            decoded, answers = over_hosts(np.array([decoded, answers], np.float64))
            numbers["decodes"] = float(decoded / max(answers, 1))
        return numbers | errors.by_step()

    def longest(self) -> int:
        """Returns the ids of the longest answer among all hosts' batches; 1 where answers are no ids."""
        if self.prompts is None:
            return 1
        own = max(int(b.loss_mask.sum(axis=1).max()) for b in self.batches if b.loss_mask is not None)
        return int(from_hosts(np.array([own], np.float64)).max())

    def compiled(self, graph: Any, longest: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Returns the programs of loss and actions, which serve any robot of this network."""
        steps = self.config.validation.flow_steps

        def loss(trained: Any, frozen: Any, batch: Batch, seed: Any) -> Parts:
            key = jax.random.key(seed)
            return parts_of(nnx.merge(graph, trained, frozen), batch, key, settings=self.config.loss)

        def act(trained: Any, frozen: Any, batch: Batch, seed: Any) -> Any:
            model: Pi0 | Pi0Fast = nnx.merge(graph, trained, frozen)
            if isinstance(model, Pi0Fast):
                return sample_tokens(model, batch.observation, max_tokens=longest + 8, scan_layers=True)
            assert batch.actions is not None
            noise = jax.random.normal(jax.random.key(seed), batch.actions.shape)
            return sample_actions(model, batch.observation, noise, num_steps=steps, scan_layers=True)

        # Every host reads the whole loss, and its own rows of the answers.
        whole = NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(loss, out_shardings=whole), jax.jit(act, out_shardings=batch_sharding(self.mesh))

    def _asked(self, host: HostBatch, placed: Batch) -> Batch:
        """Returns a batch without its answers."""
        if host.loss_mask is None:
            return placed
        prompt = host.token_mask & ~host.loss_mask
        seen = placed.observation
        ids = place_rows(np.where(prompt, host.tokens, 0), self.mesh)
        mask = place_rows(prompt, self.mesh)
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


class HeldOutByRobot:
    """Judges each robot's held-out episodes by its own numbers, with the same two programs."""

    def __init__(self, judges: Mapping[str, HeldOut]) -> None:
        """Takes a judge a robot, by the robot's name."""
        self.judges = judges

    def __call__(self, graph: Any, trained: Any, frozen: Any) -> dict[str, float]:
        """Returns `ROBOT/name` for what `HeldOut` says of each, and `loss`, the mean of theirs."""
        judges = tuple(self.judges.values())
        if any(judge.programs is None for judge in judges):
            programs = judges[0].compiled(graph, max(judge.longest() for judge in judges))
            for judge in judges:
                judge.programs = programs
        made = {name: judge(graph, trained, frozen) for name, judge in self.judges.items()}
        whole = float(np.mean([numbers["loss"] for numbers in made.values()]))
        return {"loss": whole} | {
            f"{name}/{what}": value for name, numbers in made.items() for what, value in numbers.items()
        }


class _Errors:
    """Sums of actions' errors, [H, D], and how many were counted; errors that are NaN are not."""

    def __init__(self, sums: NDArray[np.float64]) -> None:
        self.sums = sums

    def add(self, errors: NDArray[np.float64]) -> None:
        """Adds errors [B, H, D]."""
        self.sums += np.stack([np.nansum(errors, axis=0), np.isfinite(errors).sum(axis=0)])

    def by_step(self) -> dict[str, float]:
        """Returns the means of all hosts' by name, of four steps of a chunk and of each dimension."""
        total, counted = over_hosts(self.sums)
        horizon = total.shape[0]
        numbers: dict[str, float] = {}
        for step in sorted({1, max(horizon // 4, 1), max(horizon // 2, 1), horizon}):
            if counted[step - 1].any():
                numbers[f"error/step_{step}"] = float(total[step - 1].sum() / counted[step - 1].sum())
        for dim in range(total.shape[1]):
            if counted[:, dim].any():
                numbers[f"error/dimension_{dim:02d}"] = float(total[:, dim].sum() / counted[:, dim].sum())
        return numbers


def over_hosts(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the sum of what each host has."""
    return from_hosts(sums).sum(axis=0)


def from_hosts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns [hosts, ...] what each has, to the bit: JAX itself would round it to float32."""
    bits = np.atleast_1d(values).view(np.uint32)
    gathered = np.asarray(multihost_utils.process_allgather(bits)).reshape(-1, *bits.shape)
    return np.ascontiguousarray(gathered).view(np.float64)
