"""A run goes on with the same numbers, ends where a loss is none, and trains low-rank factors alone."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from pioxide.errors import SettingsError, TrainingError
from pioxide.models import make_mesh
from pioxide.train import Checkpoints, Lora, ModelSettings, Remat, Size, train
from pioxide.train.network import make_network, model_config
from pioxide.train.place import place_batch
from pioxide.train.step import make_step, start
from support.training import SLOT, ToySource, toy_config


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory):
    """Keeps compiled programs: most tests here run the same ones."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        compilation_cache.reset_cache()
        yield
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
    else:
        yield


TINY = ModelSettings(size=Size.TINY, dtype="float32", frozen_dtype="float32", remat=Remat.NONE)


def config(**changes):
    return toy_config(**({"model": TINY} | changes))


def source(family="pi0", **changes):
    return ToySource(family, image_size=28, **changes)


class Watch:
    def __init__(self):
        self.reports, self.judged_at = [], {}

    def updated(self, report):
        self.reports.append(report)

    def judged(self, step, numbers):
        self.judged_at[step] = numbers


def network(settings, data):
    mesh = make_mesh(settings.fsdp)
    model = model_config(data.contract, settings.model, data.tokenizer.vocab_size)
    return mesh, *make_network(settings, model, mesh, None)


def updated(settings, data, updates=1, batches=None):
    """The state and the last result after some updates."""
    mesh, graph, trained, frozen = network(settings, data)
    state = start(settings, trained, frozen)
    step = make_step(settings, graph, state)
    result = None
    for i in range(updates):
        state, result = step(state, place_batch((batches or data.batch)(i), mesh))
    return state, result


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same(left, right):
    for a, b in zip(leaves(left), leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


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
