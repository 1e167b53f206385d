"""`train`: a loader's batches, a network and settings to checkpoints that `Policy.load` reads.

Everything that a run needs to go on lies in its directory; the data's whole state is the number of updates.
"""

from __future__ import annotations

import dataclasses
import io
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from pioxide.codec import ActionCodec, TextTokenizer
from pioxide.contract import (
    Contract,
    action_vocabulary,
    load_contracts,
    one_a_robot,
    refuse_differences,
    robot_name,
    save_contract,
)
from pioxide.data.loader import Batch as HostBatch
from pioxide.errors import InputError, OutputError, SettingsError, TrainingError
from pioxide.files import atomic_file, held, make_directory, read_json, write_json
from pioxide.models import make_mesh
from pioxide.train.checkpoints import CheckpointStore, asset_files
from pioxide.train.config import TrainConfig
from pioxide.train.factors import PlainFactors
from pioxide.train.interrupt import Interrupt
from pioxide.train.losses import Mean
from pioxide.train.network import check_contract, make_network, model_config, open_base
from pioxide.train.place import place_batch
from pioxide.train.report import Report, Reporter, report_of
from pioxide.train.step import StepResult, TrainState, make_step, start

CONFIG, CHECKPOINTS, LOGS, BAD_BATCH, LOCK = "train.json", "checkpoints", "logs", "bad_batch.npz", ".lock"
# What a resumed run may have otherwise: nothing that a number depends on.
FREE = ("checkpoints", "logging", "validation", "explosion")
# Updates over which the average loss is taken, and before which no loss is called an explosion.
AVERAGED = 100


class Source(Protocol):
    """Where batches come from: `pioxide.data.loader.Loader`, or anything like it.

    Attributes:
        contracts: What the batches' numbers mean: of each robot one, or of each dataset its robot's.
        tokenizer: The text model of their ids.
        codec: π0-FAST's action tokenizer, the same for all.
    """

    @property
    def contracts(self) -> Sequence[Contract]:
        """Returns them."""
        ...

    @property
    def tokenizer(self) -> TextTokenizer:
        """Returns it."""
        ...

    @property
    def codec(self) -> ActionCodec | None:
        """Returns it, or None."""
        ...

    def batches(self, start_step: int = 0) -> Iterator[HostBatch]:
        """Yields the batch of update `start_step`, the next one, and so on; the same ones each time."""
        ...


class Judge(Protocol):
    """Judges the policy while it is trained; returns numbers by name."""

    def __call__(self, graph: Any, trained: Any, frozen: Any) -> dict[str, float]:
        """Returns numbers by name, of the network with these parameters."""
        ...


@dataclass(frozen=True)
class Trained:
    """What a run made.

    Attributes:
        directory: The run's.
        checkpoint: The last checkpoint, for `Policy.load`.
        steps: Updates done.
        loss: Mean over the last lines' updates; NaN where none was left to do.
    """

    directory: Path
    checkpoint: Path
    steps: int
    loss: float


class _Pending(NamedTuple):
    step: int
    result: StepResult
    batch: HostBatch


