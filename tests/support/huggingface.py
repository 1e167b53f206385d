"""Tiny PaliGemmas and a tiny π0 of Hugging Face transformers: configs, weights, inputs, what they compute.

Weights come from their names in the checkpoint by a rule, inputs from a seed, so only outputs have to be
recorded. PyTorch and transformers are imported where they compute, and by nothing else.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from support.checkpoints import write_safetensors

# Key heads of each model; all else is the same.
KV_HEADS = {"paligemma": 1, "paligemma_kv2": 2, "pi0": 1}

DEPTH, WIDTH, MLP, HEADS, HEAD_DIM, VOCAB = 2, 64, 96, 8, 16, 256
EXPERT_WIDTH, EXPERT_MLP = 48, 40
VISION_DEPTH, VISION_WIDTH, VISION_MLP, VISION_HEADS, PATCH, SIZE = 3, 32, 48, 4, 14, 28
ACTION_DIM, HORIZON, STEPS = 7, 6, 4
ROWS, CAMERAS, PATCHES, TEXT, SUFFIX = 2, 2, (SIZE // PATCH) ** 2, 11, 5
IMAGE_TOKEN = VOCAB - 1

Arrays = dict[str, NDArray[Any]]


def weights(shapes: dict[str, list[int]]) -> Arrays:
    """Every tensor of a checkpoint by its name in the file: no norm is 1, no bias 0, no activation linear.

    Embeddings and patches are small, so that the epsilons of the first norms matter.
    """
    drawn = {}
    for name, shape in shapes.items():
        # NumPy's frozen legacy generator: the same numbers for good.
        values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if "norm" in name:
            # SigLIP's scales are around 1, Gemma's are added to 1.
            values = 0.3 * values + ("vision_tower" in name and name.endswith("weight"))
        elif name.endswith(("bias", "position_embedding.weight")):
            values *= 0.05 if "embedding" in name else 0.3
        elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
            values *= 0.01
        else:
            fan_in = np.prod(shape[1:])
            gain = 0.1 if "patch_embedding" in name else 2.0 if "q_proj" in name else 1.0
            values *= gain / np.sqrt(fan_in)
        drawn[name] = values.astype(np.float32)
    return drawn


def write_checkpoint(shapes: dict[str, list[int]], directory: Path) -> None:
    """A `model.safetensors` as transformers writes it."""
    write_safetensors(weights(shapes), directory)


class Scene(NamedTuple):
    """What the models see: the second row lacks the first camera, and has fewer tokens.

    Attributes:
        images: [B, C, size, size, 3] uint8.
        cameras: [B, C] which are there.
        tokens: [B, L] ids, a prompt with its answer.
        valid: [B, L] which of them are real.
        answer: [B, L] which are the answer's; the prompt alone is a prefix in which all see all.
        positions: [B, L] of the text on its own: up to what π0.5's longest prompts reach, and with gaps.
        state: [B, D].
        actions, noise: [B, H, D].
        time: [B].
        stream: [B, H, W] what the action expert is given on its own.
    """

    images: NDArray[np.uint8]
    cameras: NDArray[np.bool_]
    tokens: NDArray[np.int32]
    valid: NDArray[np.bool_]
    answer: NDArray[np.bool_]
    positions: NDArray[np.int32]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    noise: NDArray[np.float32]
    time: NDArray[np.float32]
    stream: NDArray[np.float32]


def scene() -> Scene:
    """The same at every call."""
    draws = np.random.RandomState(20)
    slots = np.arange(TEXT)
    length = np.array([[TEXT], [TEXT - 3]])
    return Scene(
        images=draws.randint(0, 256, (ROWS, CAMERAS, SIZE, SIZE, 3)).astype(np.uint8),
        cameras=np.array([[True, True], [False, True]]),
        tokens=draws.randint(3, IMAGE_TOKEN, (ROWS, TEXT)).astype(np.int32),
        valid=slots < length,
        answer=(slots >= length - SUFFIX) & (slots < length),
        positions=np.stack([slots, 900 + np.cumsum(draws.randint(1, 9, TEXT))]).astype(np.int32),
        state=draws.uniform(-1, 1, (ROWS, ACTION_DIM)).astype(np.float32),
        actions=draws.uniform(-1, 1, (ROWS, HORIZON, ACTION_DIM)).astype(np.float32),
        noise=draws.standard_normal((ROWS, HORIZON, ACTION_DIM)).astype(np.float32),
        time=np.array([0.35, 0.9], np.float32),
        stream=draws.standard_normal((ROWS, HORIZON, EXPERT_WIDTH)).astype(np.float32),
    )


def config(name: str) -> Any:
    """The transformers config of a model."""
    from transformers import PaliGemmaConfig, PI0Config

    gemma = {
        "model_type": "gemma",
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS[name],
        "head_dim": HEAD_DIM,
        "vocab_size": VOCAB,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": VISION_WIDTH,
        "intermediate_size": VISION_MLP,
        "num_hidden_layers": VISION_DEPTH,
        "num_attention_heads": VISION_HEADS,
        "patch_size": PATCH,
        "image_size": SIZE,
        "vision_use_head": False,
    }
    paligemma = PaliGemmaConfig(
        text_config=gemma | {"hidden_size": WIDTH, "intermediate_size": MLP},
        vision_config=vision,
        projection_dim=WIDTH,
        hidden_size=WIDTH,
        image_token_index=IMAGE_TOKEN,
    )
    if name != "pi0":
        return paligemma
    return PI0Config(
        vlm_config=paligemma.to_dict(),
        dit_config=gemma | {"hidden_size": EXPERT_WIDTH, "intermediate_size": EXPERT_MLP},
        chunk_size=HORIZON,
        max_state_dim=ACTION_DIM,
        max_action_dim=ACTION_DIM,
        loss_reduction="none",
    )


def open_model(name: str, directory: Path) -> Any:
    """The transformers model with a checkpoint's weights, all of them; its config comes beside them."""
    from transformers import PaliGemmaForConditionalGeneration, PI0ForConditionalGeneration

    kind = PI0ForConditionalGeneration if name == "pi0" else PaliGemmaForConditionalGeneration
    config(name).save_pretrained(directory)
    model, how = kind.from_pretrained(directory, output_loading_info=True)
    assert not any(how.values()), how
    return model.eval()


