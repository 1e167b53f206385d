"""LeRobot's π0, π0.5 and π0-FAST made small: a handful of widths and two files in place of downloads.

`shrink` replaces the sizes that LeRobot's modules hard-code and the two tokenizers that they fetch by name;
all else is LeRobot's own code. Needs lerobot[pi], and is imported by `record.py` alone.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0_fast import modeling_pi0_fast
from lerobot.policies.pi05 import modeling_pi05
from scipy.fft import dct

from support.lerobot_policies import TEXT_MODEL, write_fast_tokenizer

WORDS = 4116
DEPTH, HEADS, HEAD_DIM = 2, 8, 16
WIDTHS = {"gemma_2b": (64, 96), "gemma_300m": (32, 48)}
# Heads that a file doesn't tell are those of the released models: 16 of the image tower, one of keys.
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 16}
FAST_IMAGE = 28

MODULES = (modeling_pi0, modeling_pi05, modeling_pi0_fast)


class FastTokenizer:
    """The published FAST processor's interface over a tokenizer in its file format."""

    def __init__(self, directory: Path) -> None:
        """Reads `tokenizer.json` and `processor_config.json`."""
        config = json.loads((directory / "processor_config.json").read_text())
        self.scale, self.min_token = config["scale"], config["min_token"]
        self.bpe_tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(directory / "tokenizer.json"), clean_up_tokenization_spaces=False
        )

    def __call__(self, chunks: Any) -> list[list[int]]:
        """Ids of chunks [B, H, D]."""
        coefficients = np.around(dct(np.asarray(chunks), axis=1, norm="ortho") * self.scale)
        values = np.maximum(coefficients.reshape(len(coefficients), -1) - self.min_token, 0).astype(int)
        return [self.bpe_tokenizer("".join(map(chr, row)))["input_ids"] for row in values]


def shrink() -> None:
    """Makes every policy that LeRobot builds from now on a tiny one that needs no network."""
    for module in MODULES:
        module.get_gemma_config = lambda variant, module=module: module.GemmaConfig(
            WIDTHS[variant][0], DEPTH, WIDTHS[variant][1], HEADS, 1, HEAD_DIM
        )
        whole = module.PaliGemmaForConditionalGenerationWithPiGemma
        module.PaliGemmaForConditionalGenerationWithPiGemma = lambda config, module=module, whole=whole: (
            whole(config=_paligemma(config, module))
        )
    for module in (modeling_pi0, modeling_pi05):
        expert = module.PiGemmaForCausalLM
        module.PiGemmaForCausalLM = lambda config, expert=expert: expert(config=_words(config))
    text, fast = _text_tokenizer(), FastTokenizer(write_fast_tokenizer(Path(tempfile.mkdtemp())))
    from_directory = transformers.AutoTokenizer.from_pretrained
    transformers.AutoTokenizer.from_pretrained = lambda name, **how: from_directory(str(text), **how)
    transformers.AutoProcessor.from_pretrained = lambda name, **how: fast


def _paligemma(config: Any, module: Any) -> Any:
    _words(config.text_config)
    config._vocab_size = config.image_token_index = WORDS
    for name, value in VISION.items():
        setattr(config.vision_config, name, value)
    config.vision_config.projection_dim = config.text_config.hidden_size
    if module is modeling_pi0_fast:  # which leaves the size at 224 whatever its own config says
        config.vision_config.image_size = FAST_IMAGE
    return config


def _words(config: Any) -> Any:
    config.vocab_size = WORDS
    return config


def _text_tokenizer() -> Path:
    directory = Path(tempfile.mkdtemp())
    (directory / "tokenizer.model").write_bytes(TEXT_MODEL.read_bytes())
    config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory
