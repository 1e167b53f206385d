"""The formats of checkpoints, by the names that commands and messages use."""

from typing import Literal

Format = Literal["openpi", "openpi-pytorch", "lerobot", "paligemma-npz", "paligemma-hf"]
FORMATS: dict[Format, str] = {
    "openpi": "openpi (Orbax)",
    "openpi-pytorch": "openpi's PyTorch port (safetensors)",
    "lerobot": "LeRobot (safetensors)",
    "paligemma-npz": "big_vision (.npz)",
    "paligemma-hf": "Hugging Face PaliGemma (safetensors)",
}
