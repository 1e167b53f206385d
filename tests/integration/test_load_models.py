"""From a checkpoint's files to a model that computes, and back."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from pioxide.errors import CheckpointError, InputError
from pioxide.models import ExpertConfig, GemmaConfig, Observation, Pi0, Pi0Config, Pi0Fast, Pi0FastConfig
from pioxide.models import SiglipConfig as Siglip
from pioxide.models.lora import LoraConfig, add_lora, merge_lora
from pioxide.transforms import Stats
from pioxide.weights import (
    Checkpoint,
    Companions,
    MemoryTree,
    build,
    load,
    load_into,
    recognise,
    save,
    tree_of,
)
from pioxide.weights.names import OPENPI
from support.checkpoints import (
    HEADS,
    SMALL,
    assert_same,
    lora,
    random_arrays,
    torch_tensors,
    write_npz,
    write_orbax,
    write_safetensors,
)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
KNOWN = {"action_horizon": 5}
FAST = {"action_horizon": 5, "action_dim": 6}


def values_of(model: nnx.Module) -> dict[str, np.ndarray]:
    """Parameters by openpi path, by way of the name table alone."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {OPENPI["/".join(map(str, own))]: np.asarray(leaf[...]) for own, leaf in flat}


def made(arrays: dict, kind: str = "pi0", config=None, **fields) -> nnx.Module:
    """A model with these values; drawing them at random would compile every layer's draw."""
    fields = fields or ({} if config else {"action_horizon": 6, "text_len": 12})
    return build(
        Checkpoint(Path("memory"), "openpi", MemoryTree(arrays), SMALL[kind], Companions()), config, **fields
    )


def with_lora(model):
    """As openpi's low-memory configs have it."""
    configs = [LoraConfig.openpi_language(), LoraConfig.openpi_action()]
    add_lora(model.language, configs[: len(model.language.config.experts)], nnx.Rngs(0))
    return model


def check_values(model: nnx.Module, arrays: dict, dtype=None) -> None:
    values = values_of(model)
    assert set(values) == set(arrays)
    for path, array in arrays.items():
        want = array if dtype is None else array.astype(dtype)
        assert values[path].dtype == want.dtype, path
        assert np.array_equal(values[path], want), path


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_models_have_the_checkpoints_values(tmp_path, kind, dtype):
    arrays = random_arrays(SMALL[kind].shapes())
    write_orbax(arrays, tmp_path / "params")
    write_safetensors(torch_tensors(arrays, "lerobot"), tmp_path / "lerobot")
    known = FAST if kind == "pi0_fast" else KNOWN
    for source in (tmp_path, tmp_path / "lerobot"):
        with load(source, heads=HEADS) as checkpoint:
            model = build(checkpoint, param_dtype=dtype, **known)
        assert isinstance(model, Pi0Fast if kind == "pi0_fast" else Pi0)
        check_values(model, arrays, dtype and BFLOAT16)
        assert model.config.action_horizon == 5
        assert model.config.action_dim == 6


def test_a_loaded_model_computes_what_the_saved_one_does(tmp_path):
    model = made(random_arrays(SMALL["pi05"].shapes()), "pi05", dtype=jnp.float32, action_horizon=6)
    save(model, tmp_path / "openpi")
    with load(tmp_path / "openpi") as checkpoint:
        loaded = build(checkpoint, model.config)
    observation = Observation(
        images={name: jnp.full((1, 28, 28, 3), 0.1 * i) for i, name in enumerate(model.config.cameras)},
        image_masks={},
        tokens=jnp.arange(12)[None],
        token_mask=jnp.ones((1, 12), bool),
        state=jnp.zeros((1, 6)),
    )
    x_t = jnp.asarray(np.random.default_rng(0).standard_normal((1, 6, 6)), jnp.float32)
    velocity = nnx.jit(lambda model: model.velocity(observation, x_t, jnp.asarray([0.5])))
    assert np.isfinite(velocity(model)).all()
    np.testing.assert_array_equal(velocity(loaded), velocity(model))


@pytest.mark.parametrize("to", ["openpi", "lerobot", "openpi-pytorch"])
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16], ids=str)
def test_saving_and_loading_is_exact(tmp_path, to, dtype):
    arrays = random_arrays(SMALL["pi0"].shapes(), dtype)
    model = made(arrays)
    stats = {"state": Stats([0.5], [2.0]), "actions": Stats([0.0], [1.0], [-1.0], [1.0])}
    written = save(model, tmp_path / "saved", to, norm_stats=stats, asset_id="arm")
    assert written.path == tmp_path / "saved"
    with load(tmp_path / "saved") as checkpoint:
        assert checkpoint.norm_stats("arm") == stats
        assert checkpoint.companions.action_horizon in (None, 6)
        check_values(build(checkpoint, action_horizon=6), arrays)


