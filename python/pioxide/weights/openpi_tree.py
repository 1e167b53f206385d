"""openpi's tree: every parameter that a π model may have, and its axes by name. A table and nothing else.

Axes: l layers, w width, m MLP width, n heads, h head width, k kv heads, p patch, t tokens an image, v words,
a action dimensions, r and s the ranks of attention's and the MLP's LoRA, `language` the language model's
width. A number before one multiplies it, a number alone is that length.
"""

from __future__ import annotations

ROOT = "PaliGemma"
IMAGE = {
    "embedding/kernel": "p p 3 w",
    "embedding/bias": "w",
    "pos_embedding": "1 t w",
    "Transformer/encoderblock/LayerNorm_0/scale": "l w",
    "Transformer/encoderblock/LayerNorm_0/bias": "l w",
    "Transformer/encoderblock/LayerNorm_1/scale": "l w",
    "Transformer/encoderblock/LayerNorm_1/bias": "l w",
    "Transformer/encoderblock/MlpBlock_0/Dense_0/kernel": "l w m",
    "Transformer/encoderblock/MlpBlock_0/Dense_0/bias": "l m",
    "Transformer/encoderblock/MlpBlock_0/Dense_1/kernel": "l m w",
    "Transformer/encoderblock/MlpBlock_0/Dense_1/bias": "l w",
    **{
        f"Transformer/encoderblock/MultiHeadDotProductAttention_0/{part}/{leaf}": axes
        for part in ("query", "key", "value")
        for leaf, axes in (("kernel", "l w n h"), ("bias", "l n h"))
    },
    "Transformer/encoderblock/MultiHeadDotProductAttention_0/out/kernel": "l n h w",
    "Transformer/encoderblock/MultiHeadDotProductAttention_0/out/bias": "l w",
    "Transformer/encoder_norm/scale": "w",
    "Transformer/encoder_norm/bias": "w",
    "head/kernel": "w language",
    "head/bias": "language",
}
EMBEDDER = {"embedder/input_embedding": "v w"}
# `{_}` is "" for the language model and "_1" for the action expert.
EXPERT = {
    "layers/attn/q_einsum{_}/w": "l n w h",
    "layers/attn/kv_einsum{_}/w": "l 2 k w h",
    "layers/attn/attn_vec_einsum{_}/w": "l n h w",
    "layers/mlp{_}/gating_einsum": "l 2 w m",
    "layers/mlp{_}/linear": "l m w",
}
PLAIN_NORMS = {
    "layers/pre_attention_norm{_}/scale": "l w",
    "layers/pre_ffw_norm{_}/scale": "l w",
    "final_norm{_}/scale": "w",
}
ADAPTIVE_NORMS = {
    "layers/pre_attention_norm{_}/Dense_0/kernel": "l w 3w",
    "layers/pre_attention_norm{_}/Dense_0/bias": "l 3w",
    "layers/pre_ffw_norm{_}/Dense_0/kernel": "l w 3w",
    "layers/pre_ffw_norm{_}/Dense_0/bias": "l 3w",
    "final_norm{_}/Dense_0/kernel": "w 3w",
    "final_norm{_}/Dense_0/bias": "3w",
}
ATTENTION_LORA = {
    "layers/attn/q_einsum{_}/lora_a": "l n w r",
    "layers/attn/q_einsum{_}/lora_b": "l n r h",
    "layers/attn/kv_einsum{_}/lora_a": "l 2 k w r",
    "layers/attn/kv_einsum{_}/lora_b": "l 2 k r h",
    "layers/attn/attn_vec_einsum{_}/lora_a": "l n h r",
    "layers/attn/attn_vec_einsum{_}/lora_b": "l n r w",
}
MLP_LORA = {
    "layers/mlp{_}/gating_einsum_lora_a": "l 2 w s",
    "layers/mlp{_}/gating_einsum_lora_b": "l 2 s m",
    "layers/mlp{_}/linear_lora_a": "l m s",
    "layers/mlp{_}/linear_lora_b": "l s w",
}
ACTION = {
    "action_in_proj/kernel": "a w",
    "action_in_proj/bias": "w",
    "action_out_proj/kernel": "w a",
    "action_out_proj/bias": "a",
}
PI0_ONLY = {
    "state_proj/kernel": "a w",
    "state_proj/bias": "w",
    "action_time_mlp_in/kernel": "2w w",
    "action_time_mlp_in/bias": "w",
    "action_time_mlp_out/kernel": "w w",
    "action_time_mlp_out/bias": "w",
}
PI05_ONLY = {
    "time_mlp_in/kernel": "w w",
    "time_mlp_in/bias": "w",
    "time_mlp_out/kernel": "w w",
    "time_mlp_out/bias": "w",
}
