"""The config of the model that a checkpoint holds: from its tensors, its contract, and what a caller says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pioxide.contract import PromptStyle, shared_contract
from pioxide.errors import CheckpointError, InputError
from pioxide.family import Family
from pioxide.weights.architecture import Architecture
from pioxide.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from jax.typing import DTypeLike

    from pioxide.models import GemmaConfig, Pi0Config, Pi0FastConfig, SiglipConfig
    from pioxide.models.decoding import DecodingConvention
    from pioxide.models.memory import MemoryConfig


class ConfigFields(TypedDict, total=False):
    """Fields of a model's config that its tensors don't tell.

    Attributes:
        action_horizon: Actions in a chunk. `config.json` says it, and for openpi's released checkpoints it is
            known by name; otherwise it must be given.
        action_dim: π0-FAST's, which must be given likewise; π0's and π0.5's is in the tensors.
        text_len: Ids in a prompt; by default as the horizon, else the family's (48, 200, 250).
        cameras: Names of the cameras, in the prefix's order.
        dtype: What the transformers compute in.
        remat: Whether training recomputes layers on the way back instead of keeping them.
        decoding: π0-FAST: where generated tokens stand.
        memory: π0.5: of what it saw before; the contract's where it is not given.
    """

    action_horizon: int | None
    action_dim: int | None
    text_len: int | None
    cameras: tuple[str, ...]
    dtype: DTypeLike
    remat: bool
    decoding: DecodingConvention
    memory: MemoryConfig | None


def configure(checkpoint: Checkpoint, **fields: Unpack[ConfigFields]) -> Pi0Config | Pi0FastConfig:
    """Returns the config of the model that a checkpoint holds.

    Args:
        checkpoint: Opened; of π0, π0.5 or π0-FAST.
        fields: What its tensors don't tell, see `ConfigFields`.

    Raises:
        InputError: PaliGemma alone is no policy; or the horizon or dimension is not known; or a field is none
            of this model's.
    """
    from pioxide.models import Pi0Config, Pi0FastConfig
    from pioxide.models.decoding import DecodingConvention
    from pioxide.models.memory import MemoryConfig

    architecture = checkpoint.architecture
    known_fields = ConfigFields.__annotations__.keys() - {
        "decoding" if architecture.kind.is_flow else "memory"
    }
    if unknown := sorted(fields.keys() - known_fields):
        raise InputError(
            f"{unknown[0]}: no field of {architecture.kind.symbol}'s config; there are {sorted(known_fields)}"
        )
    options: dict[str, Any] = dict(fields)
    action_horizon, action_dim, text_len = (
        options.pop(name, None) for name in ("action_horizon", "action_dim", "text_len")
    )
    if checkpoint.format.startswith("paligemma"):
        raise InputError(
            f"{checkpoint.path} is PaliGemma, which has no actions: make a model and fill its language and "
            "vision with `load_into(model, checkpoint)`"
        )
    # Of several robots a network needs what they all say.
    contract = checkpoint.contract if checkpoint.robot else shared_contract(checkpoint.contracts)
    horizon = action_horizon or contract.action_horizon
    if not horizon:
        raise InputError(
            f"{checkpoint.path} does not say how many actions are in a chunk: pass action_horizon (50 for "
            "openpi's base models)"
        )
    text = text_len or contract.text_len
    common: dict[str, Any] = options | {"vision": _vision(architecture), "action_horizon": horizon}
    common |= {"text_len": text} if text else {}
    if contract.cameras:
        common.setdefault("cameras", tuple(camera.slot for camera in contract.cameras))
    if architecture.kind is Family.PI0_FAST:
        dim = action_dim or contract.model_dim
        if not dim:
            raise InputError(
                f"{checkpoint.path} is π0-FAST, whose tensors don't tell its actions: pass action_dim"
            )
        if contract.answer_gap == 0 or contract.prompt_style is PromptStyle.LEROBOT:  # which leaves none
            common.setdefault("decoding", DecodingConvention.TRAINING)
        return Pi0FastConfig(language=_gemma(architecture, 0), action_dim=dim, **common)
    if action_dim not in (None, architecture.action_dim):
        raise InputError(
            f"{checkpoint.path} has actions of {architecture.action_dim} dimensions, not {action_dim}"
        )
    common.setdefault("text_len", architecture.kind.text_len)
    if contract.memory:
        common.setdefault("memory", MemoryConfig(contract.memory.frames, contract.memory.every))
    assert architecture.action_dim is not None
    return Pi0Config(
        language=_gemma(architecture, 0),
        action=_gemma(architecture, 1),
        pi05=architecture.kind is Family.PI05,
        action_dim=architecture.action_dim,
        **common,
    )


def _vision(architecture: Architecture) -> SiglipConfig:
    from pioxide.models import SiglipConfig

    vision = architecture.vision
    if vision.heads * vision.head_dim != vision.width:
        raise CheckpointError(
            f"the image tower has {vision.heads} heads of {vision.head_dim}, which do not make {vision.width}"
        )
    return SiglipConfig(vision.width, vision.depth, vision.mlp, vision.heads, vision.patch, vision.image_size)


def _gemma(architecture: Architecture, index: int) -> GemmaConfig:
    from pioxide.models import ExpertConfig, GemmaConfig

    expert = architecture.experts[index]
    return GemmaConfig(
        (ExpertConfig(expert.width, expert.mlp),),
        depth=architecture.depth,
        heads=expert.heads,
        kv_heads=expert.kv_heads,
        head_dim=expert.head_dim,
        vocab=architecture.vocab,
    )
