"""Leaving and coming back: what pioxide writes is what others read, and nothing is lost on the way."""

import json
import os
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from pioxide.contract import UNKNOWN, Contract, Numbers
from pioxide.errors import CheckpointError, ContractError, InputError, OutputError
from pioxide.robots import ur5e
from pioxide.transforms import Stats, ZScore, save_norm_stats
from pioxide.weights import convert, load, openpi
from support.checkpoints import (
    HEADS,
    SMALL,
    assert_same,
    lora,
    nested,
    random_arrays,
    torch_tensors,
    write_orbax,
    write_safetensors,
)
from support.lerobot_files import step, write_lerobot

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
STATS = Stats(np.arange(6.0), np.ones(6), np.full(6, -1.5), np.full(6, 2.25))


def converted(source: Path, target: Path, to: str, **options):
    with load(source, heads=HEADS) as checkpoint:
        return convert(checkpoint, target, to, stated=unsaid(checkpoint), **options)


def unsaid(checkpoint) -> Contract:
    """A chunk of 5 actions and 16 ids in a prompt, where the checkpoint says nothing."""
    said = {"action_horizon": 5, "text_len": 16}
    return Contract(**{name: n for name, n in said.items() if name in checkpoint.contract.unknown})


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16], ids=str)
def test_orbax_restores_what_was_written(tmp_path, kind, dtype):
    import jax
    import orbax.checkpoint as ocp

    arrays = random_arrays(SMALL[kind].shapes(), dtype)
    write_safetensors(torch_tensors(arrays, "lerobot"), tmp_path / "lerobot")
    converted(tmp_path / "lerobot", tmp_path / "openpi", "openpi")
    # As openpi restores its parameters: by the stored metadata, onto a mesh, in a dtype of its choice.
    directory = (tmp_path / "openpi" / "params").resolve()
    mesh = jax.sharding.Mesh(jax.devices(), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(directory)
        stored = getattr(metadata, "item_metadata", metadata)
        stored = getattr(stored, "tree", stored)
        item = {"params": stored["params"]}
        arguments = jax.tree.map(
            lambda _: ocp.ArrayRestoreArgs(sharding=sharding, restore_type=jax.Array, dtype=dtype), item
        )
        restored = checkpointer.restore(directory, ocp.args.PyTreeRestore(item=item, restore_args=arguments))
        plain = checkpointer.restore(directory)
    want = {"params": nested(arrays)}
    for got in (restored, plain):
        assert jax.tree.structure(got) == jax.tree.structure(want)
        same = jax.tree.map(lambda a, b: a.dtype == b.dtype and bool((np.asarray(a) == b).all()), got, want)
        assert all(jax.tree.leaves(same))


@pytest.mark.parametrize(
    ("to", "kind"),
    [("lerobot", kind) for kind in SMALL] + [("openpi-pytorch", "pi0"), ("openpi-pytorch", "pi05")],
)
def test_the_safetensors_package_reads_what_was_written(tmp_path, to, kind):
    from safetensors.numpy import load_file

    arrays = random_arrays(SMALL[kind].shapes())
    write_orbax(arrays, tmp_path / "openpi" / "params")
    written = converted(tmp_path / "openpi", tmp_path / "out", to)
    want = torch_tensors(arrays, to)
    if kind != "pi0_fast":
        prefix = "model." if to == "lerobot" else ""
        name = f"{prefix}paligemma_with_expert.gemma_expert.lm_head.weight"
        want[name] = np.zeros((300, 32), np.float32)
    got = load_file(tmp_path / "out" / "model.safetensors")
    assert set(got) == set(want)
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype
        assert np.array_equal(got[name], tensor), name
    assert "model.safetensors" in written.files
    assert "config.json" in written.files


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16], ids=str)
@pytest.mark.parametrize("kind", SMALL)
def test_every_round_trip_is_exact(tmp_path, kind, dtype):
    arrays = random_arrays(SMALL[kind].shapes(), dtype)
    write_orbax(arrays, tmp_path / "0" / "params", value=True)
    formats = (
        ["lerobot", "openpi", "lerobot"] if kind == "pi0_fast" else ["lerobot", "openpi-pytorch", "openpi"]
    )
    for i, to in enumerate(formats):
        with load(tmp_path / str(i)) as checkpoint:
            convert(checkpoint, tmp_path / str(i + 1), to, stated=unsaid(checkpoint))
        with load(tmp_path / str(i + 1)) as checkpoint:
            assert checkpoint.format == to
            assert checkpoint.architecture == SMALL[kind]
            assert_same(checkpoint.tree, arrays)


