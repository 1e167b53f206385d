"""Tiny LeRobot policies: their weights by a rule, and the recorded directories put back on disk.

A recorded case holds everything that LeRobot wrote but `model.safetensors`; its tensors come from their
names and the case's salt. Nothing here needs PyTorch, LeRobot or pioxide: recorder and tests share it.
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "lerobot"
TEXT_MODEL = GOLDEN.parents[2] / "python" / "pioxide" / "demo" / "text.model"
FAST = GOLDEN.parent / "fast" / "g1_h16_v1024.json"

PATCH = 14
LM_HEAD = "paligemma.lm_head.weight"
EMBED_TOKENS = "paligemma.model.language_model.embed_tokens.weight"
POSITIONS = "embeddings.position_embedding.weight"

Arrays = dict[str, NDArray[Any]]


def cases(kind: str) -> list[str]:
    """The names of all recorded cases of a kind: "processors" or "model"."""
    return sorted(file.parent.name for file in GOLDEN.glob("cases/*/case.json") if read(file)["kind"] == kind)


def case(name: str) -> tuple[dict[str, Any], Arrays]:
    """What a case is, and everything that was recorded of it."""
    directory = GOLDEN / "cases" / name
    with np.load(directory / "golden.npz") as file:
        return read(directory / "case.json"), dict(file)


def read(file: Path) -> Any:
    """A JSON file's content."""
    return json.loads(file.read_text(encoding="utf-8"))


def weights(shapes: dict[str, list[int]], salt: str) -> Arrays:
    """Every tensor of a checkpoint by its name in the file and a salt.

    No norm is 1, no bias 0; every image, word and joint moves the actions. `lm_head` equals `embed_tokens`.
    """
    drawn = {}
    for name, shape in shapes.items():
        key = name.replace(LM_HEAD, EMBED_TOKENS)
        # NumPy's frozen legacy generator: the same numbers for good.
        values = np.random.RandomState(zlib.crc32(f"{salt}:{key}".encode())).standard_normal(shape)
        if "norm" in name and "dense" not in name:
            # SigLIP's scales are around 1, Gemma's are added to 1.
            values = 0.3 * values + ("vision_tower" in name and name.endswith("weight"))
        elif key.endswith(("bias", EMBED_TOKENS, POSITIONS, "lm_head.weight")):
            values *= 0.1
        else:
            values /= np.sqrt(np.prod(shape[1:]))
        drawn[name] = values.astype(np.float32)
    return drawn


def write_checkpoint(name: str, directory: Path, *, recorded: Arrays | None = None) -> Path:
    """Puts a case's checkpoint on disk as LeRobot saved it, weights included where the case has them.

    Args:
        name: Of the case.
        directory: Where to; made if absent.
        recorded: The case's arrays, where they are at hand.
    """
    shutil.copytree(GOLDEN / "cases" / name / "checkpoint", directory, dirs_exist_ok=True)
    what, arrays = case(name) if recorded is None else (read(GOLDEN / "cases" / name / "case.json"), recorded)
    if "weights" in what:
        write_weights(what["weights"], directory, read(GOLDEN / "layouts.json"), arrays)
    return directory


def write_weights(how: dict[str, Any], directory: Path, layouts: Any, arrays: Arrays) -> None:
    """Writes `model.safetensors` for a case's `weights`: layout, salt, image size and tensors left out.

    `embedding_rows` among the arrays replace the words `embedding_ids`.
    """
    shapes = dict(layouts[how["layout"]])
    for tensor in shapes:
        if tensor.endswith(POSITIONS):
            shapes[tensor] = [(how["image_size"] // PATCH) ** 2, *shapes[tensor][1:]]
    tensors = weights(shapes, how["salt"])
    for tensor in list(tensors):
        if tensor.endswith((LM_HEAD, EMBED_TOKENS)) and "embedding_ids" in arrays:
            tensors[tensor][arrays["embedding_ids"]] = arrays["embedding_rows"]
        if tensor.endswith(tuple(how.get("without", ()))):
            del tensors[tensor]
    save_file(tensors, directory / "model.safetensors")


def write_fast_tokenizer(directory: Path) -> Path:
    """The FAST tokenizer of the recorded cases as a directory, for chunks of any shape."""
    recorded = read(FAST)
    directory.mkdir(parents=True, exist_ok=True)
    config = recorded["processor_config"] | {"time_horizon": None, "action_dim": None}
    (directory / "processor_config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text(json.dumps(recorded["tokenizer"], ensure_ascii=False))
    return directory
