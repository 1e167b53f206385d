"""One checkpoint format -> another, tensor by tensor, with what belongs to it; whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from pioxide.codec import CODEC_FILE
from pioxide.contract import (
    CARD,
    UNKNOWN,
    Contract,
    PromptStyle,
    Resize,
    assign_cameras,
    describe,
    known,
    merge,
    model_card,
    save_contract,
)
from pioxide.errors import ContractError, InputError, OutputError
from pioxide.family import RELEASED_ACTION_DIM
from pioxide.files import new_directory, write_json, write_text
from pioxide.transforms import NormRule, save_norm_stats
from pioxide.weights.architecture import Architecture
from pioxide.weights.checkpoint import Checkpoint
from pioxide.weights.companions import OWN, Companions
from pioxide.weights.lerobot_base import base_files
from pioxide.weights.lerobot_writer import LerobotFiles, lerobot_files
from pioxide.weights.openpi import write_openpi
from pioxide.weights.pytorch import VOCABULARY
from pioxide.weights.pytorch_names import EMBEDDING
from pioxide.weights.pytorch_writer import openpi_config, variants, write_pytorch
from pioxide.weights.tree import Array, Problems, Tree, count_not_finite

Target = Literal["openpi", "lerobot", "openpi-pytorch"]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: The checkpoint.
        files: Names of everything in it.
        nbytes: Their size together.
        left_out: What the source had and this format has no place for, in words.
    """

    path: Path
    files: tuple[str, ...]
    nbytes: int
    left_out: tuple[str, ...]


