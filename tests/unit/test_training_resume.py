"""A run goes on with the same numbers, ends where a loss is none, and trains low-rank factors alone."""

import json
import os
import resource
import signal
from contextlib import contextmanager
from dataclasses import replace

import jax
import numpy as np
import pytest

from pioxide.errors import ContractError, OutputError, SettingsError, TrainingError
from pioxide.train import Checkpoints, Lora, train
from support.training import (
    SLOT,
    ToySource,
    config,
    leaves,
    network,
    source,
    updated,
)


def test_lora_trains_factors_and_no_weight_beneath():
    settings = config(lora=Lora(language=2, action=2))
    _, _, trained, frozen = network(settings, source())
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(trained)}
    language = {path for path in paths if "['language']" in path}
    assert language
    assert all(path.endswith(("['a']", "['b']")) for path in language)
    assert any("['vision']" in path for path in paths)
    before = leaves(frozen)
    state, result = updated(settings, source(), 2)
    assert float(result.grad_norm) > 0
    for a, b in zip(before, leaves(state.frozen), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_goes_on_with_the_same_numbers(tmp_path):
    settings = config(steps=7, checkpoints=Checkpoints(every=3, keep=5))
    whole = train(settings, source(), tmp_path / "whole")

    class Killed(ToySource):
        def batch(self, step):
            if step == 5:
                raise RuntimeError("killed")
            return super().batch(step)

    with pytest.raises(RuntimeError, match="killed"):
        train(settings, Killed(image_size=28), tmp_path / "cut")
    assert sorted(p.name for p in (tmp_path / "cut/checkpoints").iterdir()) == ["3"]
    with pytest.raises(SettingsError, match="--resume"):
        train(settings, source(), tmp_path / "cut")
    with pytest.raises(SettingsError, match="seed"):
        train(replace(settings, seed=1), source(), tmp_path / "cut", resume=True)
    resumed = train(settings, source(), tmp_path / "cut", resume=True)
    for name in ("params", "train_state"):
        assert tensors(whole.checkpoint / name) == tensors(resumed.checkpoint / name)


def tensors(directory):
    """Every array of an Orbax tree, as bytes by name."""
    import tensorstore as ts

    base = {"driver": "ocdbt", "base": f"file://{directory}/"}
    store = ts.KvStore.open(base).result()
    names = sorted({key.decode().rsplit("/", 1)[0] for key in store.list().result()})
    read = {}
    for name in names:
        kept = {**base, "path": f"{name}/"}
        for driver in ("zarr3", "zarr"):
            try:
                array = ts.open({"driver": driver, "kvstore": kept}, open=True).result()
            except ValueError:
                continue
            read[name] = array.read().result().tobytes()
            break
    assert read
    return read


def test_another_contract_or_other_data_do_not_go_on_with_a_run(tmp_path):
    settings = config(steps=7, checkpoints=Checkpoints(every=3, keep=5))
    stop = Stopped(at=1, number=signal.SIGINT)
    with caught(signal.SIGINT), pytest.raises(KeyboardInterrupt):
        train(settings, stop, tmp_path / "run", data={"episodes": "0:9"})
    with pytest.raises(ContractError, match="max_delay"):
        train(settings, source(max_delay=2), tmp_path / "run", data={"episodes": "0:9"}, resume=True)
    with pytest.raises(SettingsError, match=r"data.episodes: the run has '0:9', now ''"):
        train(settings, source(), tmp_path / "run", data={"episodes": ""}, resume=True)
    for data in ({}, {"episodes": "0:9", "frames": "9 of 12"}):  # left out, or added
        with pytest.raises(SettingsError, match=r"data\.(episodes|frames): the run has"):
            train(settings, source(), tmp_path / "run", data=data, resume=True)


def test_two_runs_do_not_write_into_one_directory(tmp_path):
    class Twice(ToySource):
        """Begins the same run once more while the first makes its batch."""

        def batch(self, step):
            with pytest.raises(OutputError, match=rf"another run holds .*: process {os.getpid()} on "):
                train(settings, source(), tmp_path / "run", resume=True)
            return super().batch(step)

    settings = config(steps=3)
    train(settings, Twice(image_size=28), tmp_path / "run")
    with pytest.raises(SettingsError, match="holds a run already"):
        train(settings, source(), tmp_path / "run")


@contextmanager
def caught(number):
    """As in a program that a signal interrupts; what a shell starts in the background may ignore it."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


class Stopped(ToySource):
    """Sends this process a signal while it makes a batch."""

    def __init__(self, at, number):
        super().__init__(image_size=28)
        self.at, self.number = at, number

    def batch(self, step):
        if step == self.at:
            os.kill(os.getpid(), self.number)
        return super().batch(step)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_before_it_ends_the_run(tmp_path, number):
    settings = config(steps=7, checkpoints=Checkpoints(every=3, keep=5))
    with caught(number):
        with pytest.raises(KeyboardInterrupt):
            train(settings, Stopped(at=4, number=number), tmp_path / "run")
        assert signal.getsignal(number) is signal.default_int_handler
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir()) == ["3", "5"]


class Filling(ToySource):
    """After whose third batch no file can be larger: everything is compiled, and no checkpoint is written."""

    def __init__(self):
        super().__init__(image_size=28)

    def batch(self, step):
        if step == 2:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))  # fewer bytes than its arrays have
        return super().batch(step)


def test_a_disk_that_refuses_a_checkpoint_is_said_in_a_sentence(tmp_path):
    settings = config(steps=7, checkpoints=Checkpoints(every=3, keep=5))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OutputError, match=r"a checkpoint could.*File too large") as caught:
            train(settings, Filling(), tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "--resume" in str(caught.value)
    assert train(settings, source(), tmp_path / "run", resume=True).steps == 7


def test_a_loss_that_is_no_number_ends_the_run_with_its_batch(tmp_path):
    class Broken(ToySource):
        def batch(self, step):
            batch = super().batch(step)
            if step == 3:
                batch.images[SLOT] = np.full_like(batch.images[SLOT], np.nan, np.float32)
            return batch

    with pytest.raises(TrainingError, match="update 3"):
        train(config(steps=9, checkpoints=Checkpoints(every=2)), Broken(image_size=28), tmp_path / "run")
    saved = np.load(tmp_path / "run/bad_batch.npz")
    assert np.isnan(saved[f"images.{SLOT}"]).all()
    assert saved["tokens"].shape[0] == 8
    state = json.loads((tmp_path / "run/train.json").read_text())
    assert state["steps"] == 9
