"""Records tests/golden/huggingface: tensors that transformers writes, and what it computes of them.

NAME.json has the tensors' names and shapes in the file, NAME.npz the outputs, float32 on the CPU; weights and
inputs are drawn by tests/support/huggingface.py. Run from the repository's root with PYTHONPATH=tests, and
torch installed beside the development environment.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open

from support.huggingface import KV_HEADS, config, open_model, outputs, write_checkpoint

MODELS = {
    "paligemma": transformers.PaliGemmaForConditionalGeneration,
    "paligemma_kv2": transformers.PaliGemmaForConditionalGeneration,
    "pi0": transformers.PI0ForConditionalGeneration,
}


def layout(name: str, directory: Path) -> dict[str, list[int]]:
    """The tensors that transformers writes for a model."""
    MODELS[name](config(name)).save_pretrained(directory)
    with safe_open(directory / "model.safetensors", "np") as file:
        return {tensor: file.get_slice(tensor).get_shape() for tensor in sorted(file.keys())}


for name in KV_HEADS:
    with tempfile.TemporaryDirectory() as temporary:
        shapes = layout(name, Path(temporary, "random"))
        write_checkpoint(shapes, Path(temporary, "drawn"))
        recorded = outputs(name, open_model(name, Path(temporary, "drawn")))
    target = Path("tests/golden/huggingface", name)
    np.savez_compressed(target.with_suffix(".npz"), **recorded)
    lines = ",\n".join(f"    {json.dumps(tensor)}: {shape}" for tensor, shape in shapes.items())
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    target.with_suffix(".json").write_text(
        f'{{\n  "versions": {json.dumps(versions)},\n  "tensors": {{\n{lines}\n  }}\n}}\n'
    )
    print(target, {key: value.shape for key, value in recorded.items()})
