"""A checkpoint that lacks something, has too much or lies is refused with one error that says everything."""

import contextlib
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pioxide.errors import CheckpointError, FormatError, InputError
from pioxide.weights import load, stream
from pioxide.weights.openpi import OrbaxTree
from pioxide.weights.paligemma import NpzTree
from pioxide.weights.safetensors import SafetensorsFile
from support.checkpoints import (
    HEADS,
    SMALL,
    random_arrays,
    torch_tensors,
    write_npz,
    write_orbax,
    write_safetensors,
)


def flawed_arrays(kind: str) -> dict:
    """A model with a tensor missing, one too many, one of another shape and one of integers."""
    arrays = random_arrays(SMALL[kind].shapes())
    del arrays["PaliGemma/llm/final_norm/scale"]
    del arrays["PaliGemma/img/head/bias"]
    arrays["PaliGemma/llm/layers/mlp/linear"] = np.zeros((4, 95, 64), np.float32)
    arrays["PaliGemma/llm/layers/attn/q_einsum/w"] = np.zeros((4, 8, 64, 16), np.int32)
    arrays["PaliGemma/surprise"] = np.zeros(3, np.float32)
    return arrays


def check_flaws(error: CheckpointError, missing: int) -> None:
    assert len(error.missing) == missing
    assert any("surprise" in name for name in error.extra)
    assert len(error.extra) == 1
    assert len(error.shapes) == 2
    text = str(error)
    for name in (*error.missing, *error.extra, *error.shapes):
        assert name in text


def test_orbax_flaws_are_listed_together(tmp_path):
    write_orbax(flawed_arrays("pi0"), tmp_path / "params")
    with load(tmp_path) as checkpoint:
        error = checkpoint.problems().error("x")
    check_flaws(error, 2)
    assert "PaliGemma/llm/final_norm/scale [64]" in error.missing
    assert "PaliGemma/llm/layers/mlp/linear is [4, 95, 64], expected [4, 96, 64]" in error.shapes
    assert (
        "PaliGemma/llm/layers/attn/q_einsum/w is int32, expected float32, bfloat16, float16, float64"
        in error.shapes
    )


def test_npz_flaws_are_listed_together(tmp_path):
    write_npz(flawed_arrays("pi0_fast"), tmp_path / "x.npz")
    with load(tmp_path / "x.npz") as checkpoint:
        check_flaws(checkpoint.problems().error("x"), 2)


