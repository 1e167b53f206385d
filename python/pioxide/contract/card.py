"""A checkpoint's card, README.md: its contract in words, and the header that Hugging Face's hub reads.

The same contract and settings give the same text: no date, no path of the machine, nothing but what is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.contract.compare import describe
from pioxide.contract.contract import FIELDS, Contract, Unknown
from pioxide.transforms import Stats

CARD = "README.md"

_WORDS = {
    "family": "model",
    "robot": "robot",
    "cameras": "cameras, by image slot",
    "absent_camera": "a camera that is not there is",
    "delta_mask": "actions",
    "state_norm": "the state is normalised by",
    "action_norm": "actions are normalised by",
    "state_in_text": "the prompt holds the state",
    "prompt_style": "the prompt is written as",
    "text_len": "tokens of a prompt, at most",
    "default_prompt": "instruction where none is given",
    "action_horizon": "actions in a chunk",
    "model_dim": "numbers of an action in the model",
    "num_steps": "flow steps",
    "image_size": "pixels along an image's edge",
    "resize": "images are resized by",
    "fast": "action tokens",
    "max_delay": "delay that training saw, in actions",
    "subtask_style": "subtasks, from the language model",
    "advantage_style": "advantage of the actions, in the prompt",
    "memory": "what it sees of the past",
}
# Where weights lie that are under Gemma's terms; of others the header says nothing.
_GEMMAS = ("gs://openpi-assets/", "hf://lerobot/pi0", "hf://google/paligemma")
_GEMMA = (
    "Weights that were made from PaliGemma's or from released weights of the π models are under "
    "[Gemma's terms of use](https://ai.google.dev/gemma/terms): who uses or passes them on agrees to these."
)


def model_card(contracts: Contract | Sequence[Contract], settings: Mapping[str, Any] | None = None) -> str:
    """Returns a checkpoint's card in Markdown.

    Args:
        contracts: What its numbers mean; of weights that drive several robots, for each of them.
        settings: What it was trained with, flat by path, where that is known; "base" names the weights that
            the training began with, None for random ones.
    """
    each = (contracts,) if isinstance(contracts, Contract) else contracts
    named = None if isinstance(each[0].family, Unknown) else each[0].family
    base = None if settings is None else settings.get("base")
    random = settings is not None and base is None
    header = ["---", "library_name: pioxide", "pipeline_tag: robotics"]
    header += ["license: gemma"] if str(base).startswith(_GEMMAS) else []
    header += ["tags:", "- robotics", "- vision-language-action"]
    header += [f"- {named.value}"] if named else []
    robots = [_cell(one.robot.name) for one in each if not isinstance(one.robot, Unknown)]
    several = len(each) > 1
    load = "`Policy.load(DIRECTORY)`, `pioxide serve DIRECTORY`"
    if several:
        load = "`Policy.load(DIRECTORY, robot=NAME)`, `pioxide serve DIRECTORY --robot NAME`"
    parts = [
        "\n".join([*header, "---"]),
        f"# A {named.symbol if named else 'π'} policy{f' for {_listed(robots)}' if robots else ''}",
        f"{load} and `pioxide info DIRECTORY` read it "
        "(`pip install pioxide`); `contract.json` has what stands here to the last digit.",
    ]
    if several:
        parts.append(
            "One network drives several robots, each by numbers of its own. NAME says which robot it is: "
            "with another's numbers it would move wrongly."
        )
    for contract in each:
        parts += _meaning(contract, several=several)
    if settings is not None:
        began = "from random weights" if random else f"from {_cell(PurePath(str(base)).name)}"
        rows = [[f"`{name}`", _cell(value)] for name, value in settings.items() if name != "base"]
        parts += ["## How it was trained", f"It began {began}.", _table(["setting", ""], rows)]
    licence = "No weights of others are in it." if random else _GEMMA
    parts += [
        "## Licence",
        f"{licence} The data that it was trained on has a licence of its own, which pioxide "
        "neither reads nor checks.",
    ]
    return "\n\n".join(parts) + "\n"


def _meaning(contract: Contract, *, several: bool) -> list[str]:
    """Returns what one robot's numbers mean, headings and tables."""
    robot = None if isinstance(contract.robot, Unknown) else contract.robot
    of = f" of {_cell(robot.name)}" if robot is not None and several else ""
    parts = [
        f"## What the numbers{of} mean" if several else "## What its numbers mean",
        _table(["", ""], [[_WORDS[name], _said(contract, name)] for name in FIELDS if name in _WORDS]),
    ]
    if robot is not None and robot.hz is not None:
        parts.append(f"Its robot takes {robot.hz:g} actions a second.")
    if not isinstance(contract.norm_stats, Unknown):
        for key, stats in contract.norm_stats.items():
            names = () if robot is None else robot.state_names if key == "state" else robot.joint_names
            units = robot.joint_units if robot is not None and key != "state" else ()
            parts += [f"## Statistics of the {_cell(key)}{of}", _statistics(stats, names, units)]
    return parts


def _listed(names: Sequence[str]) -> str:
    """Returns names as people list them."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _said(contract: Contract, name: str) -> str:
    value = getattr(contract, name)
    return _cell(describe(name, value)) if name != "family" or not value else value.symbol


def _statistics(stats: Stats, names: tuple[str, ...], units: tuple[str, ...]) -> str:
    columns: dict[str, NDArray[np.float64] | None] = {
        "mean": stats.mean,
        "std": stats.std,
        "q01": stats.q01,
        "q99": stats.q99,
        "min": stats.min,
        "max": stats.max,
    }
    there = {name: values for name, values in columns.items() if values is not None}
    rows: list[list[str]] = []
    for dim in range(stats.dim):
        name = names[dim] if dim < len(names) else str(dim)
        unit = f" [{units[dim]}]" if dim < len(units) else ""
        rows.append([_cell(name + unit), *(f"{values[dim]:.4g}" for values in there.values())])
    return _table(["", *there], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    """A value as one line, with no character that Markdown or HTML would take for its own."""
    text = " ".join(str(value).split())
    for sign in "\\`|<>[]*_":
        text = text.replace(sign, f"\\{sign}")
    return text
