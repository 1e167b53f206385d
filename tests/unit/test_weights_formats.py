"""Every foreign format gives the same tree, bit for bit, from files that pioxide did not write."""

import io
import json
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from pioxide.errors import CheckpointError
from pioxide.weights import load, recognise
from pioxide.weights.pytorch import PADDED_VOCABULARY, VOCABULARY, open_pytorch
from support.checkpoints import (
    HEADS,
    SMALL,
    VISION,
    assert_same,
    lora,
    random_arrays,
    torch_tensors,
    write_npz,
    write_orbax,
    write_safetensors,
)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("value", [False, True], ids=["released", "trained"])
def test_orbax_with_and_without_trailing_value(tmp_path, kind, value):
    arrays = random_arrays(SMALL[kind].shapes())
    write_orbax(arrays, tmp_path / "7" / "params", value=value)
    with load(tmp_path / "7") as checkpoint:
        assert checkpoint.format == "openpi"
        assert checkpoint.architecture == SMALL[kind]
        assert not checkpoint.problems()
        assert_same(checkpoint.tree, arrays)


@pytest.mark.parametrize("options", [{"use_ocdbt": False}, {"use_zarr3": True}], ids=["folders", "zarr3"])
def test_orbax_in_its_other_arrangements(tmp_path, options):
    arrays = random_arrays(SMALL["pi0_fast"].shapes(), BFLOAT16)
    write_orbax(arrays, tmp_path / "params", outer=False, **options)
    with load(tmp_path / "params") as checkpoint:
        assert_same(checkpoint.tree, arrays)


