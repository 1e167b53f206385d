"""pioxide's own parameter names beside openpi's: the one table between the models and every checkpoint.

Shapes are equal on both sides, so a name is all that changes.
"""

from __future__ import annotations

_VISION = {
    "patch_kernel": "embedding/kernel",
    "patch_bias": "embedding/bias",
    "position": "pos_embedding",
    **{
        f"blocks/{own}/{leaf}": f"Transformer/encoderblock/{theirs}/{leaf}"
        for own, theirs, leaves in (
            ("attention_norm", "LayerNorm_0", ("scale", "bias")),
            ("mlp_norm", "LayerNorm_1", ("scale", "bias")),
            ("up", "MlpBlock_0/Dense_0", ("kernel", "bias")),
            ("down", "MlpBlock_0/Dense_1", ("kernel", "bias")),
            *(
                (f"attention/{part}", f"MultiHeadDotProductAttention_0/{part}", ("kernel", "bias"))
                for part in ("query", "key", "value", "out")
            ),
        )
        for leaf in leaves
    },
    "norm/scale": "Transformer/encoder_norm/scale",
    "norm/bias": "Transformer/encoder_norm/bias",
    "head/kernel": "head/kernel",
    "head/bias": "head/bias",
}
# `{i}` is the expert, `{_}` is "" for the language model and "_1" for the action expert.
_EXPERT = {
    "blocks/experts/{i}/query": "layers/attn/q_einsum{_}/w",
    "blocks/experts/{i}/key_value": "layers/attn/kv_einsum{_}/w",
    "blocks/experts/{i}/out": "layers/attn/attn_vec_einsum{_}/w",
    "blocks/experts/{i}/gate_up": "layers/mlp{_}/gating_einsum",
    "blocks/experts/{i}/down": "layers/mlp{_}/linear",
    **{
        f"{own}/{mine}": f"{theirs}/{leaf}"
        for own, theirs in (
            ("blocks/experts/{i}/attention_norm", "layers/pre_attention_norm{_}"),
            ("blocks/experts/{i}/mlp_norm", "layers/pre_ffw_norm{_}"),
            ("final_norms/{i}", "final_norm{_}"),
        )
        for mine, leaf in (
            ("scale", "scale"),
            ("modulation/kernel", "Dense_0/kernel"),
            ("modulation/bias", "Dense_0/bias"),
        )
    },
}
_LORA = {
    **{
        f"blocks/experts/{{i}}/{own}/{side}": f"layers/attn/{theirs}{{_}}/lora_{side}"
        for own, theirs in (("query", "q_einsum"), ("key_value", "kv_einsum"), ("out", "attn_vec_einsum"))
        for side in ("a", "b")
    },
    **{
        f"blocks/experts/{{i}}/{own}/{side}": f"layers/mlp{{_}}/{theirs}_lora_{side}"
        for own, theirs in (("gate_up", "gating_einsum"), ("down", "linear"))
        for side in ("a", "b")
    },
    **{
        f"{own}/base": theirs
        for own, theirs in _EXPERT.items()
        if own.rsplit("/", 1)[-1] in ("query", "key_value", "out", "gate_up", "down")
    },
}
_HEADS = {
    "action_in": "action_in_proj",
    "action_out": "action_out_proj",
    "state_in": "state_proj",
    "action_time_in": "action_time_mlp_in",
    "action_time_out": "action_time_mlp_out",
    "time_in": "time_mlp_in",
    "time_out": "time_mlp_out",
}

OPENPI: dict[str, str] = {
    **{f"vision/{own}": f"PaliGemma/img/{theirs}" for own, theirs in _VISION.items()},
    "language/embedding": "PaliGemma/llm/embedder/input_embedding",
    **{
        f"language/{own.format(i=i)}": f"PaliGemma/llm/{theirs.format(_=suffix)}"
        for own, theirs in (_EXPERT | _LORA).items()
        for i, suffix in enumerate(("", "_1"))
    },
    **{f"{own}/{leaf}": f"{theirs}/{leaf}" for own, theirs in _HEADS.items() for leaf in ("kernel", "bias")},
}
"""Own path to openpi's, every parameter that any of the models may have."""