def test_pytorch_flaws_are_listed_by_their_own_names(tmp_path):
    tensors = torch_tensors(random_arrays(SMALL["pi05"].shapes()), "lerobot")
    root = "model.paligemma_with_expert.paligemma.model.language_model."
    del tensors[f"{root}layers.2.self_attn.k_proj.weight"]
    del tensors["model.time_mlp_in.bias"]
    tensors[f"{root}layers.1.mlp.up_proj.weight"] = np.zeros((95, 64), np.float32)
    tensors[f"{root}layers.3.input_layernorm.weight"] = np.zeros(64, np.int64)
    tensors["model.paligemma_with_expert.paligemma.model.surprise"] = np.zeros(3, np.float32)
    write_safetensors(tensors, tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        error = checkpoint.problems().error("x")
    check_flaws(error, 2)
    assert f"{root}layers.2.self_attn.k_proj.weight" in error.missing
    assert "model.time_mlp_in.bias (openpi's time_mlp_in/bias [32])" in error.missing
    assert any(name.startswith(f"{root}layers.1.mlp.up_proj.weight") for name in error.shapes)
    assert any("int64, expected floating point" in name for name in error.shapes)


def test_one_name_in_two_spellings_is_a_flaw(tmp_path):
    tensors = torch_tensors(random_arrays(SMALL["pi0"].shapes()), "lerobot")
    tensors["action_in_proj.bias"] = tensors["model.action_in_proj.bias"]
    write_safetensors(tensors, tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        assert len(checkpoint.problems().extra) == 1


def test_tensors_that_are_not_finite_are_all_named(tmp_path):
    arrays = random_arrays(SMALL["pi0"].shapes())
    arrays["PaliGemma/llm/layers/mlp/linear"][2, 3, 4] = np.nan
    arrays["action_in_proj/bias"][:2] = np.inf
    arrays["state_proj/bias"][0] = 3.4e38  # finite, and beyond bfloat16
    write_orbax(arrays, tmp_path / "params")
    with load(tmp_path) as checkpoint:
        with pytest.raises(CheckpointError) as caught:
            list(stream(checkpoint.tree))
        assert caught.value.values == (
            "PaliGemma/llm/layers/mlp/linear: 1 of 24,576",
            "action_in_proj/bias: 2 of 32",
        )
        with pytest.raises(CheckpointError) as caught:
            list(stream(checkpoint.tree, lambda path, spec: np.dtype("float16")))
        assert any(name.startswith("state_proj/bias: 1 of") for name in caught.value.values)


def test_pickled_files_are_refused_by_name(tmp_path):
    for name in ("model.pt", "pytorch_model.bin", "policy.ckpt", "x.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps({"a": 1}))
        with pytest.raises(CheckpointError, match="pickled"):
            load(tmp_path / name)
    with pytest.raises(CheckpointError, match="only pickled files"):
        load(tmp_path)


def test_pickled_members_of_an_archive_are_refused_unread(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "went-off",))

    np.savez(tmp_path / "x.npz", **{"params/img/head/bias": np.array([Bomb()], object)}, allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"head/bias\.npy holds pickled Python objects"):
        load(tmp_path / "x.npz")
    assert not (tmp_path / "went-off").exists()


def test_places_without_a_checkpoint_say_what_was_looked_for(tmp_path):
    with pytest.raises(CheckpointError, match="is not there"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is no checkpoint: it has no params/"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"expected \.safetensors, \.npz or a directory"):
        load(tmp_path / "notes.txt")
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    for step in ("900", "10000"):
        write_orbax(arrays, tmp_path / "run" / step / "params")
    with pytest.raises(CheckpointError, match=r"training steps 900, 10000: name one, as in .*/10000"):
        load(tmp_path / "run")


def test_a_file_of_another_model_is_called_so(tmp_path):
    write_safetensors({"encoder.weight": np.zeros((3, 3), np.float32)}, tmp_path)
    with pytest.raises(CheckpointError, match="not a π checkpoint"):
        load(tmp_path)


def header(entries: dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


HOSTILE = {
    "empty": (b"", "is empty"),
    "a header longer than the file": (header({}, length=1 << 40), "cut off"),
    "no JSON": (struct.pack("<Q", 4) + b"\xff\xfe{}", "is not UTF-8 text"),
    "a list": (struct.pack("<Q", 2) + b"[]", "no JSON object"),
    "nested too deep": (struct.pack("<Q", 200_000) + b"[" * 200_000, "nested too deeply"),
    "an entry that is no object": (header({"a": 3}), "a: its entry"),
    "a dtype that is no text": (
        header({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        "a: dtype",
    ),
    "more axes than an array has": (
        header({"a": {"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]}}, b"1234"),
        "a: shape",
    ),
    "nothing, of impossible length": (
        header({"a": {"dtype": "F32", "shape": [0, 1 << 47, 1 << 47], "data_offsets": [0, 0]}}),
        "a: shape",
    ),
    "an unknown dtype": (
        header({"a": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        "a: dtype",
    ),
    "a negative length": (
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"),
        "a: shape",
    ),
    "a size that the shape does not give": (
        header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, b"1234"),
        "a: float32",
    ),
    "overlapping tensors": (
        header(
            {
                "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]},
            },
            b"123456",
        ),
        "b overlaps a",
    ),
    "a gap": (
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
        "a leaves a gap after the header",
    ),
    "data cut off": (
        header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"1234"),
        "cut off: a ends",
    ),
    "data nobody owns": (
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12345678"),
        "4 bytes follow a",
    ),
    "one name twice": (
        struct.pack("<Q", 15) + b'{"a": {},"a":{}}'[:15],
        "is not JSON",
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_safetensors(tmp_path, attack):
    content, message = HOSTILE[attack]
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        SafetensorsFile(tmp_path / "model.safetensors")


def test_a_name_twice_in_a_header(tmp_path):
    entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    text = f'{{"a":{entry},"a":{entry}}}'.encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"1234")
    with pytest.raises(CheckpointError, match="the key 'a' is there twice"):
        SafetensorsFile(tmp_path / "x.safetensors")


def test_an_index_may_not_point_elsewhere(tmp_path):
    for target in ("../secret.safetensors", "/etc/passwd", "x.bin", 7):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": target}}))
        with pytest.raises(CheckpointError, match=r"expected a \.safetensors file beside it"):
            load(tmp_path)


@pytest.mark.parametrize("name", ["a\0.safetensors", "\ud800.safetensors", "x" * 300 + ".safetensors"])
def test_an_index_may_name_what_can_be_no_file(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError):
        load(tmp_path)


@pytest.mark.parametrize("heads", [(0, 1), (4, 0), (-4, 1), (1e999, 1), ("4", "1")])
def test_stored_heads_that_make_no_sense_are_not_taken(tmp_path, heads):
    tensors = torch_tensors(random_arrays(SMALL["pi0"].shapes()), "lerobot")
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    stored = json.dumps({"vision_heads": heads[0], "kv_heads": heads[1]})
    save_file(tensors, tmp_path / "model.safetensors", {"pioxide": stored})
    with load(tmp_path) as checkpoint:
        assert checkpoint.architecture.vision.heads == 16
    with pytest.raises(InputError, match="heads: expected two numbers above 0"):
        load(tmp_path, heads=(4, 0))


def test_an_output_matrix_of_another_shape_is_a_flaw(tmp_path):
    tensors = torch_tensors(random_arrays(SMALL["pi0"].shapes()), "lerobot", tied="both")
    head = next(name for name in tensors if name.endswith("paligemma.lm_head.weight"))
    tensors[head] = tensors[head][:-1]
    write_safetensors(tensors, tmp_path)
    with load(tmp_path, heads=HEADS) as checkpoint:
        (shape,) = checkpoint.problems().shapes
    assert "lm_head.weight float32[299, 64] does not fit" in shape


def test_archive_whose_member_lies_about_its_shape(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(64, np.float32))
    for lie, message in (
        (b"(1<<9,)", "is no array that can be read"),
        (b"(99,),", "takes 396 bytes, .* has 256"),
    ):
        content = buffer.getvalue().replace(b"(64,),", lie.ljust(6)[:7], 1)
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("params/img/head/bias.npy", content)
        with pytest.raises(CheckpointError, match=rf"head/bias\.npy.* {message}"):
            load(tmp_path / "x.npz")


def test_archive_that_is_cut_off_or_changed(tmp_path):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_npz(arrays, tmp_path / "x.npz")
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"no \.npz file"):
        load(tmp_path / "cut.npz")
    values = arrays["PaliGemma/llm/layers/mlp/linear"].tobytes()[:64]
    (tmp_path / "bent.npz").write_bytes(content.replace(values, bytes(64), 1))
    with load(tmp_path / "bent.npz") as checkpoint, pytest.raises(CheckpointError, match="Bad CRC-32"):
        checkpoint.tree.read("PaliGemma/llm/layers/mlp/linear")


HEADERS = {
    "brackets left open": b"{'descr':'<f4','fortran_order':False,'shape':(3,",
    "signs without end": b"-" * 9000 + b"1",
    "keys of two kinds": b"{1: 2, 'descr': '<f4'}",
    "negative lengths": b"{'descr':'<f4','fortran_order':False,'shape':(-1,-1)}",
    "more axes than an array has": b"{'descr':'<f4','fortran_order':False,'shape':(" + b"1," * 100 + b")}",
    "a header longer than any": b" " * (1 << 20),
}


@pytest.mark.parametrize("attack", HEADERS)
def test_archive_with_a_hostile_array_header(tmp_path, attack):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    del arrays["PaliGemma/img/head/bias"]
    write_npz(arrays, tmp_path / "x.npz")
    head = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(HEADERS[attack])) + HEADERS[attack]
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("params/img/head/bias.npy", head + b"1234")
    with pytest.raises(CheckpointError, match="head/bias"), load(tmp_path / "x.npz") as checkpoint:
        raise checkpoint.problems().error("x")


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_damage_anywhere_in_an_archive_is_one_kind_of_error(tmp_path, method):
    buffer = io.BytesIO()
    np.save(buffer, np.arange(20, dtype=np.float32))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        archive.writestr("params/é.npy", buffer.getvalue())
    file = tmp_path / "x.npz"
    for place in range(len(whole.getvalue())):
        content = bytearray(whole.getvalue())
        content[place] ^= 0xFF
        file.write_bytes(content)
        try:
            with contextlib.closing(NpzTree(file)) as tree:
                for path in tree.specs:
                    tree.read(path)
        except CheckpointError:
            pass


def test_archive_with_something_else_in_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("run.py", "print()")
    with pytest.raises(CheckpointError, match=r"run\.py is no array"):
        load(tmp_path / "x.npz")


def test_orbax_whose_data_is_gone_or_cut_off(tmp_path):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_orbax(arrays, tmp_path / "params")
    data = max((tmp_path / "params").rglob("d/*"), key=lambda file: file.stat().st_size)
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError), load(tmp_path) as checkpoint:
        list(stream(checkpoint.tree))
    data.unlink()
    with pytest.raises(CheckpointError), load(tmp_path) as checkpoint:
        list(stream(checkpoint.tree))
    (tmp_path / "params" / "manifest.ocdbt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path)


def test_orbax_chunks_that_are_not_there_are_no_zeros(tmp_path):
    arrays = random_arrays(SMALL["pi0_fast"].shapes())
    write_orbax(arrays, tmp_path / "params", use_ocdbt=False)
    (tmp_path / "params" / "params.PaliGemma.img.head.bias" / "0").unlink()
    with load(tmp_path) as checkpoint, pytest.raises(CheckpointError, match="img/head/bias can't be read"):
        checkpoint.tree.read("PaliGemma/img/head/bias")


def test_orbax_names_that_become_one_path_are_refused(tmp_path, monkeypatch):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "params")
    own = OrbaxTree._headers

    def doubled(self):
        headers = own(self)
        return headers | {"params.PaliGemma.img/head.bias": headers["params.PaliGemma.img.head.bias"]}

    monkeypatch.setattr(OrbaxTree, "_headers", doubled)
    with pytest.raises(CheckpointError, match="are both 'PaliGemma/img/head/bias'"):
        load(tmp_path)


def test_orbax_metadata_that_lists_more_than_is_there(tmp_path):
    import shutil

    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "params", use_ocdbt=False)
    shutil.rmtree(tmp_path / "params" / "params.PaliGemma.img.head.bias")
    with load(tmp_path) as checkpoint:
        missing = checkpoint.problems().missing
    assert "params.PaliGemma.img.head.bias (listed in _METADATA, its data is not there)" in missing
    (tmp_path / "params" / "_METADATA").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        load(tmp_path)


@pytest.mark.parametrize("described", [None, [], {}])
def test_orbax_metadata_that_does_not_describe_its_values(tmp_path, described):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "params")
    entry = {"key_metadata": [{"key": "params"}, {"key": "more"}], "value_metadata": described}
    (tmp_path / "params" / "_METADATA").write_text(json.dumps({"tree_metadata": {"a": entry}}))
    with load(tmp_path) as checkpoint:
        assert checkpoint.problems().missing == ["params.more (listed in _METADATA, its data is not there)"]


def test_a_directory_with_checkpoints_of_two_formats_is_ambiguous(tmp_path):
    arrays = random_arrays(SMALL["pi0"].shapes())
    write_orbax(arrays, tmp_path / "params")
    write_safetensors(torch_tensors(arrays, "lerobot"), tmp_path)
    with pytest.raises(
        CheckpointError, match=r"several checkpoints \(params, model\.safetensors\): name one"
    ):
        load(tmp_path)
    for name, form in (("params", "openpi"), ("model.safetensors", "lerobot")):
        with load(tmp_path / name, heads=HEADS) as checkpoint:
            assert checkpoint.format == form


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "~nobody.of.this.name/checkpoint"])
def test_paths_that_cannot_be_are_no_fault_of_ours(path):
    with pytest.raises(CheckpointError, match=r"can't be looked at|is not there"):
        load(path)


@pytest.mark.parametrize("steps", ["5", '"abc"', "[[]]", '[{"registry_name": ["x"]}]'])
def test_processors_that_make_no_sense_hold_no_statistics(tmp_path, steps):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "params")
    (tmp_path / "policy_preprocessor.json").write_text(f'{{"steps": {steps}}}')
    with load(tmp_path) as checkpoint:
        assert checkpoint.companions.norm_stats == {}


def test_companions_that_are_damaged_are_named(tmp_path):
    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "params")
    (tmp_path / "assets" / "droid").mkdir(parents=True)
    (tmp_path / "assets" / "droid" / "norm_stats.json").write_text('{"norm_stats": {"state": {"std": [1]}}}')
    with pytest.raises(FormatError, match='"state" has no "mean"'):
        load(tmp_path)


def test_statistics_are_chosen_by_name_where_there_are_several(tmp_path):
    from pioxide.transforms import Stats, save_norm_stats

    write_orbax(random_arrays(SMALL["pi0_fast"].shapes()), tmp_path / "params")
    with load(tmp_path) as checkpoint, pytest.raises(InputError, match="comes without norm statistics"):
        checkpoint.norm_stats()
    for i, asset_id in enumerate(("droid", "lab/arm")):
        stats = Stats(np.full(3, i), np.ones(3))
        save_norm_stats(tmp_path / "assets" / asset_id, {"state": stats, "actions": stats})
    with load(tmp_path / "params") as checkpoint:
        assert checkpoint.norm_stats("lab/arm")["state"].mean[0] == 1
        with pytest.raises(InputError, match="name one of 'droid', 'lab/arm'"):
            checkpoint.norm_stats()
        with pytest.raises(InputError, match="no norm statistics 'ur5'"):
            checkpoint.norm_stats("ur5")
