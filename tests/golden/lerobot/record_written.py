"""Records tests/golden/lerobot/written: what LeRobot computes from directories that pioxide wrote.

First `python -m support.lerobot_written DIR` in pioxide's own environment, then this with DIR in LeRobot's:
README.md has both commands.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import tiny
import torch
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from recipes import frames, recipes
from record import load, run_row
from safetensors import safe_open

from support.lerobot_policies import GOLDEN


def record(name: str, source: str, directory: Path) -> None:
    """Writes what LeRobot makes of the frames of the recorded case that the weights are of."""
    recipe = next(one for one in recipes() if one.name == source)
    target = GOLDEN / "written" / name
    shutil.rmtree(target, ignore_errors=True)
    checkpoint = target / "checkpoint"
    shutil.copytree(directory, checkpoint, ignore=shutil.ignore_patterns("assets", "contract.json"))
    torch.manual_seed(0)
    network = load(get_policy_class(recipe.family), directory)
    before, after = make_pre_post_processors(network.config, pretrained_path=str(directory))
    sent = frames(recipe)
    rows = [run_row(recipe, sent, row, task, before, after, network) for row, task in enumerate(recipe.tasks)]
    kept = ("pre.state", "pre.tokens", "pre.mask", "chunk", "post.actions")
    np.savez_compressed(
        target / "golden.npz", **{key: np.concatenate([row[key] for row in rows]) for key in kept}
    )
    with safe_open(directory / "model.safetensors", "np") as file:
        shapes = {one: file.get_slice(one).get_shape() for one in sorted(file.keys())}
    (checkpoint / "model.safetensors").unlink()
    lines = ",\n".join(f"    {json.dumps(one)}: {shape}" for one, shape in shapes.items())
    (target / "case.json").write_text(
        f'{{\n  "source": {json.dumps(source)},\n  "slots": {json.dumps(rows[0]["slots"])},\n'
        f'  "tensors": {{\n{lines}\n  }}\n}}\n'
    )
    print(name, network.config.type)


if __name__ == "__main__":
    tiny.shrink()
    for one, source in json.loads(Path(sys.argv[1], "sources.json").read_text()).items():
        record(one, source, Path(sys.argv[1], one))
