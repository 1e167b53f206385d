"""The config of the model that a checkpoint holds: from its tensors, its contract, and what a caller says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pioxide.contract import PromptStyle
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

    a = checkpoint.architecture
    known_fields = ConfigFields.__annotations__.keys() - {"decoding" if a.kind.is_flow else "memory"}
    if unknown := sorted(fields.keys() - known_fields):
        raise InputError(
            f"{unknown[0]}: no field of {a.kind.symbol}'s config; there are {sorted(known_fields)}"
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
    contract = checkpoint.contract
    horizon = action_horizon or contract.action_horizon
    if not horizon:
        raise InputError(
            f"{checkpoint.path} does not say how many actions are in a chunk: pass action_horizon (50 for "
            "openpi's base models)"
        )
    text = text_len or contract.text_len
    common: dict[str, Any] = options | {"vision": _vision(a), "action_horizon": horizon}
    common |= {"text_len": text} if text else {}
    if contract.cameras:
        common.setdefault("cameras", tuple(camera.slot for camera in contract.cameras))
    if a.kind is Family.PI0_FAST:
        dim = action_dim or contract.model_dim
        if not dim:
            raise InputError(
                f"{checkpoint.path} is π0-FAST, whose tensors don't tell its actions: pass action_dim"
            )
        if contract.answer_gap == 0 or contract.prompt_style is PromptStyle.LEROBOT:  # which leaves none
            common.setdefault("decoding", DecodingConvention.TRAINING)
        return Pi0FastConfig(language=_gemma(a, 0), action_dim=dim, **common)
    if action_dim not in (None, a.action_dim):
        raise InputError(f"{checkpoint.path} has actions of {a.action_dim} dimensions, not {action_dim}")
    common.setdefault("text_len", a.kind.text_len)
    if contract.memory:
        common.setdefault("memory", MemoryConfig(contract.memory.frames, contract.memory.every))
    assert a.action_dim is not None
    return Pi0Config(
        language=_gemma(a, 0),
        action=_gemma(a, 1),
        pi05=a.kind is Family.PI05,
        action_dim=a.action_dim,
        **common,
    )


def _vision(a: Architecture) -> SiglipConfig:
    from pioxide.models import SiglipConfig

    v = a.vision
    if v.heads * v.head_dim != v.width:
        raise CheckpointError(
            f"the image tower has {v.heads} heads of {v.head_dim}, which do not make {v.width}"
        )
    return SiglipConfig(v.width, v.depth, v.mlp, v.heads, v.patch, v.image_size)


def _gemma(a: Architecture, i: int) -> GemmaConfig:
    from pioxide.models import ExpertConfig, GemmaConfig

    e = a.experts[i]
    return GemmaConfig(
        (ExpertConfig(e.width, e.mlp),),
        depth=a.depth,
        heads=e.heads,
        kv_heads=e.kv_heads,
        head_dim=e.head_dim,
        vocab=a.vocab,
    )