def train(
    config: TrainConfig,
    source: Source,
    directory: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    resume: bool = False,
    reporters: tuple[Reporter, ...] = (),
    judge: Judge | None = None,
    on_first_batch: Callable[[HostBatch], None] | None = None,
) -> Trained:
    """Trains, or goes on with a run.

    Ctrl-C and SIGTERM save a checkpoint before they end it.

    Args:
        config: The run's settings.
        source: Batches of `config.batch_size` rows over all hosts.
        directory: The run's: checkpoints, settings, contract, logs.
        data: What batches depend on besides the contract, by name; kept with the settings, and refused where
            a resumed run has others.
        resume: Whether to go on where the directory's last checkpoint is; from the start where it has none.
        reporters: Told of each `config.logging.every` updates, and of each validation.
        judge: Judges the policy each `config.validation.every` updates, and at the end.
        on_first_batch: Shown the first batch of this process before anything is learnt from it.

    Raises:
        SettingsError: The directory holds a run already, and `resume` was not said; or one of other settings.
        ContractError: The data, the base and the run don't mean the same numbers.
        TrainingError: The loss was not finite or exploded; the batch is in the directory.
        InputError: Batches are not what the settings say.
        OutputError: A checkpoint can't be written, or another run is at work in the directory.
    """
    directory = Path(directory)
    with _alone(directory):
        mesh = _mesh(config)
        robots = one_a_robot(source.contracts)
        base = None if config.base is None else open_base(config.base, robots)
        try:
            model = model_config(robots[0], config.model, source.tokenizer.vocab_size, base)
            contracts = [_whole(one, source.codec) for one in robots]
            for contract in contracts:
                check_contract(contract, model, config.loss)
            found = _prepare(config, data or {}, contracts, directory, resume)
            graph, trained, frozen = make_network(config, model, mesh, base)
        finally:
            if base is not None:
                base.close()
        state = start(config, trained, frozen)
        del trained, frozen
        files = asset_files(contracts, source.tokenizer, source.codec, settings_of(config))
        plain = PlainFactors.of(config.lora, model)
        store = CheckpointStore(directory.absolute() / CHECKPOINTS, config.checkpoints, graph, files, plain)
        try:
            if found and store.latest is not None:
                state = store.restore(store.latest, state)
            delay = robots[0].max_delay if isinstance(robots[0].max_delay, int) else 0
            update = make_step(config, graph, state, max_delay=delay)
            loop = _Loop(config, source, directory, store, graph, reporters, judge, on_first_batch, mesh)
            return loop.run(state, update)
        finally:
            store.close()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keeps other runs out of the directory; of several hosts the first does it for all."""
    if jax.process_index() > 0:
        yield
        return
    make_directory(directory)
    with held(directory / LOCK, f"process {os.getpid()} on {socket.gethostname()}"):
        yield


@dataclass
class _Loop:
    """The updates of one process, and what is looked at between them."""

    config: TrainConfig
    source: Source
    directory: Path
    store: CheckpointStore
    graph: Any
    reporters: tuple[Reporter, ...]
    judge: Judge | None
    on_first_batch: Callable[[HostBatch], None] | None
    mesh: Any
    window: list[StepResult] = dataclasses.field(default_factory=list[StepResult], init=False)
    average: float | None = dataclasses.field(default=None, init=False)
    seen: int = dataclasses.field(default=0, init=False)
    loss: float = dataclasses.field(default=float("nan"), init=False)

    def run(self, state: TrainState, update: Callable[..., Any]) -> Trained:
        done = int(state.step)
        batches = self.source.batches(done)
        pending: _Pending | None = None
        with Interrupt() as interrupt:
            while done < self.config.steps:
                host = self._next(batches, first=self.seen == 0 and pending is None)
                state, result = update(state, place_batch(host, self.mesh))
                # The one before is looked at while this one is computed.
                pending = self._look(pending, _Pending(done, result, host))
                done += 1
                wanted = self._agreed(done, interrupt.wanted)
                last = done == self.config.steps or wanted
                said = last or done % self.config.logging.every == 0 or self._due(done)
                kept = last or done % self.config.checkpoints.every == 0
                if said or kept:
                    pending = self._look(pending, None)
                if said:
                    self._report(done)
                if kept:
                    self.store.save(done, state)
                if self._due(done) or (last and not wanted):
                    self._judge(done, state)
                if wanted:
                    self.store.wait()
                    interrupt.obey()
        self.store.save(done, state)
        self.store.wait()
        return Trained(self.directory, self.store.path(done), done, self.loss)

    def _agreed(self, done: int, wanted: bool) -> bool:
        """Returns whether to end after this update. Several hosts agree on it, when a line is due."""
        if jax.process_count() == 1:
            return wanted
        if done % self.config.logging.every:
            return False
        return bool(np.any(multihost_utils.process_allgather(np.asarray(wanted))))

    def _due(self, done: int) -> bool:
        every = self.config.validation.every
        return self.judge is not None and every > 0 and done % every == 0 and done < self.config.steps

    def _next(self, batches: Iterator[HostBatch], *, first: bool) -> HostBatch:
        try:
            host = next(batches)
        except StopIteration:
            raise InputError(
                f"the data ended before {self.config.steps:,} updates: it must repeat without end"
            ) from None
        rows = self.config.batch_size // jax.process_count()
        if len(host) != rows:
            raise InputError(f"the data's batches have {len(host)} rows, and this run's {rows} a host")
        if first and self.on_first_batch is not None:
            self.on_first_batch(host)
        return host

    def _look(self, before: _Pending | None, now: _Pending | None) -> _Pending | None:
        """Reads what the update before the last said, and ends the run where it went wrong."""
        if before is not None:
            loss = mean_of(before.result.parts.loss)
            if not bool(before.result.good):
                self._stop(
                    before, f"the loss is {loss:g} and the gradients' norm {float(before.result.grad_norm):g}"
                )
            average = self.average
            if average is not None and self.seen >= AVERAGED and loss > self.config.explosion * average:
                self._stop(before, f"the loss is {loss:g}, {loss / average:.0f} times its average")
            rate = 1 / min(self.seen + 1, AVERAGED)
            self.average = loss if average is None else average + rate * (loss - average)
            self.seen += 1
            self.window.append(before.result)
        return now

    def _stop(self, at: _Pending, what: str) -> None:
        host = jax.process_index()
        saved = self.directory / (f"host_{host}_{BAD_BATCH}" if host else BAD_BATCH)
        arrays = io.BytesIO()
        np.savez(arrays, **arrays_of(at.batch))  # type: ignore[arg-type]
        with atomic_file(saved) as out:
            out.write(arrays.getvalue())
        self.store.wait()
        last = self.store.latest
        kept = (
            "no checkpoint was saved before" if last is None else f"the checkpoint of update {last} is kept"
        )
        raise TrainingError(
            f"update {at.step}: {what}. The batch is in {saved}, and {kept}. A smaller schedule.peak or "
            "optimizer.clip is the usual cure, or statistics with a nearly constant dimension the cause"
        )

    def _report(self, done: int) -> None:
        if not self.window:
            return
        report = report_of(done, self.config, self.window)
        self.loss, self.window = report.loss, []
        for reporter in self.reporters:
            reporter.updated(report)

    def _judge(self, done: int, state: TrainState) -> None:
        if self.judge is None:
            return
        averaged = state.trained if state.ema is None else state.ema
        numbers = self.judge(self.graph, averaged, state.frozen)
        for reporter in self.reporters:
            reporter.judged(done, numbers)


def mean_of(mean: Mean) -> float:
    """Returns a scalar mean on the host."""
    return float(mean.total) / max(float(mean.counted), 1.0)


def arrays_of(batch: HostBatch) -> dict[str, np.ndarray[Any, Any]]:
    """Returns a batch's arrays by name, images as `images.SLOT`."""
    flat: dict[str, np.ndarray[Any, Any]] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, dict):
            flat |= {f"{field.name}.{slot}": array for slot, array in value.items()}
        elif value is not None:
            flat[field.name] = value
    return flat


