"""LeRobot's `config.json`: every field is obeyed, known to change no action, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pioxide.errors import CheckpointError
from pioxide.family import Family
from pioxide.transforms import NormMode
from pioxide.weights.documents import are_texts

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images"

# What LeRobot's own classes say where a file has no such key.
DEFAULTS: dict[str, Any] = {
    "chunk_size": 50,
    "n_action_steps": 50,
    "max_state_dim": 32,
    "max_action_dim": 32,
    "num_inference_steps": 10,
    "image_resolution": [224, 224],
    "empty_cameras": 0,
    "use_relative_actions": False,
    "relative_exclude_joints": ["gripper"],
    "action_feature_names": None,
    "rtc_training_max_delay": 0,
    "action_tokenizer_name": "lerobot/fast-action-tokenizer",
}
TEXT_LEN = {Family.PI0: 48, Family.PI05: 200, Family.PI0_FAST: 200}
MODES = {
    Family.PI0: NormMode.MEAN_STD,
    Family.PI05: NormMode.QUANTILES,
    Family.PI0_FAST: NormMode.MEAN_STD,
}
OBEYED = {"type", "input_features", "output_features", "normalization_mapping", "tokenizer_max_length"}
# Fields that this pioxide computes with in one way only.
FIXED: dict[str, Any] = {
    "n_obs_steps": 1,
    "min_period": 0.004,
    "max_period": 4.0,
    "use_visual_memory": False,
    "use_proprioceptive_memory": False,
    "fast_skip_tokens": 128,
    "temperature": 0.0,
    "adapt_to_pi_aloha": False,
    "use_delta_joint_actions_aloha": False,
    "resize_imgs_with_padding": None,
    "num_steps": 10,
}
WAYS_OUT = {
    "resize_imgs_with_padding": "LeRobot before 0.4 wrote this, and put images elsewhere in the picture",
    "temperature": "set it to 0.0 there, and pass the temperature to the sampler",
    "num_steps": "LeRobot before 0.4 wrote this; call it num_inference_steps",
}
# Fields of training, hardware and the Hub, and those that say how fast and not what.
HARMLESS = {
    "device",
    "use_amp",
    "use_peft",
    "push_to_hub",
    "repo_id",
    "private",
    "tags",
    "license",
    "pretrained_path",
    "pretrained_revision",
    "paligemma_variant",
    "action_expert_variant",
    "dtype",
    "time_sampling_beta_alpha",
    "time_sampling_beta_beta",
    "time_sampling_scale",
    "time_sampling_offset",
    "rtc_config",
    "memory_frames",
    "memory_stride",
    "memory_temporal_attention_every",
    "max_action_tokens",
    "max_decoding_steps",
    "validate_action_token_prefix",
    "use_kv_cache",
    "text_tokenizer_name",
    "gradient_checkpointing",
    "compile_model",
    "compile_mode",
    "freeze_vision_encoder",
    "train_expert_only",
    "proj_width",
    "use_cache",
    "attention_implementation",
    "train_state_proj",
}
HARMLESS_BEGINNINGS = ("optimizer_", "scheduler_")
KNOWN = DEFAULTS.keys() | OBEYED | HARMLESS


class Feature(NamedTuple):
    """One entry of `input_features` or `output_features`."""

    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class LerobotConfig:
    """What `config.json` says about actions.

    Attributes:
        family: Which model.
        inputs: Its features, in the order in which the network sees them; None where the file has none,
            which no LeRobot writes.
        outputs: Likewise.
        chunk_size: Actions in a chunk.
        n_action_steps: Actions of a chunk that are played.
        max_state_dim: Numbers of a state inside the model.
        max_action_dim: Numbers of an action inside the model.
        num_steps: Flow steps.
        image_size: Pixels along an image's edge.
        text_len: Ids in a prompt.
        modes: How a type of feature is normalised.
        empty_cameras: Slots that were never filled.
        use_relative_actions: Whether actions are relative to the state.
        relative_exclude_joints: Words in the names of those that are not.
        action_names: Names of an action's numbers, or None.
        max_delay: The largest delay that training saw.
        action_tokenizer: π0-FAST's action tokenizer.
        says_relative: Whether `use_relative_actions` stands there, which LeRobot writes since 0.5.1.
    """

    family: Family
    inputs: dict[str, Feature] | None
    outputs: dict[str, Feature] | None
    chunk_size: int
    n_action_steps: int
    max_state_dim: int
    max_action_dim: int
    num_steps: int
    image_size: int
    text_len: int
    modes: dict[str, NormMode]
    empty_cameras: int
    use_relative_actions: bool
    relative_exclude_joints: tuple[str, ...]
    action_names: tuple[str, ...] | None
    max_delay: int
    action_tokenizer: str
    says_relative: bool

    @property
    def cameras(self) -> list[str]:
        """Returns the image features in the network's order, the empty ones included."""
        inputs = self.inputs or {}
        named = [key for key, feature in inputs.items() if feature.type == "VISUAL"]
        return named + [key for key in self.empty_keys if key not in named]

    @property
    def empty_keys(self) -> list[str]:
        """Returns the features that were never filled."""
        return [f"{IMAGES}.empty_camera_{i}" for i in range(self.empty_cameras)]