def outputs(name: str, model: Any) -> Arrays:
    """What the transformers model computes from the scene, in float32 on the CPU."""
    import torch

    with torch.no_grad():
        made = _pi0(model) if name == "pi0" else _paligemma(model)
    return {key: value.numpy() for key, value in made.items()}


def _paligemma(model: Any) -> dict[str, Any]:
    """Image tokens, causal text, and images with a prompt (all see all) and its answer (causal).

    transformers 5 scales the embeddings of tokens by sqrt(width) and leaves image tokens as the projector
    gives them, which is openpi's way too. Its positions count from 1, ours from 0: attention sees differences
    alone. Without token types all text sees all.
    """
    import torch

    see = scene()
    pixels = _pixels(see).flatten(0, 1)
    tokens, positions = torch.tensor(see.tokens).long(), torch.tensor(see.positions).long()
    # With a mask given, gaps between positions do not count as borders of packed sequences.
    every = torch.ones_like(tokens)
    text = {
        "input_ids": tokens,
        "attention_mask": every,
        "token_type_ids": every,
        "position_ids": positions,
    }
    places = torch.full((ROWS, CAMERAS * PATCHES), IMAGE_TOKEN)
    answer = torch.tensor(see.answer).long()
    valid = torch.tensor(np.concatenate([see.cameras.repeat(PATCHES, axis=1), see.valid], axis=1)).long()
    whole = model(
        input_ids=torch.cat([places, tokens], dim=1),
        pixel_values=pixels,
        attention_mask=valid,
        token_type_ids=torch.cat([torch.zeros_like(places), answer], dim=1),
        position_ids=valid.cumsum(1),
    )
    return {
        "image_tokens": model.get_image_features(pixels).pooler_output,
        "text_hidden": model.model(**text).last_hidden_state,
        "text_logits": model(**text).logits,
        "answer_logits": whole.logits,
    }


def _pi0(model: Any) -> dict[str, Any]:
    """The action expert alone (causal), velocity, loss and actions.

    transformers leaves an absent camera out of the prompt, where ours is there and masked.
    """
    import torch

    see = scene()
    ids, attention = torch.zeros((ROWS, CAMERAS * PATCHES + TEXT)).long(), []
    for row, tokens in enumerate(see.tokens):
        own = [IMAGE_TOKEN] * (PATCHES * see.cameras[row].sum()) + tokens[see.valid[row]].tolist()
        ids[row, : len(own)] = torch.tensor(own)
        attention.append(torch.arange(ids.shape[1]) < len(own))
    prompt = {
        "state": torch.tensor(see.state),
        "input_ids": ids,
        "attention_mask": torch.stack(attention).long(),
        "pixel_values": _pixels(see),
        "pixel_attention_mask": torch.tensor(see.cameras),
    }
    noise, time = torch.tensor(see.noise), torch.tensor(see.time)
    causal = torch.ones((ROWS, 1, HORIZON, HORIZON), dtype=torch.bool).tril()
    alone = model.model.dit(inputs_embeds=torch.tensor(see.stream), attention_mask=causal)
    trained = model(**prompt, actions=torch.tensor(see.actions), noise=noise, timestep=time)
    return {
        "expert_hidden": alone.last_hidden_state,
        "velocity": model(**prompt, noise=noise, timestep=time).logits,
        "loss": trained.loss.mean(-1),
        "actions": model.sample_actions(**prompt, noise=noise, num_steps=STEPS),
    }


def _pixels(see: Scene) -> Any:
    """[B, C, 3, size, size] in [-1, 1]."""
    import torch

    return torch.tensor(see.images.astype(np.float32) / 255 * 2 - 1).permute(0, 1, 4, 2, 3)
