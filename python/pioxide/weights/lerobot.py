"""The contract of a LeRobot checkpoint, from its `config.json` and its processors.

The processors are what runs, so they rule; where `config.json` says otherwise, both sides are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pioxide.codec import load_codec
from pioxide.contract import (
    UNKNOWN,
    AbsentCamera,
    CameraSlot,
    Contract,
    PromptStyle,
    Resize,
    Unknown,
    action_vocabulary,
)
from pioxide.errors import CheckpointError, PioxideError
from pioxide.family import Family
from pioxide.files import read_json
from pioxide.robots import Camera, RobotSpec, StatePart
from pioxide.transforms import NormMode, NormRule, Stats
from pioxide.weights.architecture import Architecture
from pioxide.weights.companions import OWN, Companions
from pioxide.weights.lerobot_config import ACTION, STATE, Feature, LerobotConfig, read_config
from pioxide.weights.lerobot_processors import PREPROCESSOR, Processors, Relative, read_processors
from pioxide.weights.lerobot_steps import Normalization

# LeRobot's names of what a contract calls "state" and "actions".
KEYS = {"state": STATE, "actions": ACTION}


def lerobot_contract(
    root: Path, architecture: Architecture, companions: Companions, notes: list[str]
) -> Contract:
    """Reads a LeRobot checkpoint's contract.

    Args:
        root: The checkpoint's directory.
        architecture: Of its tensors.
        companions: What lies beside them.
        notes: What a person should know is added here.

    Raises:
        CheckpointError: What changes actions can't be obeyed, makes no sense, or is said in two ways.
    """
    where = str(root / "config.json")
    config = read_config(companions.config, where)
    if config.family is not architecture.kind:
        raise CheckpointError(
            f"{where} says {config.family.symbol}, and the tensors are {architecture.kind.symbol}'s"
        )
    _check_sizes(config, architecture, where)
    processors = read_processors(root, config.family)
    if processors is not None:
        _check_agree(config, processors, where)
    contract = _of_model(root, config, architecture, processors, companions, notes)
    if config.inputs is None or config.outputs is None:
        notes.append(f"{where} has no features: it says nothing of the robot, and no LeRobot wrote it so")
        return contract
    if processors is not None and processors.before.says_nothing and processors.after.says_nothing:
        notes.append(f"{PREPROCESSOR} has no features and no statistics: this is a base model, of no robot")
        return replace(contract, cameras=tuple(CameraSlot(slot) for slot in config.cameras))
    normalization = _normalization(config, processors, companions)
    action_dim = _size(config.outputs, ACTION, config.max_action_dim, where)
    robot = _robot(config, processors, action_dim, where)
    relative = _relative(config, processors)
    contract = replace(
        contract,
        robot=robot,
        cameras=_slots(config, robot),
        delta_mask=relative.mask(action_dim),
        state_text_dim=_state_text_dim(root, config, robot.state_dim, notes),
        **normalization,
    )
    if not config.family.is_flow:
        contract = replace(contract, model_dim=action_dim)
    _note_identity(contract, config, notes)
    return contract


def _of_model(
    root: Path,
    config: LerobotConfig,
    architecture: Architecture,
    processors: Processors | None,
    companions: Companions,
    notes: list[str],
) -> Contract:
    """Returns what a checkpoint says of its model, whatever robot it is for."""
    dim = architecture.action_dim if config.family.is_flow else None  # π0-FAST's is not in its tensors
    return Contract(
        family=config.family,
        absent_camera=AbsentCamera.MASKED,
        state_in_text=config.family is not Family.PI0,
        prompt_style=PromptStyle.LEROBOT,
        text_len=config.text_len if processors is None else processors.text_len,
        default_prompt=None,
        action_horizon=config.chunk_size,
        num_steps=config.num_steps if config.family.is_flow else None,
        play_steps=config.n_action_steps,
        image_size=config.image_size,
        model_dim=UNKNOWN if dim is None else dim,
        resize=Resize.INTERPOLATE,
        fast=_fast(root, config, processors, companions, notes),
        max_delay=config.max_delay,
        answer_gap=0,
        subtask_style=None,
        memory=None,
        source=str(root),
    )


def _note_identity(contract: Contract, config: LerobotConfig, notes: list[str]) -> None:
    """Notes numbers that are to be normalised and have no statistics."""
    for key, rule in (("state", contract.state_norm), ("actions", contract.action_norm)):
        mode = config.modes.get("STATE" if key == "state" else "ACTION", NormMode.IDENTITY)
        if isinstance(rule, NormRule) and rule.mode is NormMode.IDENTITY and mode is not NormMode.IDENTITY:
            notes.append(f"{key} pass as they are: {mode} normalisation has no statistics, as LeRobot has it")


def _check_sizes(config: LerobotConfig, architecture: Architecture, where: str) -> None:
    if config.image_size != architecture.vision.image_size:
        raise CheckpointError(
            f"{where}: image_resolution {config.image_size}, and the image tower takes "
            f"{architecture.vision.image_size} pixels"
        )
    if config.family.is_flow and config.max_action_dim != architecture.action_dim:
        raise CheckpointError(
            f"{where}: max_action_dim {config.max_action_dim}, and the tensors have {architecture.action_dim}"
        )
    if config.family.state_is_vector and config.max_state_dim != config.max_action_dim:
        raise CheckpointError(
            f"{where}: max_state_dim {config.max_state_dim} and max_action_dim {config.max_action_dim} "
            "differ, which no model here has"
        )


def _check_agree(config: LerobotConfig, processors: Processors, where: str) -> None:
    """Refuses a `config.json` that says otherwise than the processors do."""
    found: list[tuple[str, Any, Any]] = []
    if processors.text_len != config.text_len:
        found.append(("tokenizer_max_length", config.text_len, processors.text_len))
    enabled = processors.relative is not None and processors.relative.enabled
    if config.says_relative and config.use_relative_actions != enabled:
        found.append(("use_relative_actions", config.use_relative_actions, enabled))
    relative = processors.relative
    if relative is not None and enabled:
        if config.relative_exclude_joints != relative.exclude:
            found.append(("relative_exclude_joints", config.relative_exclude_joints, relative.exclude))
        if config.action_names is not None and relative.names not in (None, config.action_names):
            found.append(("action_feature_names", config.action_names, relative.names))
    if not processors.before.says_nothing:
        for kind in ("STATE", "ACTION"):
            modes = [m.get(kind, NormMode.IDENTITY) for m in (config.modes, processors.before.modes)]
            if modes[0] is not modes[1]:
                found.append((f"normalization_mapping of {kind}", *map(str, modes)))
    features = (config.inputs or {}) | (config.outputs or {})
    for normalization in (processors.before, processors.after):
        for key in (STATE, ACTION):
            here, there = features.get(key), normalization.features.get(key)
            if here is not None and there is not None and here.shape != there.shape:
                found.append((f"shape of {key}", list(here.shape), list(there.shape)))
    if found:
        lines = "\n".join(f"  {name}: {one!r} there, {two!r} in the processors" for name, one, two in found)
        raise CheckpointError(f"{where} and the processors beside it disagree:\n{lines}")


def _normalization(
    config: LerobotConfig, processors: Processors | None, companions: Companions
) -> dict[str, Any]:
    """Returns the contract's rules and statistics."""
    if processors is None:
        found = companions.norm_stats
        own = found.get(OWN) or next(iter(found.values()), dict[str, Stats]())
        before = after = Normalization(
            config.modes,
            NormRule.lerobot("identity").epsilon,
            {**(config.inputs or {}), **(config.outputs or {})},
            None,
            {KEYS[key]: one for key, one in own.items() if key in KEYS},
        )
    else:
        before, after = processors.before, processors.after
    stats = {key: side.stats.get(KEYS[key]) for key, side in (("state", before), ("actions", after))}
    return {
        "state_norm": before.rule(STATE),
        "action_norm": after.rule(ACTION),
        "norm_stats": {key: one for key, one in stats.items() if one is not None},
    }


