"""Contracts that LeRobot has run from the files that pioxide wrote of them.

`python -m support.lerobot_written DIR` with PYTHONPATH=tests:python writes the directories that
tests/golden/lerobot/record.py records.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pioxide.contract import Contract, save_contract
from pioxide.transforms import NormRule
from pioxide.weights import convert, load
from pioxide.weights.lerobot_writer import lerobot_files
from pioxide.weights.safetensors import SafetensorsFile
from support.lerobot_policies import read, write_checkpoint

# The recorded case that weights, statistics and frames are of.
SOURCES = {
    "pi05_openpi": "pi05_model",
    "pi0_openpi": "pi0_model",
    "pi0_lerobot": "pi0_model_renamed",
    "pi0_fast_lerobot": "pi0_fast_model",
}


def contract_of(name: str, recorded: Contract) -> Contract:
    """The contract of a written directory, from that of the recorded case."""
    if name == "pi05_openpi":  # openpi's own normalisation and prompt, relative but for the gripper
        rule = NormRule.openpi("quantile")
        mask = (True, True, True, True, True, False)
        return replace(
            recorded, state_norm=rule, action_norm=rule, delta_mask=mask, prompt_style="openpi", num_steps=5
        )
    if name == "pi0_openpi":
        rule = NormRule.openpi("zscore")
        return replace(recorded, state_norm=rule, action_norm=rule, play_steps=3)
    if name == "pi0_lerobot":  # joints without names, of which the third and the last are absolute
        mask = (True, True, False, *([True] * 10), False)
        return replace(recorded, action_norm=NormRule.lerobot("min_max"), delta_mask=mask)
    return recorded


def write(name: str, directory: Path) -> Contract:
    """Writes a directory as LeRobot runs it, the weights by pioxide's own writer.

    Args:
        name: One of `SOURCES`.
        directory: Made; `NAME` in it is the checkpoint.

    Returns:
        The contract that the files are of.
    """
    source = write_checkpoint(SOURCES[name], directory / "source" / name)
    with load(source) as opened:
        convert(opened, directory / name, "lerobot")
        contract = contract_of(name, opened.contract)
    network = {key: value for key, value in read(source / "config.json").items() if key in NETWORK}
    lerobot_files(contract).write(directory / name, network)
    save_contract(contract, directory / name)
    return contract


# The fields of config.json that tensors decide; LeRobot's names of sizes are those of its full-grown models.
NETWORK = ("type", "dtype", "paligemma_variant", "action_expert_variant")


def tensors(checkpoint: Path) -> dict[str, list[Any]]:
    """Names, kinds and shapes of the tensors of a checkpoint."""
    file = SafetensorsFile(checkpoint / "model.safetensors")
    try:
        return {
            name: [str(entry.spec.dtype), *entry.spec.shape] for name, entry in sorted(file.tensors.items())
        }
    finally:
        file.close()


if __name__ == "__main__":
    for one in SOURCES:
        write(one, Path(sys.argv[1]))
    Path(sys.argv[1], "sources.json").write_text(json.dumps(SOURCES))