def _mesh(config: TrainConfig) -> Any:
    devices = len(jax.devices())
    if devices % config.fsdp:
        raise InputError(f"fsdp: {devices} devices can't be split into groups of {config.fsdp}")
    rows = config.batch_size // config.accumulate
    if rows % devices:
        raise InputError(
            f"batch_size: {rows} rows at once ({config.batch_size} in {config.accumulate} parts) can't be "
            f"shared evenly by {devices} devices"
        )
    return make_mesh(config.fsdp)


def _whole(contract: Contract, codec: ActionCodec | None) -> Contract:
    if codec is not None:
        said = Contract(fast=action_vocabulary(codec))
        refuse_differences(contract, said, names=("the data's contract", "its action tokenizer"))
        # The network is decoded as it was trained, without openpi's gap.
        contract = replace(contract, fast=said.fast)
    return replace(contract, answer_gap=0)


def _prepare(
    config: TrainConfig,
    data: Mapping[str, Any],
    contracts: Sequence[Contract],
    directory: Path,
    resume: bool,
) -> bool:
    """Writes what the run is, or checks it; returns whether there is a run to go on with."""
    file = directory / CONFIG
    said = settings_of(config) | {f"data.{name}": value for name, value in data.items()}
    if file.is_file():
        if not resume:
            raise SettingsError(
                f"{directory} holds a run already: go on with it by resume (--resume), or choose another "
                "directory"
            )
        before = read_json(file)
        of_data = {name for name in (*before, *said) if name.startswith("data.")}
        # Runs of earlier versions did not say of what data they were.
        silent = not any(name in before for name in of_data)
        apart = [
            f"  {name}: the run has {before.get(name)!r}, now {said.get(name)!r}"
            for name in (*(name for name in said if name not in of_data), *sorted(of_data))
            if name.split(".")[0] not in FREE
            and not (silent and name in of_data)
            and before.get(name) != said.get(name)
        ]
        if apart:
            raise SettingsError(f"{directory} was begun with other settings:\n" + "\n".join(apart))
        own = load_contracts(directory)
        if own is not None:
            _refuse_other_robots(own, contracts, directory)
        return True
    if directory.is_dir() and (directory / CHECKPOINTS).exists():
        raise OutputError(f"{directory} has checkpoints, and no {CONFIG} that says of what run")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("the run's directory is looked at before it is made")
    if jax.process_index() == 0:
        save_contract(contracts, directory)
        write_json(file, said)
    return False


def _refuse_other_robots(own: Sequence[Contract], now: Sequence[Contract], directory: Path) -> None:
    """Refuses to go on with other robots, or in another order, or with one whose numbers mean otherwise."""
    if len(own) > 1 or len(now) > 1:
        names = [", ".join(robot_name(one) for one in each) for each in (own, now)]
        if names[0] != names[1]:
            raise SettingsError(
                f"{directory} is of the robots {names[0]}, in this order, and now of {names[1]}"
            )
    for before, contract in zip(own, now, strict=True):
        of = f" of {robot_name(contract)}" if len(now) > 1 else ""
        refuse_differences(before, contract, names=(f"the run {directory}", f"the data{of}"))


def settings_of(config: Any, above: str = "") -> dict[str, Any]:
    """Returns all settings flat, by path: "optimizer.clip"."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat |= settings_of(value, f"{above}{field.name}.")
        else:
            flat[f"{above}{field.name}"] = list(value) if isinstance(value, tuple) else value
    return flat


__all__ = ["Judge", "Report", "Source", "Trained", "train"]
