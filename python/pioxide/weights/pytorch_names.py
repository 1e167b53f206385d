"""What tensors are called in PyTorch checkpoints of the π family and of PaliGemma, and how their axes differ.

A table and nothing else. `{i}` stands for the layer; patterns are read as in `rearrange`, without the layer.
"""

from __future__ import annotations

from typing import NamedTuple

from pioxide.weights.rearrange import Rearrange


class Row(NamedTuple):
    """One foreign tensor (a layer) and the parameter, or part of one, that it holds."""

    path: str
    name: str
    how: Rearrange

    @property
    def stacked(self) -> bool:
        """Returns whether there is one such tensor a layer."""
        return "{i}" in self.name


VISION = "vision_tower.vision_model."
LANGUAGE = "language_model."
EXPERT = "gemma_expert.model."
PROJECTOR = "multi_modal_projector.linear."

_IMAGE = [
    ("embedding/kernel", "embeddings.patch_embedding.weight", "h w c d -> d c h w"),
    ("embedding/bias", "embeddings.patch_embedding.bias", "d -> d"),
    ("pos_embedding", "embeddings.position_embedding.weight", "0 t d -> t d"),
    ("Transformer/encoder_norm/scale", "post_layernorm.weight", "d -> d"),
    ("Transformer/encoder_norm/bias", "post_layernorm.bias", "d -> d"),
]
_IMAGE_LAYER = [
    ("LayerNorm_0/scale", "layer_norm1.weight", "d -> d"),
    ("LayerNorm_0/bias", "layer_norm1.bias", "d -> d"),
    ("LayerNorm_1/scale", "layer_norm2.weight", "d -> d"),
    ("LayerNorm_1/bias", "layer_norm2.bias", "d -> d"),
    ("MlpBlock_0/Dense_0/kernel", "mlp.fc1.weight", "d m -> m d"),
    ("MlpBlock_0/Dense_0/bias", "mlp.fc1.bias", "m -> m"),
    ("MlpBlock_0/Dense_1/kernel", "mlp.fc2.weight", "m d -> d m"),
    ("MlpBlock_0/Dense_1/bias", "mlp.fc2.bias", "d -> d"),
    ("MultiHeadDotProductAttention_0/query/kernel", "self_attn.q_proj.weight", "d x h -> (x h) d"),
    ("MultiHeadDotProductAttention_0/query/bias", "self_attn.q_proj.bias", "x h -> (x h)"),
    ("MultiHeadDotProductAttention_0/key/kernel", "self_attn.k_proj.weight", "d x h -> (x h) d"),
    ("MultiHeadDotProductAttention_0/key/bias", "self_attn.k_proj.bias", "x h -> (x h)"),
    ("MultiHeadDotProductAttention_0/value/kernel", "self_attn.v_proj.weight", "d x h -> (x h) d"),
    ("MultiHeadDotProductAttention_0/value/bias", "self_attn.v_proj.bias", "x h -> (x h)"),
    ("MultiHeadDotProductAttention_0/out/kernel", "self_attn.out_proj.weight", "x h d -> d (x h)"),
    ("MultiHeadDotProductAttention_0/out/bias", "self_attn.out_proj.bias", "d -> d"),
]
_PROJECTOR = [("head/kernel", "weight", "d w -> w d"), ("head/bias", "bias", "w -> w")]
# n heads, k kv heads, e head width.
_LAYER = [
    ("attn/q_einsum{_}/w", "self_attn.q_proj.weight", "n d e -> (n e) d"),
    ("attn/kv_einsum{_}/w", "self_attn.k_proj.weight", "0 k d e -> (k e) d"),
    ("attn/kv_einsum{_}/w", "self_attn.v_proj.weight", "1 k d e -> (k e) d"),
    ("attn/attn_vec_einsum{_}/w", "self_attn.o_proj.weight", "n e d -> d (n e)"),
    ("mlp{_}/gating_einsum", "mlp.gate_proj.weight", "0 d f -> f d"),
    ("mlp{_}/gating_einsum", "mlp.up_proj.weight", "1 d f -> f d"),
    ("mlp{_}/linear", "mlp.down_proj.weight", "f d -> d f"),
]
_NORMS = [("pre_attention_norm{_}", "input_layernorm"), ("pre_ffw_norm{_}", "post_attention_layernorm")]
_PLAIN = [("/scale", ".weight", "d -> d")]
_ADAPTIVE = [("/Dense_0/kernel", ".dense.weight", "d c -> c d"), ("/Dense_0/bias", ".dense.bias", "c -> c")]

PROJECTIONS = (
    "action_in_proj",
    "action_out_proj",
    "state_proj",
    "action_time_mlp_in",
    "action_time_mlp_out",
    "time_mlp_in",
    "time_mlp_out",
)

EMBEDDING = "PaliGemma/llm/embedder/input_embedding"
EMBED_TOKENS = "language_model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"
EXPERT_HEAD = "gemma_expert.lm_head.weight"


def _rows() -> list[Row]:
    rows: list[Row] = []

    def add(path: str, name: str, pattern: str) -> None:
        rows.append(
            Row(
                f"PaliGemma/{path}" if "/" in path and path[:3] in ("img", "llm") else path,
                name,
                Rearrange(pattern),
            )
        )

    for path, name, pattern in _IMAGE:
        add(f"img/{path}", VISION + name, pattern)
    for path, name, pattern in _IMAGE_LAYER:
        add(f"img/Transformer/encoderblock/{path}", f"{VISION}encoder.layers.{{i}}.{name}", pattern)
    for path, name, pattern in _PROJECTOR:
        add(f"img/{path}", PROJECTOR + name, pattern)
    add("llm/embedder/input_embedding", EMBED_TOKENS, "v d -> v d")
    for suffix, module, norms in (("", LANGUAGE, [_PLAIN]), ("_1", EXPERT, [_PLAIN, _ADAPTIVE])):
        for path, name, pattern in _LAYER:
            add(f"llm/layers/{path.replace('{_}', suffix)}", f"{module}layers.{{i}}.{name}", pattern)
        for leaf, ending, pattern in [row for norm in norms for row in norm]:
            for path, name in _NORMS:
                add(
                    f"llm/layers/{path.replace('{_}', suffix)}{leaf}",
                    f"{module}layers.{{i}}.{name}{ending}",
                    pattern,
                )
            add(f"llm/final_norm{suffix}{leaf}", f"{module}norm{ending}", pattern)
    for name in PROJECTIONS:
        add(f"{name}/kernel", f"{name}.weight", "x y -> y x")
        add(f"{name}/bias", f"{name}.bias", "y -> y")
    return rows


ROWS = _rows()