def _relative(config: LerobotConfig, processors: Processors | None) -> Relative:
    if processors is not None:
        return processors.relative or Relative(False, (), None)
    return Relative(config.use_relative_actions, config.relative_exclude_joints, config.action_names)


def _robot(config: LerobotConfig, processors: Processors | None, action_dim: int, where: str) -> RobotSpec:
    """Returns the robot that the features describe: its numbers are the robot's own."""
    keys = {} if processors is None else {new: old for old, new in processors.rename_map.items()}
    inputs = config.inputs or {}
    relative = None if processors is None else processors.relative
    names = config.action_names or (relative and relative.names) or ()
    empty = set(config.empty_keys)
    state = keys.get(STATE, STATE)
    cameras = [key for key in config.cameras if key not in empty]
    read = {*cameras, *empty, STATE}
    prompt_key = "task" if processors is None else processors.prompt_key
    try:
        return RobotSpec(
            name="lerobot",
            cameras=tuple(Camera(keys.get(key, key), key) for key in cameras),
            state=(StatePart(state, _size(inputs, STATE, config.max_state_dim, where)),),
            action_dim=action_dim,
            hz=None,
            prompt_key=prompt_key,
            actions_key=ACTION,
            joint_names=tuple(names) if len(names) == action_dim else (),
            ignored_keys=tuple(keys.get(key, key) for key in inputs if key not in read),
        )
    except PioxideError as error:
        raise CheckpointError(f"{where}: its features make no robot: {error}") from error


