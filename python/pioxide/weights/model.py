"""From a checkpoint to the model it describes, filled, and the way back.

Shapes are equal on both sides (see `names`), so parameters go straight from a file to where the model keeps
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from pioxide.contract import CameraSlot, Contract, merge
from pioxide.errors import CheckpointError, ContractError, InputError
from pioxide.transforms import Stats
from pioxide.weights.architecture import Architecture, compare, recognise
from pioxide.weights.checkpoint import Checkpoint, load, stream
from pioxide.weights.companions import OWN, Companions
from pioxide.weights.convert import Target, Written, write_checkpoint
from pioxide.weights.model_config import ConfigFields, configure
from pioxide.weights.names import OPENPI
from pioxide.weights.place import DeviceTree, Shardings, put
from pioxide.weights.tree import Problems, Spec, Tree, parse_dtype

if TYPE_CHECKING:
    from flax import nnx
    from jax.typing import DTypeLike

    from pioxide.models import Pi0, Pi0Config, Pi0Fast, Pi0FastConfig
    from pioxide.models.typed import FlatState

# What π0 and π0.5 have beyond PaliGemma.
ACTION_EXPERT = r"PaliGemma/llm/.*_1/.*|(action|state|time)_.*"


def build(
    checkpoint: Checkpoint,
    config: Pi0Config | Pi0FastConfig | None = None,
    *,
    param_dtype: DTypeLike | None = None,
    sharding: Shardings | None = None,
    lora_scale: float = 1.0,
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
    **fields: Unpack[ConfigFields],
) -> Pi0 | Pi0Fast:
    """Returns the model that a checkpoint holds, with its weights.

    Each tensor goes from the file to its place before the next is read: in host memory there is never more
    than one, and nothing is drawn at random first. Low-rank updates stay apart from the weights (openpi's
    rule); `checkpoint.merged()` adds them.

    Args:
        checkpoint: Opened.
        config: Of the model; by default what `configure` finds.
        param_dtype: To keep parameters in: float32, bfloat16 or float16; each tensor's own by default.
        sharding: Where each parameter goes, by shape and dtype (`parameter_sharding(mesh)`); the default
            device without it.
        lora_scale: Alpha / rank of low-rank updates; 1 in all of openpi's configs.
        on_bytes: Told what was read.
        fields: For `configure`.

    Raises:
        CheckpointError: A tensor is missing, extra, of another shape or not finite; lists all such.
        InputError: See `configure`; or a config and fields are both given.
    """
    from flax import nnx

    from pioxide.models import Pi0, Pi0Config, Pi0Fast, typed

    if config is not None and fields:
        raise InputError(f"{', '.join(fields)} can't be given beside a config")
    config = configure(checkpoint, **fields) if config is None else config
    if param_dtype is not None:
        config = replace(config, param_dtype=parse_dtype(param_dtype))

    def make() -> Pi0 | Pi0Fast:
        rngs = nnx.Rngs(0)
        model = Pi0(config, rngs) if isinstance(config, Pi0Config) else Pi0Fast(config, rngs)
        if checkpoint.architecture.lora:
            _add_lora(model, checkpoint.architecture, lora_scale, rngs)
        return model

    graph, state = typed.split(nnx.eval_shape(make))
    flat = typed.flat(state)
    own_of, _ = _matched(flat, checkpoint, None)

    def stored(path: str, spec: Spec) -> np.dtype[Any]:
        return spec.dtype if param_dtype is None else parse_dtype(param_dtype)

    for path, array in stream(checkpoint.tree, stored, on_bytes):
        where = None if sharding is None else sharding(Spec(array.shape, array.dtype))
        flat[own_of[path]] = typed.replaced(flat[own_of[path]], put(array, where))
        del array  # before the next one is read
    return nnx.merge(graph, typed.nested(flat))


def load_model(
    path: str | Path,
    config: Pi0Config | Pi0FastConfig | None = None,
    *,
    param_dtype: DTypeLike | None = None,
    sharding: Shardings | None = None,
    lora_scale: float = 1.0,
    **fields: Unpack[ConfigFields],
) -> Pi0 | Pi0Fast:
    """Opens a checkpoint of any format and builds its model; see `load` and `build`."""
    with load(path) as checkpoint:
        return build(
            checkpoint, config, param_dtype=param_dtype, sharding=sharding, lora_scale=lora_scale, **fields
        )


def load_into(
    model: nnx.Module,
    checkpoint: Checkpoint,
    *,
    keep: str | None = None,
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> tuple[str, ...]:
    """Fills a model that is there already, in its own dtypes and shardings, in place.

    Args:
        model: π0, π0.5 or π0-FAST.
        checkpoint: Opened.
        keep: A regular expression over openpi's paths: parameters it matches in full may be missing from the
            checkpoint, and stay as they are. For PaliGemma it is the action expert by default. A model with
            new LoRA is filled from one without by `keep=".*lora.*"`.
        on_bytes: Told what was read.

    Returns:
        Openpi's paths of the parameters that stayed as they were.

    Raises:
        CheckpointError: A tensor is missing, extra, of another shape or not finite; lists all such. Of a
            non-finite checkpoint the finite tensors may have been filled in.
    """
    from flax import nnx

    from pioxide.models import typed

    if keep is None and checkpoint.format.startswith("paligemma"):
        keep = ACTION_EXPERT
    flat = typed.parameters(model)
    own_of, kept = _matched(flat, checkpoint, keep)
    places = {path: (np.dtype(flat[own][...].dtype), flat[own][...].sharding) for path, own in own_of.items()}
    del flat  # the model alone holds its old values, and loses each as the new one comes
    for path, array in stream(checkpoint.tree, lambda path, _: places[path][0], on_bytes):
        leaf = nnx.Param(put(array, places[path][1]))
        typed.update(model, typed.nested({own_of[path]: leaf}))
        del array, leaf
    return kept


def tree_of(model: nnx.Module, where: str = "the model") -> Tree:
    """Returns a model's parameters under openpi's paths, read from the devices when asked for."""
    from pioxide.models import typed

    leaves = {_path(own): leaf[...] for own, leaf in typed.parameters(model).items()}
    return DeviceTree(leaves, where)


def save(
    model: nnx.Module,
    target: str | Path,
    to: Target = "openpi",
    *,
    dtype: DTypeLike | None = None,
    contract: Contract | None = None,
    norm_stats: Mapping[str, Stats] | None = None,
    asset_id: str = "own",
    fast_tokenizer: Path | None = None,
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> Written:
    """Writes a model as openpi, LeRobot or openpi's PyTorch port has it. The way back of `build`.

    Args:
        model: π0, π0.5 or π0-FAST.
        target: Directory to make. It appears when everything is in it.
        to: "openpi", "lerobot" or "openpi-pytorch".
        dtype: To store; each parameter's own by default.
        contract: What the model's numbers mean, written as `contract.json` and, for LeRobot, as its own
            files. Without it only the config's sizes are known, no `contract.json` is written, and a reader
            takes the rest for what the format's owner does.
        norm_stats: By key ("state", "actions"), written as `assets/<asset_id>/norm_stats.json`; by default
            the contract's.
        asset_id: Of which robot they are.
        fast_tokenizer: Directory of a FAST tokenizer to copy.
        on_bytes: Told what was written.

    Raises:
        CheckpointError: A parameter is not finite; or the format has no such model. Low-rank updates can be
            saved only where they follow openpi's rule.
        ContractError: The model is not the contract's, or statistics are given twice and differ; or it sees
            the past.
        OutputError: The target exists or can't be written.
    """
    _check_lora(model)
    if getattr(getattr(model, "config", None), "memory", None) is not None:
        raise ContractError("memory: this model sees the past, which no format of others says")
    tree = tree_of(model)
    architecture = recognise(tree)
    if problems := architecture.compare(tree):
        raise problems.error(tree.where)
    said = _sizes(model, architecture)
    if contract is not None:
        said = merge(contract, said, names=(contract.source or "the contract", "the model"))
    if norm_stats is not None:
        said = merge(said, Contract(norm_stats=norm_stats), names=("the contract", "norm_stats"))
    stats = {OWN: said.norm_stats} if said.norm_stats else {}
    return write_checkpoint(
        tree,
        architecture,
        Companions(stats, fast_tokenizer),
        Path(target),
        to,
        contract=said,
        own_file=contract is not None,
        dtype=None if dtype is None else parse_dtype(dtype),
        asset_id=asset_id,
        on_bytes=on_bytes,
    )


def _sizes(model: nnx.Module, architecture: Architecture) -> Contract:
    """Returns what a model's config says of its numbers."""
    config: Pi0Config | Pi0FastConfig | None = getattr(model, "config", None)
    sizes = Contract(family=architecture.kind, image_size=architecture.vision.image_size)
    if config is None:
        return sizes
    return replace(
        sizes,
        action_horizon=config.action_horizon,
        text_len=config.text_len,
        model_dim=config.action_dim,
        cameras=tuple(CameraSlot(name) for name in config.cameras),
    )