def test_orbax_lora(tmp_path):
    architecture = lora(SMALL["pi0"])
    arrays = random_arrays(architecture.shapes())
    write_orbax(arrays, tmp_path / "params", value=True)
    with load(tmp_path) as checkpoint:
        assert checkpoint.architecture == architecture
        assert_same(checkpoint.tree, arrays)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("layout", ["lerobot", "lerobot-old", "openpi-pytorch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16], ids=str)
def test_pytorch_layouts(tmp_path, kind, layout, dtype):
    arrays = random_arrays(SMALL[kind].shapes(), dtype)
    write_safetensors(torch_tensors(arrays, layout), tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        assert checkpoint.format == layout.removesuffix("-old")
        assert checkpoint.architecture == SMALL[kind]
        assert not checkpoint.problems()
        assert_same(checkpoint.tree, arrays)


def test_lerobots_first_pi0_fast(tmp_path):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_safetensors(torch_tensors(arrays, "lerobot-fast-old"), tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        assert checkpoint.format == "lerobot"
        assert checkpoint.title == "π0-FAST"
        assert_same(checkpoint.tree, arrays)


@pytest.mark.parametrize("layout", ["hf", "hf-old"])
@pytest.mark.parametrize("shards", [1, 3])
def test_hugging_face_paligemma(tmp_path, layout, shards):
    arrays = random_arrays(SMALL["pi0_fast"].shapes(), BFLOAT16)
    write_safetensors(torch_tensors(arrays, layout, tied="embed_tokens"), tmp_path, shards=shards)
    with load(tmp_path, heads=HEADS) as checkpoint:
        assert checkpoint.title == "PaliGemma"
        assert checkpoint.architecture == SMALL["pi0_fast"]
        assert_same(checkpoint.tree, arrays)


def test_hugging_face_without_the_vision_model_level(tmp_path):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    tensors = torch_tensors(arrays, "hf")
    tensors = {name.replace("vision_tower.vision_model.", "vision_tower."): t for name, t in tensors.items()}
    write_safetensors(tensors, tmp_path)
    with load(tmp_path / "model.safetensors", heads=HEADS) as checkpoint:
        assert_same(checkpoint.tree, arrays)


def test_hugging_face_padding_of_the_vocabulary_is_cut(tmp_path):
    shapes = SMALL["pi0_fast"].shapes() | {"PaliGemma/llm/embedder/input_embedding": (PADDED_VOCABULARY, 64)}
    arrays = random_arrays(shapes, BFLOAT16)
    write_safetensors(torch_tensors(arrays, "hf"), tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        path = "PaliGemma/llm/embedder/input_embedding"
        assert checkpoint.architecture.vocab == VOCABULARY
        assert np.array_equal(checkpoint.tree.read(path), arrays[path][:VOCABULARY])
        assert any("padding" in why for why in checkpoint.tree.unused.values())


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16], ids=str)
def test_paligemma_npz(tmp_path, compressed, dtype):
    arrays = random_arrays(SMALL["pi0_fast"].shapes(), dtype)
    arrays["PaliGemma/img/head/kernel"] = np.asfortranarray(arrays["PaliGemma/img/head/kernel"])
    write_npz(arrays, tmp_path / "pt_224.npz", compressed=compressed)
    with load(tmp_path / "pt_224.npz") as checkpoint:
        assert checkpoint.title == "PaliGemma"
        assert checkpoint.architecture == SMALL["pi0_fast"]
        assert_same(checkpoint.tree, {path: np.ascontiguousarray(a) for path, a in arrays.items()})


@pytest.mark.parametrize("dtype", [">f4", "<f8", np.longdouble])
def test_numbers_of_other_machines_are_read_or_refused(tmp_path, dtype):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_npz({path: array.astype(dtype) for path, array in arrays.items()}, tmp_path / "x.npz")
    with load(tmp_path / "x.npz") as checkpoint:
        if dtype is np.longdouble:
            assert len(checkpoint.problems().shapes) == len(arrays)
            return
        native = np.dtype(dtype).newbyteorder("=")
        assert_same(checkpoint.tree, {path: array.astype(native) for path, array in arrays.items()})


@pytest.mark.parametrize("choice", ["lm_head", "embed_tokens"])
@pytest.mark.parametrize("tied", ["lm_head", "embed_tokens"])
def test_a_choice_of_embedding_is_for_files_with_both(tmp_path, tied, choice):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_safetensors(torch_tensors(arrays, "lerobot", tied=tied), tmp_path)
    with load(tmp_path, heads=HEADS, embedding=choice) as checkpoint:
        assert_same(checkpoint.tree, arrays)


@pytest.mark.parametrize("tied", ["lm_head", "embed_tokens", "both"])
def test_tied_embedding_may_be_stored_once_or_twice(tmp_path, tied):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_safetensors(torch_tensors(arrays, "lerobot", tied=tied), tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        assert_same(checkpoint.tree, arrays)


def test_untied_embedding_is_the_input_in_flow_models_and_refused_in_pi0_fast(tmp_path):
    path = "PaliGemma/llm/embedder/input_embedding"
    for kind in SMALL:
        arrays = random_arrays(SMALL[kind].shapes())
        tensors = torch_tensors(arrays, "lerobot", tied="both")
        head = next(name for name in tensors if name.endswith("paligemma.lm_head.weight"))
        tensors[head] = tensors[head] + 1
        write_safetensors(tensors, tmp_path / kind)
    with load(tmp_path / "pi0", heads=HEADS) as checkpoint:
        assert np.array_equal(checkpoint.tree.read(path), random_arrays(SMALL["pi0"].shapes())[path])
        assert "lm_head.weight" in checkpoint.tree.unused
    differ = "embed_tokens and lm_head differ"
    with load(tmp_path / "pi0_fast", heads=HEADS) as checkpoint, pytest.raises(CheckpointError, match=differ):
        checkpoint.tree.read(path)
    for choice, added in (("embed_tokens", 0), ("lm_head", 1)):
        with load(tmp_path / "pi0_fast", heads=HEADS, embedding=choice) as checkpoint:
            want = random_arrays(SMALL["pi0_fast"].shapes())[path] + added
            assert np.array_equal(checkpoint.tree.read(path), want)


def test_old_lerobot_names_of_pi05_time_mlp_and_its_leftovers(tmp_path):
    arrays = random_arrays(SMALL["pi05"].shapes())
    tensors = {
        name.replace("model.time_mlp", "model.action_time_mlp"): tensor
        for name, tensor in torch_tensors(arrays, "lerobot").items()
    }
    tensors["model.state_proj.weight"] = np.zeros((32, 6), np.float32)
    tensors["model.state_proj.bias"] = np.zeros(32, np.float32)
    tensors["model.paligemma_with_expert.gemma_expert.lm_head.weight"] = np.zeros((300, 32), np.float32)
    tensors["normalize_inputs.buffer_observation_state.mean"] = np.arange(6, dtype=np.float32)
    tensors["normalize_inputs.buffer_observation_state.std"] = np.ones(6, np.float32)
    tensors["unnormalize_outputs.buffer_action.mean"] = np.zeros(6, np.float32)
    tensors["unnormalize_outputs.buffer_action.std"] = np.full(6, 2, np.float32)
    write_safetensors(tensors, tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        assert not checkpoint.problems()
        assert_same(checkpoint.tree, arrays)
        stats = checkpoint.norm_stats()
        assert stats["state"].mean.tolist() == [0, 1, 2, 3, 4, 5]
        assert stats["actions"].std.tolist() == [2] * 6


def test_mixed_dtypes_are_read_in_the_one_that_holds_both(tmp_path):
    arrays = random_arrays(SMALL["pi0"].shapes(), BFLOAT16)
    tensors = torch_tensors(arrays, "openpi-pytorch")
    name = "paligemma_with_expert.paligemma.model.language_model.layers.1.mlp.down_proj.weight"
    tensors[name] = tensors[name].astype(np.float32) + np.float32(1e-6)
    write_safetensors(tensors, tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        path = "PaliGemma/llm/layers/mlp/linear"
        got = checkpoint.tree.read(path)
        assert got.dtype == np.float32
        assert np.array_equal(got[1], tensors[name].T)
        assert np.array_equal(got[0], arrays[path][0].astype(np.float32))


def test_conversion_to_bfloat16_rounds_to_nearest_in_every_reader(tmp_path):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_orbax(arrays, tmp_path / "orbax" / "params")
    write_safetensors(torch_tensors(arrays, "lerobot"), tmp_path / "lerobot")
    write_npz(arrays, tmp_path / "pt.npz")
    for source in ("orbax", "lerobot", "pt.npz"):
        with load(tmp_path / source, heads=HEADS) as checkpoint:
            for path, array in arrays.items():
                assert np.array_equal(checkpoint.tree.read(path, BFLOAT16), array.astype(BFLOAT16)), path


def test_rows_can_be_read_in_any_pieces(tmp_path):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_orbax(arrays, tmp_path / "orbax" / "params")
    write_safetensors(torch_tensors(arrays, "hf"), tmp_path / "hf")
    write_npz(arrays, tmp_path / "pt.npz", compressed=True)
    for source in ("orbax", "hf", "pt.npz"):
        with load(tmp_path / source, heads=HEADS) as checkpoint:
            for path, array in arrays.items():
                for start, stop in ((1, 2), (0, 1), (0, len(array))):
                    if stop <= len(array):
                        out = np.empty(array[start:stop].shape, array.dtype)
                        checkpoint.tree.fill(path, out, start)
                        assert np.array_equal(out, array[start:stop]), (source, path)


def test_kv_heads_and_head_widths_are_read_off_the_projections(tmp_path):
    from dataclasses import replace

    architecture = replace(
        SMALL["pi0"],
        experts=tuple(replace(e, heads=4, kv_heads=2, head_dim=8) for e in SMALL["pi0"].experts),
    )
    arrays = random_arrays(architecture.shapes())
    tensors = torch_tensors(arrays, "openpi-pytorch")
    for suffix, root in (("", "paligemma.model.language_model"), ("_1", "gemma_expert.model")):
        kv = arrays[f"PaliGemma/llm/layers/attn/kv_einsum{suffix}/w"]
        for i in range(len(kv)):
            for n, name in enumerate(("k_proj", "v_proj")):
                stacked = np.concatenate([kv[i, n, 0].T, kv[i, n, 1].T])
                tensors[f"paligemma_with_expert.{root}.layers.{i}.self_attn.{name}.weight"] = stacked
    write_safetensors(tensors, tmp_path)
    with load(tmp_path, heads=(VISION.heads, 2)) as checkpoint:
        assert checkpoint.architecture == architecture
        assert_same(checkpoint.tree, arrays)


@pytest.mark.parametrize("name", ["pi0", "pi05", "pi0_fast", "pi0_lora", "pi0_fast_lora"])
def test_full_size_trees_are_openpis(golden, name):
    table = json.loads((golden / "openpi_param_trees.json").read_bytes())[name]

    from pioxide.weights import Spec, Tree

    class Header(Tree):
        def fill(self, path, out, start=0):
            raise AssertionError

    tree = Header(name, {path: Spec(tuple(shape), np.dtype(dtype)) for path, (shape, dtype) in table.items()})
    architecture = recognise(tree)
    assert architecture.kind == name.removesuffix("_lora")
    assert architecture.lora == name.endswith("_lora")
    assert architecture.shapes() == {path: tuple(shape) for path, (shape, _) in table.items()}


def test_index_that_lists_a_tensor_its_files_lack(tmp_path):
    write_safetensors(torch_tensors(random_arrays(SMALL["pi0"].shapes()), "lerobot"), tmp_path, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_bytes())
    content["weight_map"]["model.other.weight"] = sorted(content["weight_map"].values())[0]
    index.write_text(json.dumps(content))
    with open_pytorch(tmp_path, heads=HEADS) as tree:
        assert tree.problems.missing == ["model.other.weight (listed in model.safetensors.index.json)"]


def test_npz_members_of_two_byte_voids_are_bfloat16(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.arange(4).astype(BFLOAT16))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("params/img/head/bias.npy", buffer.getvalue())
    with pytest.raises(CheckpointError, match="only part of one"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("before", ["_orig_mod.", "module.", "base_model.model.", "base_model.model.module."])
def test_what_wrappers_put_before_names_is_passed_over(tmp_path, before):
    arrays = random_arrays(SMALL["pi05"].shapes())
    tensors = {f"{before}{name}": t for name, t in torch_tensors(arrays, "lerobot").items()}
    write_safetensors(tensors, tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        assert checkpoint.format == "lerobot"
        assert_same(checkpoint.tree, arrays)
    del tensors[f"{before}model.time_mlp_in.bias"]
    write_safetensors(tensors, tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        assert checkpoint.problems().missing[0].startswith(f"{before}model.time_mlp_in.bias ")


@pytest.mark.parametrize("address", ["hf://org/name", Path("hf://org/name")])
def test_a_checkpoint_at_an_address_is_brought(address, tmp_path, monkeypatch):
    write_orbax(random_arrays(SMALL["pi0"].shapes()), tmp_path / "params")
    asked = []
    monkeypatch.setattr("pioxide.weights.remote.bring", lambda url, on_file: asked.append(url) or tmp_path)
    load(address).close()
    assert asked == ["hf://org/name"]