def test_a_tree_of_a_model_is_that_models_architecture():
    arrays = random_arrays(SMALL["pi05"].shapes())
    tree = tree_of(made(arrays, "pi05"))
    assert recognise(tree) == SMALL["pi05"]
    assert_same(tree, arrays)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("pi0", lambda: Pi0(Pi0Config.pi0(), nnx.Rngs(0))),
        ("pi05", lambda: Pi0(Pi0Config.pi05_base(), nnx.Rngs(0))),
        ("pi0_fast", lambda: Pi0Fast(Pi0FastConfig.pi0_fast(), nnx.Rngs(0))),
        ("pi0_lora", lambda: with_lora(Pi0(Pi0Config.pi0(), nnx.Rngs(0)))),
        ("pi0_fast_lora", lambda: with_lora(Pi0Fast(Pi0FastConfig.pi0_fast(), nnx.Rngs(0)))),
    ],
)
def test_full_size_models_have_openpis_tree(golden, name, make):
    table = json.loads((golden / "openpi_param_trees.json").read_bytes())[name]
    state = nnx.state(nnx.eval_shape(make), nnx.Param)
    ours = {
        OPENPI["/".join(map(str, own))]: [list(leaf.shape), str(leaf.dtype)]
        for own, leaf in nnx.to_flat_state(state)
    }
    assert ours == table


def test_paligemma_fills_all_but_the_action_expert(tmp_path):
    shapes = SMALL["pi0_fast"].shapes()
    arrays = random_arrays(shapes)
    write_npz(arrays, tmp_path / "pt_224.npz")
    before = random_arrays(SMALL["pi0"].shapes(), seed=1)
    model = made(before)
    with load(tmp_path / "pt_224.npz") as checkpoint:
        with pytest.raises(InputError, match="is PaliGemma, which has no actions"):
            build(checkpoint)
        kept = load_into(model, checkpoint)
    assert set(kept) == set(SMALL["pi0"].shapes()) - set(shapes)
    check_values(model, before | arrays)


def small_config(**options) -> Pi0Config:
    gemma = GemmaConfig((ExpertConfig(64, 96),), depth=4, head_dim=16, vocab=300)
    action = GemmaConfig((ExpertConfig(32, 48),), depth=4, head_dim=16, vocab=300)
    vision = Siglip(width=32, depth=3, mlp=48, heads=4, image_size=28)
    return Pi0Config(language=gemma, action=action, vision=vision, action_dim=6, **options)


def test_filling_keeps_a_models_own_dtypes(tmp_path):
    arrays = random_arrays(SMALL["pi0"].shapes())
    write_orbax(arrays, tmp_path / "params")
    model = made(random_arrays(SMALL["pi0"].shapes(), BFLOAT16, seed=1))
    with load(tmp_path) as checkpoint:
        assert load_into(model, checkpoint) == ()
    check_values(model, arrays, BFLOAT16)


def test_a_model_with_new_lora_starts_from_a_checkpoint_without(tmp_path):
    write_orbax(random_arrays(lora(SMALL["pi0"]).shapes(), seed=1), tmp_path / "lora" / "params")
    arrays = random_arrays(SMALL["pi0"].shapes())
    write_orbax(arrays, tmp_path / "plain" / "params")
    with load(tmp_path / "lora") as checkpoint:
        model = build(checkpoint, **KNOWN)
    before = values_of(model)
    with load(tmp_path / "plain") as checkpoint:
        with pytest.raises(CheckpointError, match="20 missing"):
            load_into(model, checkpoint)
        kept = load_into(model, checkpoint, keep=".*lora.*")
    assert len(kept) == 20
    check_values(model, before | arrays)


def test_a_model_of_another_size_lists_every_difference(tmp_path):
    arrays = random_arrays(SMALL["pi0"].shapes())
    write_orbax(arrays, tmp_path / "params")
    with load(tmp_path) as checkpoint:
        with pytest.raises(CheckpointError) as caught:
            build(checkpoint, small_config(pi05=True))
        error = caught.value
        assert len(error.missing) == 10
        assert len(error.extra) == 9
        wider = replace(small_config(), action_dim=8)
        with pytest.raises(CheckpointError, match=r"action_in_proj/kernel is \[6, 32\], expected \[8, 32\]"):
            build(checkpoint, wider)


