"""A contract as LeRobot's own files: the fields of `config.json`, both processors, their statistics.

LeRobot then runs our weights with the same actions. What its files can't say is refused where actions would
differ, and listed where they may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract, PromptStyle, Unknown, known
from pioxide.contract.numbers import covering
from pioxide.family import Family
from pioxide.files import write_json
from pioxide.robots import RobotSpec
from pioxide.transforms import NormRule, Stats
from pioxide.transforms.normalize import LEROBOT_EPSILON, Arithmetic, NormMode
from pioxide.transforms.stats import FIELDS as STATISTICS
from pioxide.weights.lerobot_config import ACTION, IMAGES, STATE, TEXT_LEN
from pioxide.weights.lerobot_limits import ACTION_TOKENIZER, left_out, refuse, refused
from pioxide.weights.lerobot_processors import PROMPT
from pioxide.weights.safetensors import SafetensorsWriter
from pioxide.weights.tree import Spec

# LeRobot looks these up by name; who runs the files elsewhere replaces them there.
TEXT_TOKENIZER = "google/paligemma-3b-pt-224"
# Too small to change any standard deviation in float32, and above 0, as LeRobot's division wants it.
NEGLIGIBLE = 1e-30

NEEDED = (
    "family",
    "robot",
    "cameras",
    "delta_mask",
    "state_norm",
    "action_norm",
    "action_horizon",
    "model_dim",
    "image_size",
    "resize",
    "absent_camera",
    "prompt_style",
    "state_in_text",
    "text_len",
)
TOKENIZER = {
    "task_key": "task",
    "padding_side": "right",
    "padding": "max_length",
    "truncation": True,
    "tokenizer_name": TEXT_TOKENIZER,
}
FAST_TOKENIZER = {
    "trust_remote_code": True,
    "max_action_tokens": 256,
    "action_tokenizer_name": ACTION_TOKENIZER,
}
# LeRobot asks for its own device when it loads the file.
DEVICE = {"device": "cpu", "float_dtype": None}
Vectors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class LerobotFiles:
    """What belongs beside `model.safetensors`.

    Attributes:
        config: Fields of `config.json` that the contract decides.
        preprocessor: `policy_preprocessor.json`.
        postprocessor: `policy_postprocessor.json`.
        state: The preprocessor's statistics, "observation.state.mean" and so on.
        actions: The postprocessor's.
        left_out: What LeRobot's files have no place for, in words.
    """

    config: dict[str, Any]
    preprocessor: dict[str, Any]
    postprocessor: dict[str, Any]
    state: Vectors
    actions: Vectors
    left_out: tuple[str, ...]

    def write(self, directory: Path, config: Mapping[str, Any]) -> None:
        """Writes everything into a directory that is there.

        Args:
            directory: The checkpoint's.
            config: Fields of `config.json` that the tensors decide.
        """
        write_json(directory / "config.json", {**config, **self.config})
        for document, vectors in ((self.preprocessor, self.state), (self.postprocessor, self.actions)):
            write_json(directory / f"{document['name']}.json", document)
            for step in document["steps"]:
                if "state_file" in step:
                    _write_vectors(directory / step["state_file"], vectors)


def lerobot_files(contract: Contract) -> LerobotFiles:
    """Returns a contract as LeRobot has it.

    Raises:
        ContractError: A field that LeRobot's files need is unknown, or LeRobot would compute other actions: a
            robot whose numbers are turned round, a state that is not in π0.5's prompt or is padded there, two
            epsilons.
    """
    contract.require(*NEEDED, doing="writing LeRobot's files")
    family, robot = known(contract.family, "family"), known(contract.robot, "robot")
    refuse(contract)
    mask = known(contract.delta_mask, "delta_mask")
    names, excluded = _relative_names(robot, mask)
    features = _features(contract, robot)
    rules = {
        STATE: known(contract.state_norm, "state_norm"),
        ACTION: known(contract.action_norm, "action_norm"),
    }
    epsilon = _epsilon(rules)
    modes = {"VISUAL": "IDENTITY", "STATE": _mode(rules[STATE]), "ACTION": _mode(rules[ACTION])}
    stats = _stats(contract, rules)
    inputs = {key: one for key, one in features.items() if key != ACTION}
    outputs = {ACTION: features[ACTION]}
    sizes = _sizes(contract, family)
    config = {
        "input_features": inputs,
        "output_features": outputs,
        "normalization_mapping": modes,
        "use_relative_actions": any(mask),
        "relative_exclude_joints": excluded,
        "action_feature_names": names,
        **sizes,
    }
    relative = {"enabled": any(mask), "exclude_joints": excluded, "action_names": names}
    normalizer = {"eps": epsilon, "features": features, "norm_map": modes}
    before = Steps("policy_preprocessor")
    before.add("rename_observations_processor", {"rename_map": _renames(contract)})
    before.add("to_batch_processor")
    # π0's text needs no state, and LeRobot has it first.
    if family is Family.PI0:
        before.add_prompt(family, sizes["tokenizer_max_length"])
        before.add("device_processor", DEVICE)
    before.add("relative_actions_processor", relative)
    before.add("normalizer_processor", normalizer, state=bool(stats))
    if family is not Family.PI0:
        before.add_prompt(family, sizes["tokenizer_max_length"])
        before.add("device_processor", DEVICE)
    after = Steps("policy_postprocessor")
    after.add("unnormalizer_processor", {**normalizer, "features": outputs}, state=bool(stats))
    after.add("absolute_actions_processor", {"enabled": any(mask)})
    after.add("device_processor", DEVICE)
    return LerobotFiles(config, before.document, after.document, stats, stats, left_out(contract))


class Steps:
    """A processor's file while it grows; a step's statistics are named after its place."""

    def __init__(self, name: str) -> None:
        """Begins the file of that name."""
        self.document: dict[str, Any] = {"name": name, "steps": []}

    def add(self, name: str, config: Mapping[str, Any] | None = None, *, state: bool = False) -> None:
        """Adds a step; `state` is whether it has statistics."""
        steps = self.document["steps"]
        step: dict[str, Any] = {"registry_name": name, "config": dict(config or {})}
        if state:
            step["state_file"] = f"{self.document['name']}_step_{len(steps)}_{name}.safetensors"
        steps.append(step)

    def add_prompt(self, family: Family, length: int) -> None:
        """Adds the steps that make a prompt's ids."""
        self.add(PROMPT[family])
        self.add("tokenizer_processor", {"max_length": length, **TOKENIZER})
        if family is Family.PI0_FAST:
            self.add("action_tokenizer_processor", FAST_TOKENIZER)