def _slots(config: LerobotConfig, robot: RobotSpec) -> tuple[CameraSlot, ...]:
    by_slot = {camera.slot: camera.key for camera in robot.cameras}
    return tuple(CameraSlot(slot, by_slot.get(slot), slot in by_slot) for slot in config.cameras)


def _size(features: Mapping[str, Feature], key: str, default: int, where: str) -> int:
    """Returns the numbers in a feature; LeRobot adds one of full width where it is absent."""
    feature = features.get(key)
    if feature is None:
        return default
    if len(feature.shape) != 1:
        raise CheckpointError(f"{where}: {key} has shape {list(feature.shape)}, expected one number a joint")
    return feature.shape[0]


def _state_text_dim(
    root: Path, config: LerobotConfig, state_dim: int, notes: list[str]
) -> int | Unknown | None:
    """Returns how many numbers the prompt's state was padded to in training; None for the robot's own.

    LeRobot 0.4 padded it, 0.5.0 and later don't. What tells them apart: 0.5.1 and later write
    `use_relative_actions`, 0.5.0 writes `cudnn_deterministic` into `train_config.json`, 0.4 neither.
    """
    if config.family is Family.PI0 or config.says_relative or state_dim >= config.max_state_dim:
        return None
    training = root / "train_config.json"
    if training.is_file():
        try:
            return None if "cudnn_deterministic" in read_json(training) else config.max_state_dim
        except (PioxideError, TypeError) as error:
            raise CheckpointError(f"{training}: {error}") from error
    notes.append(
        f"LeRobot before 0.5 padded the state in the prompt to {config.max_state_dim} numbers, later ones "
        "don't, and without train_config.json nothing says which trained these weights: state_text_dim is "
        "unknown"
    )
    return UNKNOWN


def _fast(
    root: Path,
    config: LerobotConfig,
    processors: Processors | None,
    companions: Companions,
    notes: list[str],
) -> Any:
    """Returns the FAST vocabulary where its files came along, else UNKNOWN."""
    if config.family.is_flow:
        return None
    name = (processors and processors.action_tokenizer) or config.action_tokenizer
    inside = root / name
    found = inside if (inside / "tokenizer.json").is_file() else companions.fast_tokenizer
    if found is None:
        notes.append(
            f"its FAST tokenizer is {name!r}, which does not lie beside it: pass codec= (--fast DIR)"
        )
        return UNKNOWN
    return action_vocabulary(load_codec(found))