def test_what_tensors_do_not_tell_must_be_said(tmp_path):
    for kind, name in (
        ("pi0", "a"),
        ("pi0_fast", "b"),
        ("pi05", "pi05_droid"),
        ("pi0_fast", "pi0_fast_droid"),
    ):
        write_orbax(random_arrays(SMALL[kind].shapes()), tmp_path / name / "params")
    with load(tmp_path / "a") as checkpoint:
        with pytest.raises(InputError, match="pass action_horizon"):
            build(checkpoint)
        with pytest.raises(InputError, match="actions of 6 dimensions, not 7"):
            build(checkpoint, action_horizon=50, action_dim=7)
        with pytest.raises(InputError, match="action_horizon can't be given beside a config"):
            build(checkpoint, small_config(), action_horizon=50)
    with load(tmp_path / "b") as checkpoint, pytest.raises(InputError, match="pass action_dim"):
        build(checkpoint, action_horizon=10)
    # Openpi's released ones are known by name, also through their params.
    with load(tmp_path / "pi05_droid" / "params") as checkpoint:
        config = build(checkpoint).config
        assert (config.action_horizon, config.text_len) == (15, 200)
    with load(tmp_path / "pi0_fast_droid") as checkpoint:
        config = build(checkpoint).config
        assert (config.action_horizon, config.action_dim, config.text_len) == (10, 8, 250)


@pytest.mark.parametrize("kind", ["pi0", "pi0_fast"])
def test_lora_stays_apart_and_computes_as_if_merged(tmp_path, kind):
    arrays = random_arrays(lora(SMALL[kind]).shapes())
    arrays = {path: array * (0.1 if "lora_" in path else 0.2) for path, array in arrays.items()}
    write_orbax(arrays, tmp_path / "params", value=True)
    known = (FAST if kind == "pi0_fast" else KNOWN) | {"dtype": jnp.float32}
    with load(tmp_path) as checkpoint:
        apart = build(checkpoint, lora_scale=0.5, **known)
        merged = build(checkpoint.merged(0.5), **known)
    check_values(apart, arrays)
    x = np.random.default_rng(0).standard_normal((1, 7, 64)).astype(np.float32)
    y = np.random.default_rng(1).standard_normal((1, 7, 32)).astype(np.float32)
    streams = (x,) if kind == "pi0_fast" else (x, y)
    tokens = 7 * len(streams)

    @nnx.jit
    def run(language):
        mask = jnp.ones((1, tokens, tokens), bool)
        return language(tuple(map(jnp.asarray, streams)), jnp.arange(tokens)[None], mask)[0]

    for got, want in zip(run(apart.language), run(merged.language), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    save(apart, tmp_path / "again")
    with load(tmp_path / "again") as checkpoint:
        assert_same(checkpoint.tree, arrays)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(2, 2.0, weights=("query", "key_value", "out")),
        LoraConfig(2, 4.0, weights=("gate_up", "down")),
    ],
)
def test_updates_by_another_rule_than_openpis_are_not_saved_as_openpis(tmp_path, config):
    model = made(random_arrays(SMALL["pi0"].shapes()))
    add_lora(model.language, [config, config], nnx.Rngs(0))
    with pytest.raises(CheckpointError, match="does not follow openpi's rule"):
        save(model, tmp_path / "a")
    assert not list(tmp_path.iterdir())
    merge_lora(model.language)
    save(model, tmp_path / "a")


def test_a_saved_model_says_its_horizon_and_text_length(tmp_path):
    save(made(random_arrays(SMALL["pi05"].shapes()), "pi05"), tmp_path / "a", "lerobot")
    with load(tmp_path / "a") as checkpoint:
        config = build(checkpoint).config
    assert (config.action_horizon, config.text_len) == (6, 12)


SHARDED = """
import sys
from pathlib import Path
import jax, numpy as np
from flax import nnx
from pioxide.models.sharding import make_mesh, parameter_sharding
from pioxide.weights import build, load, load_into, save
from pioxide.weights.model import tree_of
root = Path(sys.argv[1])
assert len(jax.devices()) == 8
sharding = parameter_sharding(make_mesh(fsdp=4), smallest_bytes=1)

with load(root / "a") as checkpoint:
    model = build(checkpoint, sharding=sharding, param_dtype="bfloat16", action_horizon=5)
    whole = build(checkpoint, param_dtype="bfloat16", action_horizon=5)
    one, other = (dict(nnx.to_flat_state(nnx.state(m))) for m in (model, whole))
    split = 0
    for own in one:
        array = one[own][...]
        assert array.sharding == sharding(array), own
        assert np.array_equal(np.asarray(array), np.asarray(other[own][...])), own
        split += array.addressable_shards[0].data.size < array.size
    assert split > 20, split
    load_into(model, checkpoint)
    assert model.action_in.kernel[...].sharding == sharding(model.action_in.kernel[...])
save(model, root / "b")
with load(root / "b") as checkpoint:
    back = tree_of(whole)
    for path in back.specs:
        assert np.array_equal(checkpoint.tree.read(path), back.read(path)), path
print("equal")
"""


def test_parameters_go_straight_into_shards_and_come_back(tmp_path):
    write_orbax(random_arrays(SMALL["pi0"].shapes()), tmp_path / "a" / "params")
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(Path(__file__).parents[2] / "python"), os.environ.get("PYTHONPATH")])
        ),
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
