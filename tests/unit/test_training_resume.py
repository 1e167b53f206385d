"""A run goes on with the same numbers, ends where a loss is none, and trains low-rank factors alone."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from pioxide.errors import SettingsError, TrainingError
from pioxide.train import Checkpoints, Lora, train
from support.training import (
    SLOT,
    ToySource,
    config,
    leaves,
    network,
    programs,  # noqa: F401 - a fixture of every test here
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
