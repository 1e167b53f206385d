"""PEFT adapters and LeRobot training runs: the base's weights with the updates, found wherever they lie."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pioxide.errors import CheckpointError, InputError
from pioxide.weights import load
from support.lerobot_policies import GOLDEN, read, write_checkpoint

SCALE = 6 / 3
IN_PROJECTION = "model.action_in_proj"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """The recorded adapter with its base beside it, as `../base`."""
    write_checkpoint("pi0_model", tmp_path / "base")
    return write_checkpoint("pi0_model_adapter", tmp_path / "adapter")


def test_an_adapter_is_added_to_its_base(adapter: Path) -> None:
    base = load_file(adapter.parent / "base" / "model.safetensors")
    factors = load_file(adapter / "adapter_model.safetensors")
    one, two = (factors[f"base_model.model.{IN_PROJECTION}.lora_{f}.weight"] for f in "AB")
    with load(adapter) as opened, load(adapter.parent / "base") as plain:
        assert opened.path == adapter
        assert not opened.problems()
        changed = {
            path
            for path in opened.tree.specs
            if not np.array_equal(opened.tree.read(path), plain.tree.read(path))
        }
        got = opened.tree.read("action_in_proj/kernel")
    np.testing.assert_allclose(got.T, base[f"{IN_PROJECTION}.weight"] + SCALE * two @ one, rtol=1e-6)
    assert changed == {
        "action_in_proj/kernel",
        "action_out_proj/kernel",
        "action_time_mlp_in/kernel",
        "action_time_mlp_out/kernel",
        "state_proj/kernel",
        "PaliGemma/llm/layers/attn/q_einsum_1/w",
        "PaliGemma/llm/layers/attn/kv_einsum_1/w",
    }


def test_updates_of_half_precision_weights_are_not_rounded_away(adapter: Path) -> None:
    file = adapter.parent / "base" / "model.safetensors"
    half = {name: tensor.astype(np.float16) for name, tensor in load_file(file).items()}
    save_file(half, file)
    with load(adapter) as opened:
        assert opened.tree.specs["action_in_proj/kernel"].dtype == np.float32
        assert opened.tree.specs["action_in_proj/bias"].dtype == np.float16


def test_patterns_and_whole_modules_are_obeyed(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    factors = load_file(file)
    bias = np.arange(32, dtype=np.float32)
    save_file(factors | {f"base_model.model.{IN_PROJECTION}.bias": bias}, file)
    _change(adapter, alpha_pattern={"action_in_proj": 30}, use_rslora=True)
    base = load_file(adapter.parent / "base" / "model.safetensors")
    one, two = (factors[f"base_model.model.{IN_PROJECTION}.lora_{f}.weight"] for f in "AB")
    with load(adapter) as opened:
        got = opened.tree.read("action_in_proj/kernel").T
        np.testing.assert_array_equal(opened.tree.read("action_in_proj/bias"), bias)
    expected = base[f"{IN_PROJECTION}.weight"] + 30 / np.sqrt(3) * two @ one
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "MISS"}, "peft_type"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"r": 4}, "rank 4"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"rank_pattern": ["action_in_proj"]}, "rank_pattern: expected an object"),
        ({"base_model_name_or_path": None}, "names no base"),
        ({"base_model_name_or_path": "lerobot/pi0_base"}, "'lerobot/pi0_base'"),
    ],
)
def test_adapters_of_other_kinds_are_refused_by_name(
    change: dict[str, Any], said: str, adapter: Path
) -> None:
    _change(adapter, **change)
    with pytest.raises(CheckpointError, match=said):
        load(adapter)


def _without(name: str) -> Callable[[dict], dict]:
    return lambda tensors: {key: value for key, value in tensors.items() if not key.endswith(name)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without("state_proj.lora_B.weight"), "state_proj.lora_B.weight is missing"),
        (lambda tensors: {"a.lora_A.weight": np.zeros((3, 2), np.float32)}, "no tensor of an adapter"),
        (lambda tensors: {}, "no updates"),
        (
            lambda tensors: (
                tensors | {"base_model.model.model.x.lora_magnitude_vector": np.zeros(3, np.float32)}
            ),
            "more than a plain update",
        ),
        (
            lambda tensors: tensors | {"base_model.model.model.elsewhere.weight": np.zeros(3, np.float32)},
            "elsewhere.weight is no tensor of the base",
        ),
        (
            lambda tensors: (
                tensors | {"base_model.model.model.state_proj.lora_B.weight": np.zeros((9, 3), np.float32)}
            ),
            r"state_proj.weight is \[9, 32\], and the base has \[32, 32\]",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    change: Callable[[dict], dict], said: str, adapter: Path
) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    with pytest.raises(CheckpointError, match=said):
        load(adapter)


def test_a_base_elsewhere_is_said(adapter: Path, tmp_path: Path) -> None:
    shutil.move(adapter.parent / "base", tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="base="):
        load(adapter)
    load(adapter, base=tmp_path / "elsewhere").close()
    with pytest.raises(CheckpointError, match="is an adapter itself"):
        load(adapter, base=adapter)
    with pytest.raises(InputError, match="no adapter"):
        load(tmp_path / "elsewhere", base=adapter)


def _run(directory: Path) -> Path:
    """A training run as LeRobot laid it out, with a policy that was recorded."""
    checkpoint = write_checkpoint("pi05_model", directory / "policy")
    for name, target in read(GOLDEN / "training_directory.json").items():
        path = directory / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if target is not None:
            path.symlink_to(target)
        elif (checkpoint / path.name).is_file():
            shutil.copy(checkpoint / path.name, path)
    return directory / "run"


@pytest.mark.parametrize("within", ["", "checkpoints", "checkpoints/last", "checkpoints/000100"])
def test_a_training_run_is_its_last_policy(within: str, tmp_path: Path) -> None:
    run = _run(tmp_path)
    with load(run / within) as opened:
        assert opened.path.resolve() == run / "checkpoints" / "000100" / "pretrained_model"
        assert opened.contract.action_horizon == 8


def test_averaged_weights_beside_are_mentioned(tmp_path: Path) -> None:
    step = _run(tmp_path) / "checkpoints" / "000100"
    shutil.copytree(step / "pretrained_model", step / "pretrained_model_ema")
    with load(tmp_path / "run") as opened:
        assert any("pretrained_model_ema" in note for note in opened.said.notes)
    with load(step / "pretrained_model_ema") as opened:
        assert opened.path.name == "pretrained_model_ema"


def test_steps_without_a_last_one_are_named(tmp_path: Path) -> None:
    run = _run(tmp_path)
    (run / "checkpoints" / "last").unlink()
    load(run).close()
    shutil.copytree(run / "checkpoints" / "000100", run / "checkpoints" / "000200")
    with pytest.raises(CheckpointError, match="000100, 000200"):
        load(run)


def _change(adapter: Path, **fields: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