def test_lora_survives_in_openpis_format_and_must_be_merged_for_others(tmp_path):
    arrays = random_arrays(lora(SMALL["pi0"]).shapes())
    write_orbax(arrays, tmp_path / "a" / "params")
    converted(tmp_path / "a", tmp_path / "b", "openpi")
    with load(tmp_path / "b") as checkpoint:
        assert_same(checkpoint.tree, arrays)
        with pytest.raises(CheckpointError, match="merge it first"):
            convert(checkpoint, tmp_path / "c", "lerobot", stated=unsaid(checkpoint))
        assert not (tmp_path / "c").exists()
        convert(checkpoint.merged(), tmp_path / "c", "lerobot", stated=unsaid(checkpoint))
        with load(tmp_path / "c") as back:
            assert not back.problems()
            for path in back.tree.specs:
                assert np.array_equal(back.tree.read(path), checkpoint.merged().tree.read(path))


def test_an_update_without_one_of_its_factors_is_not_left_out_in_silence(tmp_path):
    arrays = random_arrays(lora(SMALL["pi0"]).shapes())
    del arrays["PaliGemma/llm/layers/mlp/linear_lora_b"]
    write_orbax(arrays, tmp_path / "params")
    with load(tmp_path) as checkpoint, pytest.raises(CheckpointError, match="1 missing") as caught:
        checkpoint.merged()
    assert caught.value.missing[0].startswith("PaliGemma/llm/layers/mlp/linear_lora_b ")


def test_what_is_known_of_a_released_checkpoint_goes_along(tmp_path):
    arrays = random_arrays(SMALL["pi05"].shapes())
    write_orbax(arrays, tmp_path / "pi05_base" / "params")
    converted(tmp_path / "pi05_base", tmp_path / "a", "lerobot")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (config["chunk_size"], config["n_action_steps"], config["tokenizer_max_length"]) == (50, 50, 200)
    converted(tmp_path / "a", tmp_path / "b", "lerobot")
    assert json.loads((tmp_path / "b" / "config.json").read_text()) == config
    converted(tmp_path / "a", tmp_path / "c", "openpi")
    contracts = []
    for place in ("pi05_base", "a", "b", "c"):
        with load(tmp_path / place) as checkpoint:
            contracts.append(checkpoint.contract)
    assert contracts[1:] == contracts[:1] * 3


def test_a_horizon_that_nobody_knows_is_asked_for(tmp_path):
    write_orbax(random_arrays(SMALL["pi05"].shapes()), tmp_path / "mine" / "params")
    with load(tmp_path / "mine") as checkpoint:
        for to in ("lerobot", "openpi-pytorch"):
            with pytest.raises(ContractError, match="--action-horizon") as caught:
                convert(checkpoint, tmp_path / "out", to)
            assert "action_horizon" in caught.value.fields
        assert not (tmp_path / "out").exists()
        convert(checkpoint, tmp_path / "out", "openpi")
    with load(tmp_path / "out") as checkpoint:
        assert checkpoint.contract.action_horizon is UNKNOWN


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX", "QUANTILES", "IDENTITY"])
@pytest.mark.parametrize("kind", SMALL)
def test_lerobots_meaning_survives_every_format(tmp_path, kind, mode):
    def relative(files):
        files["config"]["use_relative_actions"] = True
        step(files["before"], "relative_actions_processor")["config"]["enabled"] = True
        step(files["after"], "absolute_actions_processor")["config"]["enabled"] = True

    write_lerobot(tmp_path / "0", kind, mode=mode, change=relative)
    with load(tmp_path / "0", heads=HEADS) as checkpoint:
        said = checkpoint.contract
    for i, to in enumerate(("openpi", "lerobot")):
        written = converted(tmp_path / str(i), tmp_path / str(i + 1), to)
        if to == "openpi":
            assert any("state_norm" in line for line in written.left_out)
    with load(tmp_path / "2") as checkpoint:
        assert checkpoint.contract == said
    # LeRobot's own files alone say the same, but for the FAST tokenizer and what it counts as played.
    (tmp_path / "2" / "contract.json").unlink()
    with load(tmp_path / "2") as checkpoint:
        found = checkpoint.contract
    for name in ("delta_mask", "cameras", "state_norm", "action_norm", "num_steps", "action_horizon"):
        assert getattr(found, name) == getattr(said, name), name
    assert (found.robot.joint_names, found.text_len) == (said.robot.joint_names, said.text_len)
    if mode != "IDENTITY":
        assert found.norm_stats == said.norm_stats