def _features(contract: Contract, robot: RobotSpec) -> dict[str, Any]:
    size = known(contract.image_size, "image_size")
    cameras = known(contract.cameras, "cameras")
    keys = [_image_key(camera.slot) for camera in cameras if camera.key is not None]
    # LeRobot masks what does not come and has it last, so these may be anywhere.
    keys += [f"{IMAGES}.empty_camera_{i}" for i in range(_empty(contract))]
    images = {key: {"type": "VISUAL", "shape": [3, size, size]} for key in keys}
    return {
        STATE: {"type": "STATE", "shape": [robot.state_dim]},
        **images,
        ACTION: {"type": "ACTION", "shape": [robot.action_dim]},
    }


def _empty(contract: Contract) -> int:
    """Returns how many slots were never filled."""
    return sum(camera.key is None for camera in known(contract.cameras, "cameras"))


def _image_key(slot: str) -> str:
    return slot if slot.startswith(IMAGES) else f"{IMAGES}.{slot}"


def _renames(contract: Contract) -> dict[str, str]:
    """Returns the robot's camera keys that LeRobot itself may meet, by the feature that each fills."""
    return {
        camera.key: _image_key(camera.slot)
        for camera in known(contract.cameras, "cameras")
        if isinstance(camera.key, str)
        and camera.key.startswith(IMAGES)
        and camera.key != _image_key(camera.slot)
    }


