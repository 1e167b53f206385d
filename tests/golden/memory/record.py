"""Records what LeRobot's MEM gives of the tower in `tests/support/memory_tower.py`; run by hand.

Needs LeRobot's main branch as of 2026-08 (its `policies/pi05/memory.py`), with PyTorch:

    PYTHONPATH=tests python tests/golden/memory/record.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from lerobot.policies.pi05.memory import encode_video_with_mem
from transformers import SiglipVisionConfig, SiglipVisionModel

from support.memory_tower import (
    DEPTH,
    EVERY,
    HEADS,
    MLP,
    PATCH,
    SIZE,
    THERE,
    WIDTH,
    drawn,
    frames,
)

HEAD = WIDTH // HEADS
# A layer's parameters: their names there, here, their shape here, and how many of its axes are inputs.
LAYER = [
    (f"{theirs}.{kind}", f"{ours}/{name}", shape, 1)
    for theirs, ours in (("layer_norm1", "attention_norm"), ("layer_norm2", "mlp_norm"))
    for kind, name, shape in (("weight", "scale", (WIDTH,)), ("bias", "bias", (WIDTH,)))
]
for one in ("query", "key", "value"):
    LAYER.append((f"self_attn.{one[0]}_proj.weight", f"attention/{one}/kernel", (WIDTH, HEADS, HEAD), 1))
    LAYER.append((f"self_attn.{one[0]}_proj.bias", f"attention/{one}/bias", (HEADS, HEAD), 0))
LAYER += [
    ("self_attn.out_proj.weight", "attention/out/kernel", (HEADS, HEAD, WIDTH), 2),
    ("self_attn.out_proj.bias", "attention/out/bias", (WIDTH,), 0),
    ("mlp.fc1.weight", "up/kernel", (WIDTH, MLP), 1),
    ("mlp.fc1.bias", "up/bias", (MLP,), 0),
    ("mlp.fc2.weight", "down/kernel", (MLP, WIDTH), 1),
    ("mlp.fc2.bias", "down/bias", (WIDTH,), 0),
]


def fill(tower: torch.nn.Module) -> None:
    own = dict(tower.named_parameters())

    def put(name: str, value: np.ndarray) -> None:
        own[name].data.copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(own[name].shape))

    kernel = drawn("patch_kernel", (PATCH, PATCH, 3, WIDTH))
    put("embeddings.patch_embedding.weight", kernel.transpose(3, 2, 0, 1))
    put("embeddings.patch_embedding.bias", drawn("patch_bias", (WIDTH,)))
    put("embeddings.position_embedding.weight", drawn("position", (1, (SIZE // PATCH) ** 2, WIDTH)))
    put("post_layernorm.weight", drawn("norm/scale", (WIDTH,)))
    put("post_layernorm.bias", drawn("norm/bias", (WIDTH,)))
    for theirs, ours, shape, inputs in LAYER:
        stacked = drawn(f"blocks/{ours}", (DEPTH, *shape))
        for i, value in enumerate(stacked):
            if theirs.endswith("weight") and len(shape) > 1:
                value = value.reshape(int(np.prod(shape[:inputs])), -1).T
            put(f"encoder.layers.{i}.{theirs}", value)


if __name__ == "__main__":
    config = SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        image_size=SIZE,
        patch_size=PATCH,
        hidden_act="gelu_pytorch_tanh",
    )
    model = SiglipVisionModel(config).eval()
    tower = getattr(model, "vision_model", model)
    fill(tower)
    pixels = torch.from_numpy(frames().transpose(0, 1, 4, 2, 3))
    with torch.no_grad():
        out = encode_video_with_mem(tower, pixels, torch.from_numpy(THERE), temporal_attention_every=EVERY)
    document = {"torch": torch.__version__, "tokens": out.double().numpy().round(7).tolist()}
    Path(__file__).with_name("tower.json").write_text(json.dumps(document) + "\n")
