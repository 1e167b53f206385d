"""One checkpoint format -> another, tensor by tensor, with what belongs to it; whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from pioxide.errors import InputError, OutputError
from pioxide.files import new_directory
from pioxide.transforms import save_norm_stats
from pioxide.weights.architecture import Architecture
from pioxide.weights.checkpoint import Checkpoint
from pioxide.weights.companions import OWN, Companions
from pioxide.weights.openpi import write_openpi
from pioxide.weights.pytorch_writer import write_pytorch
from pioxide.weights.tree import Array, Problems, Tree, count_not_finite

Target = Literal["openpi", "lerobot", "openpi-pytorch"]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: the checkpoint.
        files: names of everything in it.
        nbytes: their size together.
        left_out: what the source had and this format has no place for, in words.
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
    dtype: np.dtype[Any] | None = None,
    action_horizon: int | None = None,
    asset_id: str = "own",
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> Written:
    """Write a checkpoint in another format.

    Args:
        checkpoint: opened; `merged()` first where LoRA is to be added to the weights.
        target: directory to make. It appears when everything is in it.
        to: the format.
        dtype: to store; each tensor's own by default.
        action_horizon: for LeRobot's and openpi-PyTorch's `config.json`; by default what the source says or
            is known for, else 50.
        asset_id: the name for statistics that have none in the source.
        on_bytes: told what was written, by path.

    Raises:
        CheckpointError: a tensor is missing, extra, of another shape or not finite (lists all such); or the
            format can't hold this model.
        InputError: no such format, no action in a chunk, or an asset id that leads out of the target.
        OutputError: the target exists or can't be written.
    """
    if problems := checkpoint.problems():
        raise problems.error(str(checkpoint.path))
    contract, companions = checkpoint.contract, checkpoint.companions
    if action_horizon is None:
        action_horizon = contract.action_horizon or None
    return write_checkpoint(
        checkpoint.tree,
        checkpoint.architecture,
        companions,
        target,
        to,
        dtype=dtype,
        action_horizon=action_horizon,
        text_len=contract.text_len or None,
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
    dtype: np.dtype[Any] | None = None,
    action_horizon: int | None = None,
    text_len: int | None = None,
    asset_id: str = "own",
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> Written:
    """`convert` for tensors that need not lie in a checkpoint."""
    if to not in ("openpi", "lerobot", "openpi-pytorch"):
        raise InputError(f"can't write {to!r}; openpi, lerobot and openpi-pytorch can be written")
    if action_horizon is not None and action_horizon < 1:
        raise InputError(f"a chunk of {action_horizon} actions: expected at least 1")
    parts = PurePath(asset_id).parts
    if not parts or ".." in parts or PurePath(asset_id).is_absolute():
        raise InputError(f"the asset id {asset_id!r} is no name of a directory in the checkpoint")
    if OWN in companions.norm_stats and asset_id in companions.norm_stats:
        raise InputError(
            f"there are statistics named {asset_id!r} already: pass another asset_id for the others"
        )
    if os.path.lexists(target):
        raise OutputError(f"{target} is there already; name a new directory")
    checked = CheckedTree(tree)
    left_out: list[str] = []
    with new_directory(target) as partial:
        if to == "openpi":
            write_openpi(checked, partial / "params", dtype, on_bytes=on_bytes)
            if companions.action_horizon:
                left_out.append(
                    f"that a chunk has {companions.action_horizon} actions, for which openpi's format has no "
                    "place: pass action_horizon when loading"
                )
        else:
            write_pytorch(
                checked,
                architecture,
                partial,
                to,
                dtype=dtype,
                action_horizon=action_horizon,
                text_len=text_len,
                on_bytes=on_bytes,
            )
            if to == "lerobot":
                left_out.append(
                    "LeRobot's processors (policy_preprocessor.json and its like), which LeRobot makes anew "
                    "from a dataset's statistics"
                )
        checked.finish()
        _write_companions(companions, partial, asset_id, left_out)
        files = tuple(sorted(p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file()))
        size = sum((partial / name).stat().st_size for name in files)
    return Written(target, files, size, tuple(left_out))


class CheckedTree(Tree):
    """A tree that counts what is not finite while it is read."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree.where, tree.specs)
        self.tree = tree
        self.bad: dict[str, int] = {}

    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Read, and look."""
        self.tree.fill(path, out, start)
        if count := count_not_finite(out):
            self.bad[path] = self.bad.get(path, 0) + count

    def blocks(self, path: str) -> Iterator[tuple[int, int]]:
        """As the tree below."""
        return self.tree.blocks(path)

    def finish(self) -> None:
        """Say what was found.

        Raises:
            CheckpointError: some tensors hold NaN or infinite numbers.
        """
        problems = Problems()
        problems.values += [f"{path}: {n:,} of {self.specs[path].size:,}" for path, n in self.bad.items()]
        if problems:
            raise problems.error(self.where)


def _write_companions(companions: Companions, directory: Path, asset_id: str, left_out: list[str]) -> None:
    for name, stats in companions.norm_stats.items():
        save_norm_stats(directory / "assets" / (asset_id if name == OWN else name), stats)
    if companions.fast_tokenizer is not None:
        names = (
            "tokenizer.json",
            "processor_config.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        )
        (directory / "fast_tokenizer").mkdir()
        for name in names:
            if (companions.fast_tokenizer / name).is_file():
                shutil.copyfile(companions.fast_tokenizer / name, directory / "fast_tokenizer" / name)
    if companions.text_model is not None:
        left_out.append(f"the text model {companions.text_model.name}: `pioxide fetch paligemma` brings it")


def total_bytes(tree: Tree) -> int:
    """Bytes that `on_bytes` will be told altogether."""
    return sum(spec.nbytes for spec in tree.specs.values())