def test_openpis_numbers_are_lerobots_numbers_after_it(tmp_path):
    rng = np.random.default_rng(0)
    state, action = Stats(rng.normal(size=7), [0.5] * 7), Stats(rng.normal(size=7), [0.25] * 7)
    write_orbax(random_arrays(replace(SMALL["pi0"], action_dim=7).shapes()), tmp_path / "a" / "params")
    save_norm_stats(tmp_path / "a" / "assets" / "ur5e", {"state": state, "actions": action})
    with load(tmp_path / "a") as checkpoint:
        stated = Contract(robot=ur5e(), delta_mask=(True,) * 6, action_horizon=4, text_len=16)
        with pytest.raises(ContractError, match="--delta-mask"):
            convert(checkpoint, tmp_path / "b", "lerobot", stated=Contract(robot=ur5e()))
        convert(checkpoint, tmp_path / "b", "lerobot", stated=stated)
    (tmp_path / "b" / "contract.json").unlink()
    with load(tmp_path / "b") as checkpoint:
        back = checkpoint.contract
    assert back.delta_mask == (True,) * 6
    chunk, at = rng.normal(size=(4, 7)), rng.normal(size=7)
    openpi = Numbers(ur5e(), (True,) * 6, ZScore(state), ZScore(action), None)
    lerobot = Numbers.of(back)
    assert np.allclose(
        lerobot.apply_actions(chunk, at), openpi.apply_actions(chunk, at), rtol=1e-5, atol=1e-5
    )
    assert np.allclose(
        lerobot.invert_actions(chunk, at), openpi.invert_actions(chunk, at), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("asset_id", ["../../away", "/away", "", ".", "a/../.."])
def test_an_asset_id_does_not_lead_out_of_the_checkpoint(tmp_path, asset_id):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "in" / "params")
    with load(tmp_path / "in") as checkpoint, pytest.raises(InputError, match="no name of a directory"):
        convert(checkpoint, tmp_path / "out", "openpi", asset_id=asset_id)
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_statistics_of_one_name_do_not_hide_each_other(tmp_path):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "in" / "params")
    for directory in (tmp_path / "in", tmp_path / "in" / "assets" / "own"):
        save_norm_stats(directory, {"state": STATS, "actions": STATS})
    with load(tmp_path / "in") as checkpoint:
        with pytest.raises(InputError, match="statistics named 'own' already"):
            convert(checkpoint, tmp_path / "out", "openpi")
        convert(checkpoint, tmp_path / "out", "openpi", asset_id="other")
    with load(tmp_path / "out") as checkpoint:
        assert set(checkpoint.companions.norm_stats) == {"own", "other"}


def test_statistics_and_tokenizer_come_along(tmp_path, golden):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "a" / "params")
    save_norm_stats(tmp_path / "a" / "assets" / "droid", {"state": STATS, "actions": STATS})
    tokenizer = tmp_path / "a" / "fast"
    tokenizer.mkdir()
    recorded = json.loads((golden / "fast" / "g1_h16_v1024.json").read_text())
    words = json.dumps(recorded["tokenizer"])
    (tokenizer / "tokenizer.json").write_text(words)
    (tokenizer / "processor_config.json").write_text(json.dumps(recorded["processor_config"]))
    for source, target, to in (("a", "b", "lerobot"), ("b", "c", "openpi")):
        converted(tmp_path / source, tmp_path / target, to)
        with load(tmp_path / target, heads=HEADS) as checkpoint:
            assert checkpoint.norm_stats("droid") == {"state": STATS, "actions": STATS}
            found = checkpoint.companions.fast_tokenizer
            assert (found / "tokenizer.json").read_text() == words


def test_lerobots_statistics_become_openpis(tmp_path):
    vectors = {
        f"{feature}.{name}": getattr(STATS, name).astype(np.float32)
        for feature in ("observation.state", "action")
        for name in ("mean", "std", "q01", "q99")
    }
    write_lerobot(tmp_path / "a", stats=vectors)
    converted(tmp_path / "a", tmp_path / "b", "openpi", asset_id="lab/arm")
    with load(tmp_path / "b") as checkpoint:
        assert checkpoint.norm_stats("lab/arm") == {"state": STATS, "actions": STATS}
    converted(tmp_path / "a", tmp_path / "c", "lerobot")
    assert json.loads((tmp_path / "c" / "config.json").read_bytes())["chunk_size"] == 8


