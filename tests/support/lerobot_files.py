"""A tiny LeRobot checkpoint in the layout that LeRobot 0.6.1 writes; every part can be changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from support.checkpoints import SMALL, random_arrays, torch_tensors, write_safetensors

PROMPT = {
    "pi0": "pi0_new_line_processor",
    "pi05": "pi05_prepare_state_tokenizer_processor_step",
    "pi0_fast": "pi0_fast_prepare_state_tokenizer_processor_step",
}
JOINTS = ["pan", "lift", "elbow", "flex", "roll", "gripper"]
NORMALIZER_STATE = "policy_preprocessor_step_3_normalizer_processor.safetensors"
UNNORMALIZER_STATE = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"

Change = Callable[[dict[str, Any]], None]


def statistics(dim: int = 6) -> dict[str, np.ndarray]:
    """A normaliser's state file: all eight statistics of the state and the actions."""
    rows = {
        "mean": 0.5,
        "std": 2.0,
        "min": -9.0,
        "max": 9.0,
        "q01": -4.0,
        "q99": 5.0,
        "q10": -2.0,
        "q90": 3.0,
    }
    return {
        f"{feature}.{name}": np.full(dim, value + i, np.float32)
        for i, feature in enumerate(("observation.state", "action"))
        for name, value in rows.items()
    }


def files(kind: str = "pi05", mode: str = "QUANTILES") -> dict[str, Any]:
    """The three JSON documents: "config", "before" and "after"."""
    inputs = {
        "observation.state": {"type": "STATE", "shape": [6]},
        "observation.images.top": {"type": "VISUAL", "shape": [3, 28, 28]},
        "observation.images.side": {"type": "VISUAL", "shape": [3, 28, 28]},
    }
    outputs = {"action": {"type": "ACTION", "shape": [6]}}
    modes = {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    config = {
        "type": kind,
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": outputs,
        "chunk_size": 8,
        "n_action_steps": 5,
        "max_state_dim": 6,
        "max_action_dim": 6,
        "use_relative_actions": False,
        "relative_exclude_joints": ["gripper"],
        "action_feature_names": JOINTS,
        "image_resolution": [28, 28],
        "empty_cameras": 0,
        "tokenizer_max_length": 60,
        "normalization_mapping": modes,
        "optimizer_lr": 1e-4,
    }
    if kind != "pi0_fast":
        config["num_inference_steps"] = 4
    relative = {"enabled": False, "exclude_joints": ["gripper"], "action_names": JOINTS}
    normalize = {"eps": 1e-8, "features": {**inputs, **outputs}, "norm_map": modes}
    tokenize = {"max_length": 60, "task_key": "task", "padding_side": "right", "padding": "max_length"}
    steps = [
        ("rename_observations_processor", {"rename_map": {}}, None),
        ("to_batch_processor", {}, None),
        ("relative_actions_processor", relative, None),
        ("normalizer_processor", normalize, NORMALIZER_STATE),
        (PROMPT[kind], {}, None),
        ("tokenizer_processor", {**tokenize, "tokenizer_name": "google/paligemma-3b-pt-224"}, None),
        ("device_processor", {"device": "cpu", "float_dtype": None}, None),
    ]
    if kind == "pi0_fast":
        steps.insert(6, ("action_tokenizer_processor", {"action_tokenizer_name": "lab/fast"}, None))
    back = [
        ("unnormalizer_processor", {**normalize, "features": outputs}, UNNORMALIZER_STATE),
        ("absolute_actions_processor", {"enabled": False}, None),
        ("device_processor", {"device": "cpu", "float_dtype": None}, None),
    ]
    return copy.deepcopy(
        {
            "config": config,
            "before": {"name": "policy_preprocessor", "steps": [_step(*step) for step in steps]},
            "after": {"name": "policy_postprocessor", "steps": [_step(*step) for step in back]},
        }
    )


def step(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The step of that name."""
    return next(one for one in document["steps"] if one["registry_name"] == name)


def write_lerobot(
    directory: Path,
    kind: str = "pi05",
    *,
    mode: str = "QUANTILES",
    change: Change = lambda files: None,
    stats: dict[str, np.ndarray] | None = None,
    tensors: bool = True,
) -> Path:
    """Writes a checkpoint.

    Args:
        directory: Made if absent.
        kind: pi0, pi05 or pi0_fast.
        mode: How state and actions are normalised.
        change: Changes the three documents in place before they are written.
        stats: Of both state files.
        tensors: Whether `model.safetensors` is written as well.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if tensors:
        write_safetensors(torch_tensors(random_arrays(SMALL[kind].shapes()), "lerobot"), directory)
    made = files(kind, mode)
    change(made)
    for name, key in (
        ("config", "config"),
        ("policy_preprocessor", "before"),
        ("policy_postprocessor", "after"),
    ):
        if key in made:
            (directory / f"{name}.json").write_text(json.dumps(made[key]))
    for name in (NORMALIZER_STATE, UNNORMALIZER_STATE):
        save_file(statistics() if stats is None else stats, directory / name)
    return directory


def _step(name: str, config: dict[str, Any], state_file: str | None) -> dict[str, Any]:
    made = {"registry_name": name, "config": config}
    return made if state_file is None else {**made, "state_file": state_file}
