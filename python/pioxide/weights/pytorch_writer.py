"""A tree written as LeRobot or openpi's PyTorch port has it: `model.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pioxide.errors import CheckpointError
from pioxide.family import Family
from pioxide.weights.architecture import Architecture
from pioxide.weights.pytorch_names import EMBED_TOKENS, EMBEDDING, EXPERT_HEAD, LM_HEAD, ROWS, Row
from pioxide.weights.safetensors import SafetensorsWriter
from pioxide.weights.tree import Array, Spec, Tree

PALIGEMMA = ("vision_tower.", "multi_modal_projector.", "language_model.")
# Both projects know their language models by these names only.
VARIANTS = {(2048, 16384): "gemma_2b", (1024, 4096): "gemma_300m"}


def write_pytorch(
    tree: Tree,
    architecture: Architecture,
    directory: Path,
    layout: Literal["lerobot", "openpi-pytorch"],
    *,
    dtype: np.dtype[Any] | None = None,
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> None:
    """Writes `model.safetensors` into a directory.

    The embedding is stored once, as `lm_head.weight`, as in the files on the Hub. The action expert's own
    `lm_head.weight`, which nothing computes with but both projects' strict loaders ask for, is all zeros and
    takes no room on file systems that know holes.

    Args:
        tree: Where the values come from, without LoRA.
        architecture: Of the tree.
        directory: Where to; must exist.
        layout: Whose names to use.
        dtype: To store; each tensor's own by default.
        on_bytes: Told what was written.

    Raises:
        CheckpointError: The layout has no such model.
    """
    if architecture.lora:
        raise CheckpointError(f"{layout} files hold no openpi LoRA: merge it first (--merge-lora)")
    if layout == "openpi-pytorch" and architecture.kind is Family.PI0_FAST:
        raise CheckpointError("openpi's PyTorch port has no π0-FAST; LeRobot has")
    rows = _rows_by_path(tree)
    specs: dict[str, Spec] = {}
    for path, path_rows in rows.items():
        spec = tree.specs[path]
        stored = dtype or spec.dtype
        for row, name, _ in _tensors(path, path_rows, spec, layout):
            shape = spec.shape[1:] if row.stacked else spec.shape
            specs[name] = Spec(row.how.foreign_shape(shape), stored)
    if architecture.kind.is_flow:
        stored = dtype or tree.specs[EMBEDDING].dtype
        specs[full_name(EXPERT_HEAD, layout)] = Spec(
            (architecture.vocab, architecture.experts[1].width), stored
        )
    heads = {"vision_heads": architecture.vision.heads, "kv_heads": architecture.experts[0].kv_heads}
    writer = SafetensorsWriter(
        directory / "model.safetensors", specs, {"format": "pt", "pioxide": json.dumps(heads)}
    )
    try:
        writer.left.pop(full_name(EXPERT_HEAD, layout), None)  # the file is made of zeros
        for path, path_rows in rows.items():
            _write(writer, tree, path, path_rows, layout, dtype, on_bytes)
        writer.close()
    except BaseException:
        writer.abandon()
        raise


def full_name(core: str, layout: str) -> str:
    """Returns a name of `pytorch_names` as a layout spells it."""
    core = LM_HEAD if core == EMBED_TOKENS else core
    if core.startswith(PALIGEMMA):
        core = f"paligemma_with_expert.paligemma.model.{core}"
    elif core == LM_HEAD:
        core = f"paligemma_with_expert.paligemma.{core}"
    elif core.startswith("gemma_expert."):
        core = f"paligemma_with_expert.{core}"
    return f"model.{core}" if layout == "lerobot" else core


def variants(architecture: Architecture) -> dict[str, str]:
    """Returns what both projects call the transformer and the action expert in `config.json`."""
    named = {"paligemma_variant": _variant(architecture, 0)}
    if architecture.kind.is_flow:
        named["action_expert_variant"] = _variant(architecture, 1)
    return named


def openpi_config(architecture: Architecture, dtype: str, horizon: int) -> dict[str, Any]:
    """Returns `config.json` as openpi's converter writes it."""
    return {
        "action_dim": architecture.action_dim,
        "action_horizon": horizon,
        **variants(architecture),
        "precision": dtype,
    }


def _variant(architecture: Architecture, i: int) -> str:
    expert = architecture.experts[i]
    return VARIANTS.get((expert.width, expert.mlp), f"gemma_{expert.width}")


def _rows_by_path(tree: Tree) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for row in ROWS:
        if row.path in tree.specs:
            rows.setdefault(row.path, []).append(row)
    if left := sorted(set(tree.specs) - set(rows)):
        raise CheckpointError(f"no PyTorch names for {', '.join(left)}")
    return rows


def _tensors(path: str, rows: list[Row], spec: Spec, layout: str) -> list[tuple[Row, str, int]]:
    """Returns every foreign tensor of a parameter: its row, its name, its layer."""
    depth = spec.shape[0] if rows[0].stacked else 1
    return [
        (row, full_name(row.name.replace("{i}", str(i)), layout), i) for i in range(depth) for row in rows
    ]


def _write(
    writer: SafetensorsWriter,
    tree: Tree,
    path: str,
    rows: list[Row],
    layout: str,
    dtype: np.dtype[Any] | None,
    on_bytes: Callable[[str, int], None],
) -> None:
    spec = tree.specs[path]
    stored = dtype or spec.dtype
    tensors = _tensors(path, rows, spec, layout)
    if not rows[0].stacked and not rows[0].how.identity:
        writer.put(tensors[0][1], rows[0].how.to_foreign(tree.read(path, stored)))
        on_bytes(path, spec.nbytes)
        return
    for start, stop in tree.blocks(path):
        block: Array = np.empty((stop - start, *spec.shape[1:]), stored)
        tree.fill(path, block, start)
        if rows[0].stacked:
            for row, name, i in tensors[start * len(rows) : stop * len(rows)]:
                writer.put(name, row.how.to_foreign(block[i - start]))
        else:
            writer.put(tensors[0][1], block, start * (spec.size // max(spec.shape[0], 1)))
        on_bytes(path, block.size * spec.dtype.itemsize)