def _matched(
    flat: FlatState, checkpoint: Checkpoint, keep: str | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns own path by openpi path, of everything to be filled; and the openpi paths of what is not.

    Raises:
        CheckpointError: The tensors are not the model's; lists all that don't fit.
    """
    specs = checkpoint.tree.specs
    own_of = {_path(own): own for own in flat}
    kept = tuple(p for p in own_of if p not in specs and keep is not None and re.fullmatch(keep, p))
    problems = Problems()
    problems += checkpoint.tree.problems
    problems += compare(
        {p: tuple(flat[own].shape) for p, own in own_of.items() if p not in kept},
        specs,
        checkpoint.tree.spelling,
    )
    if problems:
        raise problems.error(str(checkpoint.path))
    return {path: own for path, own in own_of.items() if path not in kept}, kept


def _path(own: tuple[Any, ...]) -> str:
    name = "/".join(map(str, own))
    if name not in OPENPI:
        raise CheckpointError(f"the parameter {name} has no name in other projects' checkpoints")
    return OPENPI[name]


def _check_lora(model: Any) -> None:
    from pioxide.models.lora import ATTENTION, MLP, LowRank

    for expert in getattr(model.language.blocks, "experts", ()):
        for name in (*ATTENTION, *MLP):
            module = getattr(expert, name)
            if not isinstance(module, LowRank):
                continue
            if (name == "out" and not module.sum_heads) or (name in MLP and module.scale != 1.0):
                raise CheckpointError(
                    f"the low-rank update of {name!r} does not follow openpi's rule, which a checkpoint's "
                    "readers would compute it by: merge it first (merge_lora)"
                )


def _add_lora(model: Any, a: Architecture, scale: float, rngs: nnx.Rngs) -> None:
    from pioxide.models.lora import ATTENTION, MLP, LoraConfig, LoraRule, add_lora

    for weights, rank_of in ((ATTENTION, "lora_attention"), (MLP, "lora_mlp")):
        ranks = [getattr(expert, rank_of) for expert in a.experts]
        configs = [
            LoraConfig(rank, rank * scale, rule=LoraRule.OPENPI, weights=weights) if rank else None
            for rank in ranks
        ]
        add_lora(model.language, configs, rngs)
