"""Records tests/golden/lerobot_prompts/prompts.json: the prompts of LeRobot's own processor steps.

Takes an environment with lerobot, transformers, sentencepiece and protobuf, and the reference folder
($PIOXIDE_SHARED) for PaliGemma's vocabulary. The vocabularies reach LeRobot as transformers converts them.
Run from the repository's root.
"""

import json
import os
import random
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.lerobot_types import TransitionKey
from lerobot.policies.pi0.processor_pi0 import Pi0NewLineProcessor
from lerobot.policies.pi0_fast.processor_pi0_fast import (
    Pi0FastPrepareStateAndLanguageTokenizerProcessorStep,
)
from lerobot.policies.pi05.modeling_pi05 import pad_vector
from lerobot.policies.pi05.processor_pi05 import Pi05PrepareStateTokenizerProcessorStep
from lerobot.processor import ActionTokenizerProcessorStep, ProcessorStep, TokenizerProcessorStep
from lerobot.utils.constants import (
    ACTION_TOKEN_MASK,
    ACTION_TOKENS,
    OBS_LANGUAGE_ATTENTION_MASK,
    OBS_LANGUAGE_TOKENS,
    OBS_STATE,
)
from transformers import AutoTokenizer

TARGET = Path(__file__).parent / "prompts.json"
MODELS = {
    "demo": Path("python/pioxide/demo/text.model"),
    "paligemma": Path(os.environ["PIOXIDE_SHARED"], "reference/paligemma_tokenizer.model"),
}
TEXTS = """pick up the red cube
Pick up the Yellow Bottle on the table.
fold_the_towel
__Fold_The_Towel__
  open   the drawer
Clean the table: plates → rack; trash → bin!
naïve café déjà-vu
把红色方块放进碗里
Поставь чашку на стол
🤖 wave hello 👋🏽
stack 3 blocks at x=12.5, y=-0.7
first this\\nthen that
two lines\\n\\n
ends in a line\\n
\\n
a <bos> b
<eos>
stop<eos>\\n
<unk><pad>word <loc0001>
Task: State: 1 2;
▁literal▁lower▁blocks"""
STATES = [0, 1, 6, 7, 14, 32]


def tokenizer(model: Path, directory: Path, name: str) -> str:
    """Writes a directory that `AutoTokenizer` loads as it loads PaliGemma's."""
    target = directory / name
    target.mkdir()
    shutil.copy(model, target / "tokenizer.model")
    marks = {f"{mark}_token": f"<{mark}>" for mark in ("bos", "eos", "pad", "unk")}
    config = {"tokenizer_class": "GemmaTokenizer", **marks, "add_bos_token": True, "add_eos_token": False}
    (target / "tokenizer_config.json").write_text(json.dumps(config))
    (target / "config.json").write_text('{"model_type": "paligemma"}')
    return str(target)


def run(steps: list[ProcessorStep], text: str, state: np.ndarray | None, action: bool = False) -> Any:
    """What the steps make of one frame."""
    transition: Any = {
        TransitionKey.OBSERVATION: {} if state is None else {OBS_STATE: torch.from_numpy(state)[None]},
        TransitionKey.COMPLEMENTARY_DATA: {"task": [text]},
        TransitionKey.ACTION: torch.zeros(1, 2, 2) if action else None,
    }
    for step in steps:
        transition = step(transition)
    return transition


def prompt(steps: list[ProcessorStep], text: str, state: np.ndarray | None) -> list[int]:
    """The ids of one prompt, without its padding."""
    made = run(steps, text, state)[TransitionKey.OBSERVATION]
    ids, mask = made[OBS_LANGUAGE_TOKENS][0], made[OBS_LANGUAGE_ATTENTION_MASK][0]
    length = int(mask.sum())
    assert mask[:length].all()
    assert not ids[length:].any()
    return ids[:length].tolist()


def record(directory: str) -> list[dict[str, Any]]:
    """The prompts of one vocabulary."""
    rng = random.Random(3)
    cases = []
    loaded = AutoTokenizer.from_pretrained(directory)
    for number, text in enumerate(line.replace("\\n", "\n") for line in TEXTS.splitlines()):
        state = np.random.RandomState(number).normal(0, 0.7, STATES[number % len(STATES)])
        state = np.round(state, 4).astype([np.float32, np.float64][number % 2])
        actions = [rng.randrange(600) for _ in range(rng.choice([0, 1, 20]))]
        max_len = [250, 40, 12][number % 3]
        read = TokenizerProcessorStep(tokenizer=loaded, max_length=max_len)
        pi05, fast = (
            Pi05PrepareStateTokenizerProcessorStep(),
            Pi0FastPrepareStateAndLanguageTokenizerProcessorStep(),
        )
        # Version 0.4 filled the state up before it became text, by this function.
        wide = pad_vector(torch.from_numpy(state), 32).numpy()
        write = ActionTokenizerProcessorStep(
            action_tokenizer_input_object=lambda _, actions=actions: [actions],
            paligemma_tokenizer_name=directory,
        )
        answer = run([write], text, None, action=True)[TransitionKey.COMPLEMENTARY_DATA]
        cases.append({
            "text": text, "state": state.tolist(), "dtype": str(state.dtype), "max_len": max_len,
            "actions": actions,
            "pi0": prompt([Pi0NewLineProcessor(), read], text, None),
            "pi05": prompt([pi05, read], text, state),
            "pi05_wide": prompt([pi05, read], text, wide),
            "pi0_fast": prompt([fast, read], text, state),
            "pi0_fast_wide": prompt([fast, read], text, wide),
            "answer": answer[ACTION_TOKENS][answer[ACTION_TOKEN_MASK]].tolist(),
        })  # fmt: skip
    return cases


with tempfile.TemporaryDirectory() as made:
    recorded = {name: record(tokenizer(model, Path(made), name)) for name, model in MODELS.items()}
lines = [f'"{name}": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]" for name, cases in recorded.items()]
versions = {name: version(name) for name in ("lerobot", "transformers", "tokenizers")}
TARGET.write_text("{\n" + ",\n".join([f'"versions": {json.dumps(versions)}', *lines]) + "\n}\n")
print(TARGET, TARGET.stat().st_size)
