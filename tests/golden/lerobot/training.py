"""What a training run leaves behind: an adapter, words that say a chunk, and the directory of a run."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from lerobot.common.train_utils import get_step_checkpoint_dir, save_checkpoint, update_last_checkpoint
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from peft import PeftConfig, PeftModel
from recipes import Recipe
from safetensors.torch import load_file, save_file

from support.lerobot_policies import EMBED_TOKENS, LM_HEAD, weights, write_checkpoint

# Where an adapter says its base is, seen from the directory that it lies in.
BASE = "../base"
RATE, ENOUGH = 2e-2, 0.02
PREFIX = "model.paligemma_with_expert."
ANSWER = ("action.tokens", "action.token_mask")


def adapt(recipe: Recipe, made: Any, checkpoint: Path) -> Any:
    """Wraps a base policy as LeRobot's training does, saves the adapter with drawn weights, loads both."""
    place = Path(tempfile.mkdtemp())
    base = write_checkpoint(recipe.adapter, place / "base")
    kind = get_policy_class(recipe.family)
    network = kind.from_pretrained(base, strict=False)
    network.config.pretrained_path = Path(BASE)
    wrapped = network.wrap_with_peft(peft_cli_overrides={"method_type": "LORA", "r": 3, "lora_alpha": 6})
    wrapped.save_pretrained(checkpoint)
    network.config._save_pretrained(checkpoint)
    file = checkpoint / "adapter_model.safetensors"
    drawn = weights({name: list(tensor.shape) for name, tensor in load_file(file).items()}, recipe.name)
    save_file({name: torch.tensor(values) for name, values in drawn.items()}, file, {"format": "pt"})
    settings = PeftConfig.from_pretrained(checkpoint)
    assert settings.base_model_name_or_path == BASE
    loaded = PeftModel.from_pretrained(kind.from_pretrained(base, strict=False), checkpoint, config=settings)
    return loaded.eval()


def teach(network: Any, batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Changes the words of a π0-FAST, shared by input and output, until it answers with the chunks."""
    module = network.model.paligemma_with_expert.paligemma
    table = module.model.language_model.embed_tokens.weight
    module.lm_head.weight = table
    network.requires_grad_(False)
    ids = torch.cat([batch["action.tokens"][batch["action.token_mask"]] for batch in batches]).unique()
    length = max(int(batch["action.token_mask"].sum()) for batch in batches)
    batches = [batch | {key: batch[key][:, :length] for key in ANSWER} for batch in batches]
    rows = table.detach()[ids].clone().requires_grad_()
    optimiser = torch.optim.Adam([rows], lr=RATE)
    start = table.detach().clone()
    loss = torch.tensor(torch.inf)
    while loss > ENOUGH:
        # Out of place, so that the rows and not the table are what is learnt.
        words = start.index_copy(0, ids, rows)
        given = {f"{PREFIX}{name}": words for name in (EMBED_TOKENS, LM_HEAD)}
        losses = [torch.func.functional_call(network, given, (batch,))[0] for batch in batches]
        loss = torch.stack(losses).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print("cross-entropy", loss.item())
    return {"embedding_ids": ids.int().numpy(), "embedding_rows": rows.detach().numpy()}


def training_directory(file: Path) -> None:
    """Writes down the files and links of a run with a checkpoint of step 100, as LeRobot lays them out."""
    made = PI05Config(
        device="cpu", image_resolution=(28, 28), chunk_size=8, n_action_steps=8, push_to_hub=False
    )
    made.validate_features()
    made.input_features["observation.images.empty_camera_0"] = made.input_features["observation.state"]
    policy = get_policy_class("pi05")(made)
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary)
        settings = TrainPipelineConfig(DatasetConfig(repo_id="lab/cubes"), policy=made, output_dir=run)
        directory = get_step_checkpoint_dir(run, total_steps=100, step=100)
        optimiser = torch.optim.SGD(policy.parameters(), 0.1)
        before, after = make_pre_post_processors(made, dataset_stats={"action": {"mean": [0.0] * 32}})
        save_checkpoint(directory, 100, settings, policy, optimiser, None, before, after)
        update_last_checkpoint(directory)
        tree = {
            path.relative_to(run).as_posix(): os.readlink(path) if path.is_symlink() else None
            for path in sorted(run.rglob("*"))
            if path.is_symlink() or path.is_file()
        }
    file.write_text(json.dumps(tree, indent=2) + "\n")