def is_lerobot(config: Mapping[str, Any]) -> bool:
    """Returns whether a `config.json` is one of LeRobot's."""
    return "type" in config


def read_config(config: Mapping[str, Any], where: str) -> LerobotConfig:
    """Reads a `config.json`.

    Args:
        config: Its content.
        where: What messages call the file.

    Raises:
        CheckpointError: It is of another policy; a field that would change actions can't be obeyed, or is not
            known; a value makes no sense. Names the field.
    """
    try:
        family = Family(config.get("type"))
    except ValueError:
        raise CheckpointError(
            f"{where}: type {config.get('type')!r} is none of π0, π0.5 and π0-FAST ({', '.join(Family)})"
        ) from None
    _refuse_unknown(config, where)

    def get(name: str) -> Any:
        return config.get(name, DEFAULTS[name])

    def natural(name: str, least: int = 1) -> int:
        value = get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise CheckpointError(f"{where}: {name}: expected a whole number from {least}, got {value!r}")
        return value

    horizon = natural("chunk_size")
    played = natural("n_action_steps") if "n_action_steps" in config else horizon
    if played > horizon:
        raise CheckpointError(f"{where}: n_action_steps {played} is more than chunk_size {horizon}")
    names = get("action_feature_names")
    text_len = config.get("tokenizer_max_length", TEXT_LEN[family])
    if not isinstance(text_len, int) or isinstance(text_len, bool) or text_len < 1:
        raise CheckpointError(f"{where}: tokenizer_max_length: expected a whole number, got {text_len!r}")
    return LerobotConfig(
        family,
        _features(config.get("input_features"), f"{where}: input_features"),
        _features(config.get("output_features"), f"{where}: output_features"),
        horizon,
        played,
        natural("max_state_dim"),
        natural("max_action_dim"),
        natural("num_inference_steps"),
        _image_size(get("image_resolution"), where),
        text_len,
        read_modes(config.get("normalization_mapping"), f"{where}: normalization_mapping")
        or {"VISUAL": NormMode.IDENTITY, "STATE": MODES[family], "ACTION": MODES[family]},
        natural("empty_cameras", 0),
        _flag(get("use_relative_actions"), f"{where}: use_relative_actions"),
        texts(get("relative_exclude_joints") or [], f"{where}: relative_exclude_joints"),
        None if names is None else texts(names, f"{where}: action_feature_names"),
        natural("rtc_training_max_delay", 0),
        str(get("action_tokenizer_name")),
        "use_relative_actions" in config,
    )


def read_modes(value: Any, where: str) -> dict[str, NormMode]:
    """Returns how each type of feature is normalised, by LeRobot's words; {} of None.

    Raises:
        CheckpointError: A mode that no LeRobot has.
    """
    if value is None:
        return {}
    try:
        return {str(kind): NormMode(str(mode).lower()) for kind, mode in value.items()}
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{where}: {error}") from error


def texts(value: object, where: str) -> tuple[str, ...]:
    """Returns a list of texts.

    Raises:
        CheckpointError: It is something else.
    """
    if not are_texts(value):
        raise CheckpointError(f"{where}: expected a list of texts, got {value!r}")
    return tuple(value)


def _refuse_unknown(config: Mapping[str, Any], where: str) -> None:
    for name, value in config.items():
        if name in FIXED:
            if value != FIXED[name]:
                why = WAYS_OUT.get(name, f"only {FIXED[name]!r} is supported")
                raise CheckpointError(f"{where}: {name} is {value!r}, which changes actions: {why}")
        elif name not in KNOWN and not name.startswith(HARMLESS_BEGINNINGS):
            raise CheckpointError(
                f"{where}: this pioxide does not know the field {name!r} ({value!r}); if it changes no "
                "action, take it out of the file"
            )


def _features(value: Any, where: str) -> dict[str, Feature] | None:
    if value is None:
        return None
    try:
        read = {key: Feature(str(one["type"]), tuple(one["shape"])) for key, one in value.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{where}: expected features with type and shape ({error!r})") from error
    for key, feature in read.items():
        if not all(_is_natural(n) and n > 0 for n in feature.shape):
            raise CheckpointError(f"{where}: {key}: shape {list(feature.shape)} is none")
    return read


def _is_natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _image_size(value: Any, where: str) -> int:
    try:
        height, width = value
    except (TypeError, ValueError):
        raise CheckpointError(f"{where}: image_resolution: expected two numbers, got {value!r}") from None
    if height != width or not isinstance(height, int) or height < 1:
        raise CheckpointError(f"{where}: image_resolution {value!r}: only square images are supported")
    return height


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise CheckpointError(f"{where}: expected true or false, got {value!r}")
    return value