def _relative_names(robot: RobotSpec, mask: tuple[bool, ...]) -> tuple[list[str] | None, list[str]]:
    """Returns names of an action's numbers, and the words by which LeRobot finds those that stay absolute."""
    names = list(robot.joint_names)
    absolute = [dim for dim in range(robot.action_dim) if dim >= len(mask) or not mask[dim]]
    if not any(mask):
        return names or None, ["gripper"]
    if not absolute:
        return names or None, []
    excluded = [names[dim] for dim in absolute] if names else []
    found = [dim for dim, name in enumerate(names) if any(one.lower() in name.lower() for one in excluded)]
    if found != absolute:  # no names, or one is part of another: numbers of one length are not
        names = [f"action_{dim:03d}" for dim in range(robot.action_dim)]
        excluded = [names[dim] for dim in absolute]
    return names, excluded


def _sizes(contract: Contract, family: Family) -> dict[str, Any]:
    horizon, width = known(contract.action_horizon, "action_horizon"), known(contract.model_dim, "model_dim")
    played = contract.play_steps if isinstance(contract.play_steps, int) else horizon
    size, length = known(contract.image_size, "image_size"), known(contract.text_len, "text_len")
    own = contract.prompt_style is PromptStyle.OPENPI and family is Family.PI0_FAST  # counts the answer too
    sizes: dict[str, Any] = {
        "chunk_size": horizon,
        "n_action_steps": played if family.is_flow else horizon,
        "max_state_dim": width,
        "max_action_dim": width,
        "image_resolution": [size, size],
        "empty_cameras": _empty(contract),
        "tokenizer_max_length": TEXT_LEN[family] if own else length,
    }
    if family.is_flow and not isinstance(contract.num_steps, Unknown | None):
        sizes["num_inference_steps"] = contract.num_steps
    return sizes


def _mode(rule: NormRule) -> str:
    return rule.mode.value.upper()


def _epsilon(rules: Mapping[str, NormRule]) -> float:
    wanted = {_wanted_epsilon(rule) for rule in rules.values() if rule.mode is not NormMode.IDENTITY}
    if len(wanted) > 1:
        raise refused(
            "state_norm",
            f"the state is normalised by {rules[STATE]} and actions by {rules[ACTION]}, with two epsilons, "
            "and LeRobot's normaliser has one",
        )
    return wanted.pop() if wanted else LEROBOT_EPSILON


def _wanted_epsilon(rule: NormRule) -> float:
    """Returns the epsilon with which LeRobot's formula is this rule's, given what `_as_lerobot` makes."""
    if rule.arithmetic is Arithmetic.OPENPI and rule.mode is NormMode.MEAN_STD:
        return NEGLIGIBLE
    return rule.epsilon


def _as_lerobot(stats: Stats, rule: NormRule) -> Stats:
    """Returns statistics with which LeRobot's formulas give openpi's numbers, by adding its epsilon.

    openpi adds its epsilon to every width and standard deviation, in both directions.
    """
    if rule.arithmetic is Arithmetic.LEROBOT:
        return stats
    values = {name: value for name in STATISTICS if (value := getattr(stats, name)) is not None}
    widened = "std" if rule.mode is NormMode.MEAN_STD else "q99"
    if rule.mode is not NormMode.IDENTITY:
        values[widened] = values[widened] + rule.epsilon
    return Stats(**values)


def _stats(contract: Contract, rules: Mapping[str, NormRule]) -> Vectors:
    """Returns float32 vectors by LeRobot's names, of the features that are normalised."""
    robot = known(contract.robot, "robot")
    vectors: Vectors = {}
    for feature, key, dim in ((STATE, "state", robot.state_dim), (ACTION, "actions", robot.action_dim)):
        rule = rules[feature]
        if rule.mode is NormMode.IDENTITY:
            continue
        stats = covering(contract, key, dim)
        rule.make(stats, f"the {key}")
        written = _as_lerobot(stats, rule)
        vectors |= {
            f"{feature}.{name}": value.astype(np.float32)
            for name in STATISTICS
            if (value := getattr(written, name)) is not None
        }
    return vectors


def _write_vectors(file: Path, vectors: Vectors) -> None:
    specs = {name: Spec(value.shape, value.dtype) for name, value in vectors.items()}
    writer = SafetensorsWriter(file, specs)
    try:
        for name, value in vectors.items():
            writer.put(name, value)
        writer.close()
    except BaseException:
        writer.abandon()
        raise