def test_a_dtype_can_be_asked_for(tmp_path):
    arrays = random_arrays(SMALL["pi0"].shapes())
    write_orbax(arrays, tmp_path / "a" / "params")
    converted(tmp_path / "a", tmp_path / "b", "openpi", dtype=BFLOAT16)
    with load(tmp_path / "b") as checkpoint:
        assert_same(checkpoint.tree, {path: array.astype(BFLOAT16) for path, array in arrays.items()})


def test_output_appears_whole_or_not_at_all(tmp_path):
    arrays = random_arrays(SMALL["pi0"].shapes())
    arrays["action_in_proj/bias"][3] = np.nan
    write_orbax(arrays, tmp_path / "a" / "params")
    for to in ("openpi", "lerobot"):
        with pytest.raises(CheckpointError, match=r"action_in_proj/bias: 1 of 32"):
            converted(tmp_path / "a", tmp_path / "b", to)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    (tmp_path / "b").mkdir()
    with pytest.raises(OutputError, match="is there already"):
        converted(tmp_path / "a", tmp_path / "b", "openpi")


@pytest.mark.parametrize("name", ["50%20off", "a#b", "why?", "a|b", "ü ö"])
def test_names_that_would_mean_something_in_an_address_are_names(tmp_path, name):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_orbax(arrays, tmp_path / "in" / "params")
    (tmp_path / "in").rename(tmp_path / name)
    (tmp_path / "out").mkdir()
    converted(tmp_path / name, tmp_path / "out" / name, "openpi")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [name]
    with load(tmp_path / "out" / name) as checkpoint:
        assert_same(checkpoint.tree, arrays)


@pytest.mark.parametrize("name", [b"a\\b", b"a\xff"])
def test_names_that_tensorstore_does_not_open_are_refused(tmp_path, name):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "in" / "params")
    target = tmp_path / os.fsdecode(name)
    with pytest.raises(CheckpointError, match="TensorStore opens no path"):
        converted(tmp_path / "in", target, "openpi")
    (tmp_path / "in").rename(target)
    with pytest.raises(CheckpointError, match="TensorStore opens no path"):
        load(target)


@pytest.mark.parametrize("to", ["openpi", "lerobot"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, to):
    resource = pytest.importorskip("resource")
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "in" / "params")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with load(tmp_path / "in", heads=HEADS) as checkpoint:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            with pytest.raises(OutputError, match=r"can't write .*/out: File too large"):
                convert(checkpoint, tmp_path / "out", to, stated=unsaid(checkpoint))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_an_interrupted_write_is_waited_for_before_it_is_cleaned_up():
    class Interrupted:
        waited = False

        def result(self):
            raise KeyboardInterrupt

        def exception(self):
            self.waited = True

    future = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        openpi._written(future)
    assert future.waited


def test_a_link_to_nowhere_is_there_already(tmp_path):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "in" / "params")
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(OutputError, match="is there already"):
        converted(tmp_path / "in", tmp_path / "out", "openpi")
    with pytest.raises(OutputError, match="can't write"):
        converted(tmp_path / "in", tmp_path / ("x" * 300), "openpi")


def test_openpi_pytorch_has_no_pi0_fast(tmp_path):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "a" / "params")
    with pytest.raises(CheckpointError, match="no π0-FAST"):
        converted(tmp_path / "a", tmp_path / "b", "openpi-pytorch")


def test_remote_checkpoints_come_without_their_training_state(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec", reason="fetching needs fsspec (pioxide[fetch])")
    monkeypatch.setenv("PIOXIDE_CACHE", str(tmp_path / "cache"))
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_orbax(arrays, tmp_path / "step" / "params")
    save_norm_stats(tmp_path / "step" / "assets" / "droid", {"state": STATS})
    (tmp_path / "step" / "train_state").mkdir()
    (tmp_path / "step" / "train_state" / "huge").write_bytes(b"x")
    (tmp_path / "step" / "optimizer.pt").write_bytes(b"x")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "step"), "/bucket/run/7", recursive=True)
    try:
        for address in ("memory://bucket/run/7", "memory://bucket/run/7/params"):
            with load(address) as checkpoint:
                assert_same(checkpoint.tree, arrays)
                assert checkpoint.norm_stats()["state"] == STATS
        names = {p.name for p in (tmp_path / "cache").rglob("*")}
        assert "huge" not in names
        assert "optimizer.pt" not in names
        memory.rm("/bucket", recursive=True)
        with load("memory://bucket/run/7") as checkpoint:  # from the cache
            assert_same(checkpoint.tree, arrays)
    finally:
        memory.store.clear()
