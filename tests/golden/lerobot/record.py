"""Records tests/golden/lerobot: what LeRobot itself writes and computes for tiny policies of the π family.

Run from the repository's root with PYTHONPATH=tests:tests/golden/lerobot, in an environment with lerobot[pi]
and peft; README.md says which versions, and what each file is. No network is used.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0_fast.configuration_pi0_fast import PI0FastConfig
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.utils import prepare_observation_for_inference
from lerobot.processor import TokenizerProcessorStep
from recipes import Recipe, dataset_stats, frames, recipes
from safetensors import safe_open
from safetensors.torch import load_file
from training import adapt, teach, training_directory

from support.lerobot_policies import GOLDEN, write_weights

CONFIGS = {"pi0": PI0Config, "pi05": PI05Config, "pi0_fast": PI0FastConfig}
LAYOUTS: dict[str, dict[str, list[int]]] = {}
# The size above which the images that the network sees are recorded in part.
WHOLE = 64


def config(recipe: Recipe) -> Any:
    """LeRobot's config, with its features in the recipe's order."""
    made = CONFIGS[recipe.family](
        **{
            "device": "cpu",
            "image_resolution": (recipe.image, recipe.image),
            "chunk_size": recipe.horizon,
            "n_action_steps": recipe.horizon,
            "normalization_mapping": recipe.normalization,
            "push_to_hub": False,
            **recipe.config,
        }
    )
    images = {
        f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, *size))
        for name, size in recipe.cameras.items()
    }
    made.input_features = {"observation.state": PolicyFeature(FeatureType.STATE, (recipe.width,)), **images}
    made.output_features = {"action": PolicyFeature(FeatureType.ACTION, (recipe.action_width,))}
    made.validate_features()
    return made


def processors(recipe: Recipe, made: Any, directory: Path) -> tuple[Any, Any]:
    """Both processors as a training run makes them: built, saved, loaded with its renames, saved again."""
    stats = {k: {n: torch.tensor(v) for n, v in g.items()} for k, g in dataset_stats(recipe).items()}
    for part in make_pre_post_processors(made, dataset_stats=stats):
        part.save_pretrained(directory)
    loaded = make_pre_post_processors(
        made,
        pretrained_path=str(directory),
        preprocessor_overrides={"rename_observations_processor": {"rename_map": recipe.rename}},
    )
    for part in loaded:
        part.save_pretrained(directory)
    return loaded


def policy(recipe: Recipe, made: Any, directory: Path, arrays: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The policy with the case's weights, loaded by LeRobot, and how the weights are made."""
    kind = get_policy_class(recipe.family)
    random = Path(tempfile.mkdtemp())
    kind(made).save_pretrained(random)
    with safe_open(random / "model.safetensors", "np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
    how: dict[str, Any] = {"layout": recipe.family, "salt": recipe.name, "image_size": recipe.image}
    if (width := made.max_action_dim) != 32:
        how["layout"] += f"_{width}"
    if recipe.image == tiny.FAST_IMAGE:
        assert LAYOUTS.setdefault(how["layout"], shapes) == shapes
    if recipe.without:
        how["without"] = list(recipe.without)
    shutil.copy(random / "config.json", directory)
    write_weights(how, directory, LAYOUTS, arrays)
    return load(kind, directory), how


def load(kind: Any, directory: Path) -> Any:
    """A policy from LeRobot's own loader, checked: it passes over what it can't load with a printed line."""
    loaded = kind.from_pretrained(directory, strict=False)
    held = loaded.state_dict()
    for name, tensor in load_file(directory / "model.safetensors").items():
        assert torch.equal(held[name], tensor), name
    return loaded.eval()


def observe(sent: dict[str, Any], row: int, task: str) -> dict[str, Any]:
    """One frame as LeRobot's control loop gives it to the preprocessor."""
    frame = {key: np.ascontiguousarray(value[row]) for key, value in sent.items() if key != "action"}
    return prepare_observation_for_inference(frame, torch.device("cpu"), task)


def record(recipe: Recipe) -> None:
    """Writes one case."""
    target = GOLDEN / "cases" / recipe.name
    checkpoint = target / "checkpoint"
    checkpoint.mkdir(parents=True)
    torch.manual_seed(0)
    made, sent = config(recipe), frames(recipe)
    made._save_pretrained(checkpoint)
    arrays: dict[str, Any] = dict(sent)
    what: dict[str, Any] = {
        "says": recipe.says,
        "family": recipe.family,
        "kind": recipe.kind,
        "tasks": recipe.tasks,
    }
    if recipe.adapter:
        what["base"] = recipe.adapter
        network = adapt(recipe, made, checkpoint)
    elif recipe.kind == "model":
        network, what["weights"] = policy(recipe, made, checkpoint, arrays)
    before, after = processors(recipe, made, checkpoint)
    if recipe.family == "pi0_fast" and recipe.kind == "model":
        batches = [{**observe(sent, r, t), "action": _chunk(sent, r)} for r, t in enumerate(recipe.tasks)]
        arrays |= teach(network, [before(batch) for batch in batches])
        write_weights(what["weights"], checkpoint, LAYOUTS, arrays)
        network = load(type(network), checkpoint)
    what["prompts"] = prompts = []
    tokenize = TokenizerProcessorStep._tokenize_text
    TokenizerProcessorStep._tokenize_text = lambda self, text: (prompts.extend(text), tokenize(self, text))[1]
    rows: list[dict[str, Any]] = []
    for row, task in enumerate(recipe.tasks):
        rows.append(
            run_row(recipe, sent, row, task, before, after, network if recipe.kind == "model" else None)
        )
    TokenizerProcessorStep._tokenize_text = tokenize
    what["prompts"] = prompts[: len(rows)] if recipe.kind == "model" else prompts[::2]
    arrays |= {key: np.concatenate([r[key] for r in rows]) for key in rows[0] if key != "slots"}
    if "slots" in rows[0]:
        what["slots"] = rows[0]["slots"]
    if recipe.image > WHOLE:
        every = np.s_[:, :, :, ::31, ::29]
        what["pre.images"] = "every 31st row and 29th column"
        arrays["pre.images"] = arrays["pre.images"][every]
    (checkpoint / "model.safetensors").unlink(missing_ok=True)
    (checkpoint / "README.md").unlink(missing_ok=True)
    np.savez_compressed(target / "golden.npz", **arrays)
    (target / "case.json").write_text(json.dumps(what, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(recipe.name, {key: value.shape for key, value in arrays.items()})


def _chunk(sent: dict[str, Any], row: int) -> torch.Tensor:
    return torch.tensor(sent["action"][row : row + 1])


def run_row(
    recipe: Recipe, sent: dict, row: int, task: str, before: Any, after: Any, network: Any
) -> dict[str, Any]:
    seen = before(observe(sent, row, task))
    made = {
        "pre.state": seen["observation.state"],
        "pre.tokens": seen["observation.language.tokens"].int(),
        "pre.mask": seen["observation.language.attention_mask"],
    }
    draws = recipe.draws(f"answer {row}")
    if network is None:
        chunk = torch.tensor(
            draws.uniform(-1.2, 1.2, (1, recipe.horizon, recipe.action_width)), dtype=torch.float32
        )
        made |= {"chunk": chunk, "post.actions": after(chunk)}
        trained = before({**observe(sent, row, task), "action": _chunk(sent, row)})
        made["pre.action"] = trained["action"]
        if "action.tokens" in trained:
            made |= {
                "pre.action_tokens": trained["action.tokens"].int(),
                "pre.action_mask": trained["action.token_mask"],
            }
        if recipe.image_mode != "IDENTITY":
            for key in (key for key in seen if "images" in key):
                made[f"pre.{key}"] = seen[key]
        return {key: value.numpy() for key, value in made.items()}
    inner = getattr(network, "base_model", None)
    images, masks = (inner.model if inner else network)._preprocess_images(seen)
    present = [key for key in network.config.image_features if key in seen]
    absent = [key for key in network.config.image_features if key not in seen]
    made |= {"pre.images": torch.stack(images, 1), "pre.image_masks": torch.stack(masks, 1)}
    if recipe.family == "pi0_fast":
        tokens = network.model.sample_actions_fast_kv_cache(
            images, masks, made["pre.tokens"].long(), made["pre.mask"], network.config.max_decoding_steps
        )
        chunk = network.predict_action_chunk(seen)
        whole = network.detokenize_actions(tokens, recipe.horizon, recipe.action_width)
        made |= {"answer": tokens.int(), "whole_chunk": whole}
    else:
        noise = torch.tensor(draws.standard_normal((1, recipe.horizon, network.config.max_action_dim)))
        made["noise"] = noise.float()
        chunk = network.predict_action_chunk(seen, noise=noise.float())
    made |= {"chunk": chunk, "post.actions": after(chunk)}
    return {key: value.numpy() for key, value in made.items()} | {"slots": [*present, *absent]}


def write_layouts() -> None:
    """Writes the names and shapes of the tensors that LeRobot saves, a line each."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {{\n" + ",\n".join(f"  {json.dumps(k)}: {v}" for k, v in shapes.items()) + "}"
        for name, shapes in LAYOUTS.items()
    )
    (GOLDEN / "layouts.json").write_text(f"{{\n{lines}\n}}\n")


def main() -> None:
    """Records every case, or those that are named."""
    tiny.shrink()
    if (GOLDEN / "layouts.json").exists():
        LAYOUTS.update(json.loads((GOLDEN / "layouts.json").read_text()))
    for recipe in recipes():
        if recipe.name in sys.argv[1:] or not sys.argv[1:]:
            shutil.rmtree(GOLDEN / "cases" / recipe.name, ignore_errors=True)
            record(recipe)
            write_layouts()
    training_directory(GOLDEN / "training_directory.json")
    names = ("lerobot", "torch", "transformers", "peft", "safetensors", "numpy")
    (GOLDEN / "versions.json").write_text(
        json.dumps({name: version(name) for name in names}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