def convert(
    checkpoint: Checkpoint,
    target: Path,
    to: Target,
    *,
    stated: Contract | None = None,
    dtype: np.dtype[Any] | None = None,
    asset_id: str = "own",
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> Written:
    """Writes a checkpoint in another format, with what its numbers mean.

    Args:
        checkpoint: Opened; `merged()` first where LoRA is to be added to the weights.
        target: Directory to make. It appears when everything is in it.
        to: The format.
        stated: What the source does not say, as `Contract(action_horizon=50)`.
        dtype: To store; each tensor's own by default.
        asset_id: The name for statistics that have none in the source.
        on_bytes: Told what was written, by path.

    Raises:
        CheckpointError: A tensor is missing, extra, of another shape or not finite (lists all such); or the
            format can't hold this model.
        ContractError: The format needs a field that neither the source nor `stated` says, or they disagree;
            or the model sees the past, which no format of others says.
        InputError: No such format, or an asset id that leads out of the target.
        OutputError: The target exists or can't be written.
    """
    if problems := checkpoint.problems():
        raise problems.error(str(checkpoint.path))
    contract = checkpoint.contract
    if stated is not None:
        contract = merge(contract, stated, names=(str(checkpoint.path), "what was stated"))
        if stated.robot and contract.cameras:
            slots = assign_cameras(contract.cameras, stated.robot, where=str(checkpoint.path))
            contract = replace(contract, cameras=slots)
    companions = checkpoint.companions
    if contract.norm_stats and not companions.norm_stats:  # only the contract says them
        companions = replace(companions, norm_stats={OWN: contract.norm_stats})
    return write_checkpoint(
        checkpoint.tree,
        checkpoint.architecture,
        companions,
        target,
        to,
        contract=contract,
        dtype=dtype,
        asset_id=asset_id,
        on_bytes=on_bytes,
    )


def write_checkpoint(
    tree: Tree,
    architecture: Architecture,
    companions: Companions,
    target: Path,
    to: Target,
    *,
    contract: Contract,
    own_file: bool = True,
    dtype: np.dtype[Any] | None = None,
    asset_id: str = "own",
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> Written:
    """Does what `convert` does for tensors that need not lie in a checkpoint.

    `own_file` is whether `contract.json` is written: not where nobody stated the contract, and only the
    model's own sizes are known.
    """
    _check_request(companions, target, to, asset_id)
    contract = replace(contract, family=architecture.kind, image_size=architecture.vision.image_size)
    if contract.memory and to != "lerobot":
        raise ContractError(
            "memory: these weights see the past, and openpi's formats are read by what shows them the "
            "present alone; keep the checkpoint as it is"
        )
    files = _lerobot_files(contract, architecture) if to == "lerobot" else None
    if to == "openpi-pytorch":
        contract.require("action_horizon", doing="writing openpi's config.json")
    stored = "bfloat16" if (dtype or tree.specs[EMBEDDING].dtype).itemsize == 2 else "float32"
    checked = CheckedTree(tree)
    left_out: list[str] = []
    with new_directory(target) as partial:
        if to == "openpi":
            write_openpi(checked, partial / "params", dtype, on_bytes=on_bytes)
        else:
            write_pytorch(checked, architecture, partial, to, dtype=dtype, on_bytes=on_bytes)
        checked.finish()
        _write_companions(companions, partial, asset_id, left_out)
        rows = tree.specs[EMBEDDING].shape[0]
        if rows != VOCABULARY:
            left_out.append(
                f"a way to write its prompts: it has a vocabulary of its own ({rows:,} ids), and {to} reads "
                "PaliGemma's alone"
            )
        elif companions.text_model is not None:
            left_out.append(
                f"the text model {companions.text_model.name}: `pioxide fetch paligemma` brings it"
            )
        if files is not None:
            network = {"type": architecture.kind.value, "dtype": stored, **variants(architecture)}
            files.write(partial, network)
            left_out += files.left_out
        elif to == "openpi-pytorch":
            horizon = known(contract.action_horizon, "action_horizon")
            write_json(partial / "config.json", openpi_config(architecture, stored, horizon))
        if own_file:
            save_contract(contract, partial)
            write_text(partial / CARD, model_card(contract))
        else:
            left_out.append("what its numbers mean: pass contract= for contract.json")
        if files is None:
            left_out += _beside_openpi(contract)
        names = tuple(sorted(p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file()))
        size = sum((partial / name).stat().st_size for name in names)
    return Written(target, names, size, tuple(left_out))


def _check_request(companions: Companions, target: Path, to: Target, asset_id: str) -> None:
    """Checks what a caller chose, before anything is made."""
    if to not in ("openpi", "lerobot", "openpi-pytorch"):
        raise InputError(f"can't write {to!r}; openpi, lerobot and openpi-pytorch can be written")
    parts = PurePath(asset_id).parts
    if not parts or ".." in parts or PurePath(asset_id).is_absolute():
        raise InputError(f"the asset id {asset_id!r} is no name of a directory in the checkpoint")
    if OWN in companions.norm_stats and asset_id in companions.norm_stats:
        raise InputError(
            f"there are statistics named {asset_id!r} already: pass another asset_id for the others"
        )
    if os.path.lexists(target):
        raise OutputError(f"{target} is there already; name a new directory")


def _lerobot_files(contract: Contract, architecture: Architecture) -> LerobotFiles:
    """Returns LeRobot's files; those of a base model where nobody says whose numbers they are."""
    if contract.robot:
        return lerobot_files(contract)
    width = architecture.action_dim or contract.model_dim or RELEASED_ACTION_DIM
    return base_files(contract, width)


def _beside_openpi(contract: Contract) -> list[str]:
    """Returns what openpi takes from its training configuration, and this contract has otherwise."""
    family = known(contract.family, "family")
    rule = NormRule.openpi(family.normalization)
    other = [
        f"{name} ({describe(name, value)})"
        for name, value, openpis in (
            ("state_norm", contract.state_norm, rule),
            ("action_norm", contract.action_norm, rule),
            ("prompt_style", contract.prompt_style, PromptStyle.OPENPI),
            ("resize", contract.resize, Resize.ANTIALIAS),
            ("state_text_dim", contract.state_text_dim, None),
            ("max_delay", contract.max_delay, 0),
            ("answer_gap", contract.answer_gap, 0 if family.is_flow else 1),
            ("subtask_style", contract.subtask_style, None),
            ("advantage_style", contract.advantage_style, None),
        )
        if value is not UNKNOWN and value != openpis
    ]
    return [f"{what}: openpi itself does otherwise" for what in other]


class CheckedTree(Tree):
    """A tree that counts what is not finite while it is read."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree.where, tree.specs)
        self.tree = tree
        self.bad: dict[str, int] = {}

    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Reads, and counts what is not finite."""
        self.tree.fill(path, out, start)
        if count := count_not_finite(out):
            self.bad[path] = self.bad.get(path, 0) + count

    def blocks(self, path: str) -> Iterator[tuple[int, int]]:
        """As the tree below."""
        return self.tree.blocks(path)

    def finish(self) -> None:
        """Refuses what was found.

        Raises:
            CheckpointError: Some tensors hold NaN or infinite numbers.
        """
        problems = Problems()
        problems.values += [f"{path}: {n:,} of {self.specs[path].size:,}" for path, n in self.bad.items()]
        if problems:
            raise problems.error(self.where)


def _write_companions(companions: Companions, directory: Path, asset_id: str, left_out: list[str]) -> None:
    for name, stats in companions.norm_stats.items():
        short = [key for key, one in stats.items() if one.mean is None and one.q01 is None]
        if short:
            left_out.append(f"the statistics of {' and '.join(short)}, which openpi's file has no place for")
        kept = {key: one for key, one in stats.items() if key not in short}
        if kept:
            save_norm_stats(directory / "assets" / (asset_id if name == OWN else name), kept)
    if companions.fast_tokenizer is not None:
        names = (
            CODEC_FILE,
            "tokenizer.json",
            "processor_config.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        )
        (directory / "fast_tokenizer").mkdir()
        for name in names:
            if (companions.fast_tokenizer / name).is_file():
                shutil.copyfile(companions.fast_tokenizer / name, directory / "fast_tokenizer" / name)


def total_bytes(tree: Tree) -> int:
    """Returns the bytes that `on_bytes` will be told altogether."""
    return sum(spec.nbytes for spec in tree.specs.values())
