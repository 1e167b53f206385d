"""From a contract and settings to the network: its config, its first values, what of it is trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from pioxide.contract import (
    UNKNOWN,
    CameraSlot,
    Contract,
    SubtaskStyle,
    Unknown,
    describe,
    known,
    refuse_differences,
    robot_name,
    shared_contract,
)
from pioxide.engine.device import tuning_here
from pioxide.errors import ContractError, InputError
from pioxide.family import Family
from pioxide.models import (
    LoraConfig,
    LoraParam,
    LoraRule,
    Pi0,
    Pi0Config,
    Pi0Fast,
    Pi0FastConfig,
    add_lora,
    parameter_sharding,
    spread,
)
from pioxide.models.decoding import DecodingConvention
from pioxide.models.memory import MemoryConfig
from pioxide.models.tuning import Tuning
from pioxide.train.config import (
    FLOW_ALONE,
    ActionLoss,
    Lora,
    LoraStyle,
    ModelSettings,
    Remat,
    Size,
    TrainConfig,
)
from pioxide.weights import Checkpoint, configure, load, load_into

ModelConfig = Pi0Config | Pi0FastConfig
# What a network can't be fine-tuned away from without learning its inputs again.
SAME_AS_BASE = ("family", "cameras", "absent_camera", "prompt_style", "model_dim", "image_size", "resize")


def model_config(
    contract: Contract, settings: ModelSettings, vocab_size: int, base: Checkpoint | None = None
) -> ModelConfig:
    """Returns the config of the network that a contract describes.

    Args:
        contract: Says family, cameras, horizon, width, lengths and image size.
        settings: Size and precision.
        vocab_size: Ids of the text model.
        base: Whose sizes are taken in place of `settings.size`.

    Raises:
        ContractError: The contract leaves a field open that the network needs.
        InputError: The text model or the image size is not one for this network.
    """
    needed = ("family", "cameras", "action_horizon", "text_len", "model_dim", "image_size", "memory")
    contract.require(*needed, doing="training")
    said: dict[str, Any] = {
        "cameras": tuple(camera.slot for camera in known(contract.cameras, "cameras")),
        "action_horizon": contract.action_horizon,
        "text_len": contract.text_len,
        "dtype": jnp.dtype(settings.dtype),
        "remat": settings.remat is not Remat.NONE,
    }
    family = known(contract.family, "family")
    if base is None or base.format.startswith("paligemma"):
        preset = _preset(family, settings.size)
    else:
        # Of π0-FAST the tensors don't tell its actions, nor does a base of several robots.
        dim = None if family.is_flow else known(contract.model_dim, "model_dim")
        horizon = known(contract.action_horizon, "action_horizon")
        preset = configure(base, action_horizon=horizon, action_dim=dim)
    if base is None:
        language = replace(preset.language, vocab=vocab_size)
    elif preset.language.vocab == vocab_size:
        language = preset.language
    else:
        raise InputError(
            f"the text model has {vocab_size:,} ids, and the table of {base.path} {preset.language.vocab:,} "
            "rows: pass the text model that it was trained with"
        )
    size = known(contract.image_size, "image_size")
    if size % preset.vision.patch:
        raise InputError(f"image_size {size} is no multiple of this tower's patches of {preset.vision.patch}")
    said |= {"language": language, "vision": replace(preset.vision, image_size=size)}
    said["action_dim"] = known(contract.model_dim, "model_dim")
    if contract.memory:
        said["memory"] = MemoryConfig(contract.memory.frames, contract.memory.every)
        if contract.memory.every > preset.vision.depth:
            raise InputError(
                f"memory_every {contract.memory.every}: this network's vision tower has "
                f"{preset.vision.depth} layers, of which none would attend over time"
            )
    elif isinstance(preset, Pi0Config):
        said["memory"] = None
    if isinstance(preset, Pi0FastConfig):
        # What is trained here continues a prompt where training did, without openpi's gap.
        said["decoding"] = DecodingConvention.TRAINING
    return replace(preset, **said)


def _preset(family: Family, size: Size) -> ModelConfig:
    if family is Family.PI0_FAST:
        return {
            Size.TINY: Pi0FastConfig.tiny,
            Size.MINI: Pi0FastConfig.mini,
            Size.SMALL: Pi0FastConfig.small,
            Size.FULL: Pi0FastConfig.pi0_fast,
        }[size]()
    pi05 = family is Family.PI05
    return {
        Size.TINY: lambda: Pi0Config.tiny(pi05=pi05),
        Size.MINI: lambda: Pi0Config.mini(pi05=pi05),
        Size.SMALL: lambda: Pi0Config.small(pi05=pi05),
        Size.FULL: Pi0Config.pi05_base if pi05 else Pi0Config.pi0,
    }[size]()


def open_base(path: str | Path, contracts: Sequence[Contract]) -> Checkpoint:
    """Opens the checkpoint to start from; close it.

    Args:
        path: Of a base of one robot, of several, or of none that it names.
        contracts: Of the run's robots, one each.

    Raises:
        CheckpointError: It is none, or damaged.
        ContractError: It was trained for another family or other inputs than a contract's.
    """
    base = load(path)
    try:
        if not base.format.startswith("paligemma"):
            for contract in contracts:
                names = (f"the base {path}", contract.source or "the data")
                said = _as_base(base.contracts, contract, alone=len(contracts) == 1)
                refuse_differences(said, contract, names=names, only=SAME_AS_BASE)
    except BaseException:
        base.close()
        raise
    return base


def _as_base(contracts: Sequence[Contract], contract: Contract, *, alone: bool) -> Contract:
    """Returns what a base says to one of a run's robots: to one that is not its own, the model's side alone.

    A camera's key is a robot's own, as is what π0-FAST writes of each action.
    """
    if alone and len(contracts) == 1:
        return contracts[0]
    own = [one for one in contracts if one.robot and one.robot.name == robot_name(contract)]
    if own:
        return own[0]
    said = shared_contract(contracts)
    if not isinstance(said.cameras, Unknown):
        said = replace(said, cameras=tuple(CameraSlot(camera.slot) for camera in said.cameras))
    return said if said.family and said.family.is_flow else replace(said, model_dim=UNKNOWN)


def _lora_configs(lora: Lora) -> list[LoraConfig | None]:
    def of(rank: int) -> LoraConfig | None:
        if not rank:
            return None
        rule = LoraRule.PLAIN if lora.style is LoraStyle.PLAIN else LoraRule.OPENPI
        return LoraConfig(rank, lora.alpha or float(rank), lora.rank_stabilised, rule)

    return [of(lora.language), of(lora.action)]


def trained_filter(config: TrainConfig) -> Callable[[Any, Any], bool]:
    """Returns a filter for `nnx.split`: which parameters are trained, by path and kind."""
    frozen = [re.compile(pattern) for pattern in config.freeze]
    for expert, rank in enumerate((config.lora.language, config.lora.action)):
        if rank:
            frozen.append(re.compile(rf"language/(blocks/experts|final_norms)/{expert}(/|$)"))
    if config.lora.language:
        frozen.append(re.compile("language/embedding$"))

    def trains(path: Any, value: Any) -> bool:
        if isinstance(value, LoraParam):
            return True
        name = "/".join(map(str, path))
        return isinstance(value, nnx.Param) and not any(one.match(name) for one in frozen)

    return trains


class Plan(NamedTuple):
    """A network that is not made yet.

    Attributes:
        graph: Of the network, as `nnx.split` gives it.
        trained: Shapes and places of the trained parameters, float32, as a pure tree.
        frozen: Of the others.
        draw: Returns both, drawn; to be compiled, so that each device draws its part.
    """

    graph: Any
    trained: Any
    frozen: Any
    draw: Callable[[], tuple[Any, Any]]


def plan_network(config: TrainConfig, model: ModelConfig, mesh: Mesh, tuning: Tuning) -> Plan:
    """Returns the network as shapes and places: no array is made.

    Raises:
        InputError: Nothing would be trained, or a `freeze` pattern names no parameter.
    """
    trains = trained_filter(config)
    frozen_dtype = jnp.dtype(config.model.frozen_dtype)

    def make() -> Pi0 | Pi0Fast:
        rngs = nnx.Rngs(config.seed)
        made = Pi0(model, rngs) if isinstance(model, Pi0Config) else Pi0Fast(model, rngs)
        if config.lora.language or config.lora.action:
            configs = _lora_configs(config.lora)
            add_lora(made.language, configs if isinstance(model, Pi0Config) else configs[:1], rngs)
        spread(made, mesh)
        made.language.tuning = made.vision.blocks.attention.tuning = tuning
        return made

    if isinstance(model, Pi0FastConfig) and config.lora.action:
        raise InputError("lora.action: π0-FAST has no action expert")

    def parts(made: nnx.Module) -> tuple[Any, Any]:
        _, trained, frozen = nnx.split(made, trains, ...)
        cast = jax.tree.map(lambda x: x.astype(jnp.float32), nnx.as_pure(trained))
        return cast, jax.tree.map(lambda x: x.astype(frozen_dtype), nnx.as_pure(frozen))

    abstract = nnx.eval_shape(make)
    _check_patterns(config, abstract)
    place = parameter_sharding(mesh)
    trained, frozen = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(x)),
        jax.eval_shape(lambda: parts(make())),
    )
    return Plan(nnx.split(abstract, trains, ...)[0], trained, frozen, lambda: parts(make()))


def make_network(
    config: TrainConfig, model: ModelConfig, mesh: Mesh, base: Checkpoint | None
) -> tuple[Any, Any, Any]:
    """Makes the network on its devices: drawn in shards, then filled from the base.

    Returns:
        The graph, and the trained (float32) and frozen parameters as pure trees.

    Raises:
        CheckpointError: The base's tensors are not this network's.
        InputError: Nothing would be trained, or a `freeze` pattern names no parameter.
    """
    graph, trained, frozen, draw = plan_network(config, model, mesh, tuning_here(gradients=True))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, (trained, frozen))
    trained, frozen = jax.jit(draw, out_shardings=shardings)()
    if base is not None:
        whole = nnx.merge(graph, trained, frozen)
        del trained, frozen
        keep = None if base.format.startswith("paligemma") else ".*lora.*"
        load_into(whole, base, keep=keep)
        graph, trained, frozen = nnx.split(whole, trained_filter(config), ...)
        trained, frozen = nnx.as_pure(trained), nnx.as_pure(frozen)
    return graph, trained, frozen


def _check_patterns(config: TrainConfig, abstract: nnx.Module) -> None:
    flat = dict(nnx.to_flat_state(nnx.state(abstract, nnx.Param)))
    names = ["/".join(map(str, path)) for path in flat]
    for pattern in config.freeze:
        if not any(re.match(pattern, name) for name in names):
            raise InputError(f"freeze: {pattern!r} begins no parameter's path; there are {names[:3]} ...")
    trains = trained_filter(config)
    if not any(trains(path, value) for path, value in flat.items()):
        raise InputError("freeze: nothing is left to train")


def check_contract(contract: Contract, model: ModelConfig, loss: ActionLoss = FLOW_ALONE) -> None:
    """Refuses a contract that a policy could not be made of, before a run instead of after it.

    Raises:
        ContractError: A field that running the policy needs is unknown, or no tokenizer is named for action
            tokens that are to be learnt.
        InputError: What is to be learnt is not this network's.
    """
    from pioxide.policy.agree import NEEDED, check_model

    contract.require(*NEEDED, doing="running the policy that is trained")
    if contract.fast is None and model.family is Family.PI0_FAST:
        raise ContractError("fast: π0-FAST needs a FAST tokenizer, and the contract says there is none")
    if not model.family.is_flow and (loss.answers or loss.flow_num_repeats > 1):
        raise InputError(f"loss: {model.family.symbol} has no flow; it learns tokens alone, as it is")
    if loss.tokens and contract.fast is None:
        raise ContractError(
            f"fast: loss.targets is {loss.targets}, and the contract says there is no action tokenizer"
        )
    if loss.subtasks != (contract.subtask_style is SubtaskStyle.INSTEAD):
        raise ContractError(
            f"subtask_style: loss.subtasks is {loss.subtasks}, and the contract says "
            f"{describe('subtask_style', contract.subtask_style)}"
        )
    if isinstance(model, Pi0FastConfig):
        # Of several robots each writes as many numbers as it has, with the same network.
        model = replace(model, action_dim=known(contract.model_dim, "model_dim"))
    check_model(contract, model)
