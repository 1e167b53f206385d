"""The weights and inputs behind the recorded outputs in tests/golden/models, from a salt alone."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _draws(key: str) -> np.random.RandomState:
    # NumPy's frozen legacy generator: the same numbers for good.
    return np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)


def parameter(path: str, shape: tuple[int, ...], spec: dict[str, Any]) -> NDArray[np.float32]:
    """The values at an openpi path: small biases and scales, else normal with a gain over sqrt(fan-in)."""
    drawn = (
        _draws(f"{spec['salt']}:{path}")
        .standard_normal(int(np.prod(shape)))
        .astype(np.float32)
        .reshape(shape)
    )
    leaf = path.rsplit("/", 1)[-1]
    if path.endswith("input_embedding"):
        factor = spec.get("embedding_std", 0.05)
    elif "bias" in leaf or leaf == "scale" or len(shape) < 2:
        factor = 0.05
    else:
        gain = next((gain for part, gain in spec.get("gains", {}).items() if part in path), 0.7)
        factor = gain / np.sqrt(shape[-2])
    return drawn * np.float32(factor)


def inputs(spec: dict[str, Any]) -> dict[str, Any]:
    """One batch; the order of the draws is part of the recipe. Row 0 lacks the last camera."""
    draws, batch, dim = _draws(f"{spec['salt']}:inputs"), spec["batch"], spec["action_dim"]
    horizon, text_len, cameras = spec["action_horizon"], spec["max_token_len"], spec["image_keys"]
    images = {name: draws.randint(0, 256, (batch, 224, 224, 3)).astype(np.uint8) for name in cameras}
    masks = {name: np.ones(batch, bool) for name in cameras}
    masks[cameras[-1]][0] = False
    state = draws.uniform(-1, 1, (batch, dim)).astype(np.float32)
    tokens = draws.randint(5, 250000, (batch, text_len)).astype(np.int32)
    length = draws.randint(text_len // 3, text_len, (batch,))
    valid = np.arange(text_len)[None] < length[:, None]
    noise = draws.standard_normal((batch, horizon, dim)).astype(np.float32)
    actions = draws.uniform(-1, 1, (batch, horizon, dim)).astype(np.float32)
    time = draws.uniform(0.05, 1, (batch,)).astype(np.float32)
    return {
        "images": images,
        "image_masks": masks,
        "state": state,
        "tokens": tokens * valid,
        "token_mask": valid,
        "length": length,
        "noise": noise,
        "actions": actions,
        "time": time,
    }
