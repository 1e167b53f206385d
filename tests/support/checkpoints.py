"""Small checkpoints in every foreign layout, written by other means than pioxide's own writers.

The PyTorch names and axis orders below are spelled out once more, tensor by tensor, from the published
layouts; Orbax trees are written by Orbax, safetensors by the safetensors package, archives by NumPy.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from pioxide.family import Family
from pioxide.weights import Architecture, Expert, Vision

VISION = Vision(width=32, depth=3, mlp=48, heads=4, head_dim=8, patch=14, tokens=4)
GEMMA = Expert(width=64, mlp=96, heads=8, kv_heads=1, head_dim=16)
ACTION = Expert(width=32, mlp=48, heads=8, kv_heads=1, head_dim=16)
VOCAB = 300
HEADS = (VISION.heads, 1)

SMALL = {
    "pi0": Architecture(Family("pi0"), (GEMMA, ACTION), VISION, depth=4, vocab=VOCAB, action_dim=6),
    "pi05": Architecture(Family("pi05"), (GEMMA, ACTION), VISION, depth=4, vocab=VOCAB, action_dim=6),
    "pi0_fast": Architecture(Family("pi0_fast"), (GEMMA,), VISION, depth=4, vocab=VOCAB),
}


def lora(architecture: Architecture) -> Architecture:
    """The same model with low-rank updates of rank 3 in attention and 2 in the MLP."""
    from dataclasses import replace

    return replace(
        architecture,
        experts=tuple(replace(e, lora_attention=3, lora_mlp=2) for e in architecture.experts),
    )


def random_arrays(shapes: dict[str, tuple[int, ...]], dtype=np.float32, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {path: rng.standard_normal(shape).astype(dtype) for path, shape in shapes.items()}


def nested(arrays: dict, *, value: bool = False) -> dict:
    tree: dict = {}
    for path, array in arrays.items():
        *parents, leaf = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = {"value": array} if value else array
    return tree


def write_orbax(arrays: dict, directory: Path, *, outer: bool = True, value: bool = False, **options) -> None:
    import orbax.checkpoint as ocp

    tree = nested(arrays, value=value)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
        checkpointer.save(directory.resolve(), {"params": tree} if outer else tree)


def torch_tensors(arrays: dict, layout: str, *, tied: str = "lm_head") -> dict[str, np.ndarray]:
    """PyTorch tensors by name, for `lerobot`, `lerobot[-fast]-old`, `openpi-pytorch`, `hf` or `hf-old`."""
    roots = {
        "lerobot": "model.paligemma_with_expert.paligemma.model.",
        "lerobot-old": "model.paligemma_with_expert.paligemma.",
        "lerobot-fast-old": "model.pi0_paligemma.",
        "openpi-pytorch": "paligemma_with_expert.paligemma.model.",
        "hf": "model.",
        "hf-old": "",
    }
    root = roots[layout]
    old = layout.endswith("old")
    language = f"{root}language_model.model." if old else f"{root}language_model."
    head = {
        "lerobot": "model.paligemma_with_expert.paligemma.lm_head.weight",
        "lerobot-old": "model.paligemma_with_expert.paligemma.language_model.lm_head.weight",
        "lerobot-fast-old": "model.pi0_paligemma.language_model.lm_head.weight",
        "openpi-pytorch": "paligemma_with_expert.paligemma.lm_head.weight",
        "hf": "lm_head.weight",
        "hf-old": "language_model.lm_head.weight",
    }[layout]
    expert = ("model." if layout.startswith("lerobot") else "") + "paligemma_with_expert.gemma_expert.model."
    top = "model." if layout.startswith("lerobot") else ""
    made: dict[str, np.ndarray] = {}
    _vision(made, arrays, f"{root}vision_tower.vision_model.")
    made[f"{root}multi_modal_projector.linear.weight"] = arrays["PaliGemma/img/head/kernel"].T
    made[f"{root}multi_modal_projector.linear.bias"] = arrays["PaliGemma/img/head/bias"]
    embedding = arrays["PaliGemma/llm/embedder/input_embedding"]
    if tied in ("lm_head", "both"):
        made[head] = embedding
    if tied in ("embed_tokens", "both"):
        made[f"{language}embed_tokens.weight"] = embedding.copy()
    _language(made, arrays, "", language)
    if any("q_einsum_1" in path for path in arrays):
        _language(made, arrays, "_1", expert)
    for path, array in arrays.items():
        if not path.startswith("PaliGemma/"):
            name, leaf = path.split("/")
            made[f"{top}{name}.{'weight' if leaf == 'kernel' else 'bias'}"] = array.T
    return made


def _vision(made: dict, arrays: dict, to: str) -> None:
    def of(path: str) -> np.ndarray:
        return arrays[f"PaliGemma/img/{path}"]

    made[f"{to}embeddings.patch_embedding.weight"] = of("embedding/kernel").transpose(3, 2, 0, 1)
    made[f"{to}embeddings.patch_embedding.bias"] = of("embedding/bias")
    made[f"{to}embeddings.position_embedding.weight"] = of("pos_embedding")[0]
    made[f"{to}post_layernorm.weight"] = of("Transformer/encoder_norm/scale")
    made[f"{to}post_layernorm.bias"] = of("Transformer/encoder_norm/bias")
    width = of("embedding/bias").shape[0]
    block = "Transformer/encoderblock"
    for i in range(of(f"{block}/LayerNorm_0/scale").shape[0]):
        layer = f"{to}encoder.layers.{i}."
        for n in (0, 1):
            made[f"{layer}layer_norm{n + 1}.weight"] = of(f"{block}/LayerNorm_{n}/scale")[i]
            made[f"{layer}layer_norm{n + 1}.bias"] = of(f"{block}/LayerNorm_{n}/bias")[i]
            made[f"{layer}mlp.fc{n + 1}.weight"] = of(f"{block}/MlpBlock_0/Dense_{n}/kernel")[i].T
            made[f"{layer}mlp.fc{n + 1}.bias"] = of(f"{block}/MlpBlock_0/Dense_{n}/bias")[i]
        attention = f"{block}/MultiHeadDotProductAttention_0"
        for theirs, ours in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            kernel = of(f"{attention}/{ours}/kernel")[i]
            made[f"{layer}self_attn.{theirs}.weight"] = kernel.reshape(width, -1).T
            made[f"{layer}self_attn.{theirs}.bias"] = of(f"{attention}/{ours}/bias")[i].reshape(-1)
        made[f"{layer}self_attn.out_proj.weight"] = of(f"{attention}/out/kernel")[i].reshape(-1, width).T
        made[f"{layer}self_attn.out_proj.bias"] = of(f"{attention}/out/bias")[i]


def _language(made: dict, arrays: dict, suffix: str, to: str) -> None:
    def of(path: str) -> np.ndarray:
        return arrays[f"PaliGemma/llm/{path}"]

    adaptive = f"PaliGemma/llm/final_norm{suffix}/Dense_0/kernel" in arrays
    q = of(f"layers/attn/q_einsum{suffix}/w")
    depth, heads, width, head_dim = q.shape
    for i in range(depth):
        layer = f"{to}layers.{i}."
        kv = of(f"layers/attn/kv_einsum{suffix}/w")[i]
        out = of(f"layers/attn/attn_vec_einsum{suffix}/w")[i]
        gating = of(f"layers/mlp{suffix}/gating_einsum")[i]
        made[f"{layer}self_attn.q_proj.weight"] = q[i].transpose(0, 2, 1).reshape(heads * head_dim, width)
        made[f"{layer}self_attn.k_proj.weight"] = kv[0, 0].T
        made[f"{layer}self_attn.v_proj.weight"] = kv[1, 0].T
        made[f"{layer}self_attn.o_proj.weight"] = out.transpose(2, 0, 1).reshape(width, heads * head_dim)
        made[f"{layer}mlp.gate_proj.weight"] = gating[0].T
        made[f"{layer}mlp.up_proj.weight"] = gating[1].T
        made[f"{layer}mlp.down_proj.weight"] = of(f"layers/mlp{suffix}/linear")[i].T
        for ours, theirs in (
            ("pre_attention_norm", "input_layernorm"),
            ("pre_ffw_norm", "post_attention_layernorm"),
        ):
            if adaptive:
                made[f"{layer}{theirs}.dense.weight"] = of(f"layers/{ours}{suffix}/Dense_0/kernel")[i].T
                made[f"{layer}{theirs}.dense.bias"] = of(f"layers/{ours}{suffix}/Dense_0/bias")[i]
            else:
                made[f"{layer}{theirs}.weight"] = of(f"layers/{ours}{suffix}/scale")[i]
    if adaptive:
        made[f"{to}norm.dense.weight"] = of(f"final_norm{suffix}/Dense_0/kernel").T
        made[f"{to}norm.dense.bias"] = of(f"final_norm{suffix}/Dense_0/bias")
    else:
        made[f"{to}norm.weight"] = of(f"final_norm{suffix}/scale")


def write_safetensors(tensors: dict, directory: Path, *, shards: int = 1) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        return
    names = sorted(tensors)
    files = {
        name: f"model-{1 + i * shards // len(names):05d}-of-{shards:05d}.safetensors"
        for i, name in enumerate(names)
    }
    for file in set(files.values()):
        save_file({n: tensors[n] for n in names if files[n] == file}, directory / file, {"format": "pt"})
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": files}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def write_npz(arrays: dict, file: Path, *, compressed: bool = False) -> None:
    save = np.savez_compressed if compressed else np.savez
    save(file, **{path.replace("PaliGemma/", "params/"): array for path, array in arrays.items()})


def assert_same(tree, arrays: dict) -> None:
    """A tree holds exactly these arrays: paths, shapes, dtypes and bits."""
    assert set(tree.specs) == set(arrays)
    for path, array in arrays.items():
        got = tree.read(path)
        assert got.dtype == array.dtype, path
        assert got.shape == array.shape, path
        assert np.array_equal(got.view(np.uint8), array.view(np.uint8)), path
