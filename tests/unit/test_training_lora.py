"""Plain factors: written so that openpi's readers add them exactly, and read back as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.errors import InputError
from pioxide.models import Pi0Config, add_lora, merge_lora
from pioxide.train import Ema, Lora, LoraStyle
from pioxide.train.checkpoints import CheckpointStore, Files
from pioxide.train.factors import PlainFactors, is_factor
from pioxide.train.network import _lora_configs, trained_filter
from pioxide.train.step import TrainState
from pioxide.weights import load
from pioxide.weights.names import OPENPI
from support.models import random_model
from support.training import config, leaves


def named(path) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)


@pytest.fixture(scope="module")
def plain():
    """Settings, and a network of NumPy's numbers with their factors, in parts."""
    lora = Lora(language=2, action=3, style=LoraStyle.PLAIN, alpha=5.0, rank_stabilised=True)
    settings = config(lora=lora, ema=Ema(decay=0))
    model = random_model(Pi0Config.tiny())
    add_lora(model.language, _lora_configs(lora), nnx.Rngs(0))
    graph, trained, frozen = nnx.split(model, trained_filter(settings), ...)
    return settings, graph, nnx.as_pure(trained), nnx.as_pure(frozen)


def test_the_first_update_starts_at_the_base(plain):
    *_, trained, _ = plain
    factors = {named(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(trained)}
    ends = {path: bool(np.any(leaf)) for path, leaf in factors.items() if is_factor(path)}
    assert len(ends) == 20
    assert all(there == path.endswith("/a") for path, there in ends.items())


def test_readers_add_plain_factors_as_training_did_and_going_on_has_them_back(plain, tmp_path):
    settings, graph, trained, frozen = plain
    rng = np.random.default_rng(0)
    drawn = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            jnp.asarray(rng.normal(size=leaf.shape), jnp.float32) if is_factor(named(path)) else leaf
        ),
        trained,
    )
    state = TrainState(jnp.ones((), jnp.int32), drawn, frozen, {"moments": jnp.zeros(2)}, None)
    factors = PlainFactors.of(settings.lora, Pi0Config.tiny())
    store = CheckpointStore(tmp_path / "checkpoints", settings.checkpoints, graph, Files(), factors)
    store.save(1, state)
    store.wait()
    for a, b in zip(leaves(state), leaves(store.restore(1, state)), strict=True):
        np.testing.assert_array_equal(a, b)
    model = nnx.merge(graph, drawn, frozen)
    merge_lora(model.language)
    with load(store.path(1)) as opened:
        assert not opened.problems()
        tree = opened.merged().tree
        for path, leaf in nnx.to_flat_state(nnx.state(model)):
            own = np.asarray(leaf[...])
            np.testing.assert_allclose(
                tree.read(OPENPI[named(path)]), own, rtol=1e-5, atol=1e-5, err_msg=named(path)
            )
    store.close()


def test_settings_of_the_other_style_are_refused():
    for wrong in ({"alpha": 8.0}, {"rank_stabilised": True}, {"language": -1}, {"alpha": float("nan")}):
        with pytest.raises(InputError, match="lora"):
            Lora(**wrong)
