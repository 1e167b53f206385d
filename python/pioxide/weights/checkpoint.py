"""A checkpoint of any format, opened: what it is, what came with it, and its tensors when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pioxide.contract import Contract
from pioxide.errors import CheckpointError
from pioxide.transforms import Stats
from pioxide.weights.architecture import Architecture, recognise
from pioxide.weights.companions import Companions, choose_stats, find_companions
from pioxide.weights.contracts import Said, read_contract
from pioxide.weights.formats import FORMATS, Format
from pioxide.weights.lora import MergedTree
from pioxide.weights.openpi import OrbaxTree, is_orbax
from pioxide.weights.paligemma import NpzTree
from pioxide.weights.pytorch import PytorchTree, open_pytorch
from pioxide.weights.tree import Array, Problems, Spec, Tree, count_not_finite

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class Checkpoint:
    """What `load` found at a path. Close it, or use it in a `with`, to let go of its files.

    Attributes:
        path: the checkpoint's own directory (or file) on this machine.
        format: whose layout it has.
        tree: its tensors, by openpi path.
        architecture: the model they belong to.
        companions: what came with them.
    """

    path: Path
    format: Format
    tree: Tree
    architecture: Architecture
    companions: Companions

    @property
    def contract(self) -> Contract:
        """What the model's numbers mean, as far as the files say; the rest is UNKNOWN.

        Raises:
            CheckpointError: Files disagree, or say something that can't be obeyed.
        """
        return self.said.contract

    @cached_property
    def said(self) -> Said:
        """The contract, and notes on how it was read."""
        return read_contract(self.path, self.format, self.architecture, self.companions)

    @property
    def title(self) -> str:
        """The model's name: π0, π0.5, π0-FAST or PaliGemma."""
        return "PaliGemma" if self.format.startswith("paligemma") else self.architecture.title

    @property
    def described_format(self) -> str:
        """The format in words."""
        return FORMATS[self.format]

    def problems(self) -> Problems:
        """What is wrong with the tensors, without reading one."""
        return self.architecture.compare(self.tree)

    def norm_stats(self, asset_id: str | None = None) -> Mapping[str, Stats]:
        """Norm statistics by key ("state", "actions").

        Args:
            asset_id: of which robot, where the checkpoint has several.

        Raises:
            InputError: there are none, or none of that name, or a name is needed.
        """
        return choose_stats(self.companions.norm_stats, asset_id, str(self.path))

    def merged(self, scale: float = 1.0) -> Checkpoint:
        """The same checkpoint with openpi's low-rank updates added to the weights; itself without any.

        Args:
            scale: alpha / rank; 1 in all of openpi's configs.

        Raises:
            CheckpointError: a tensor is missing, extra or of another shape; a factor without the other would
                be an update left out.
        """
        if not self.architecture.lora:
            return self
        if problems := self.problems():
            raise problems.error(str(self.path))
        tree = MergedTree(self.tree, scale)
        return Checkpoint(self.path, self.format, tree, self.architecture.merged, self.companions)

    def close(self) -> None:
        """Let go of open files."""
        self.tree.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    path: str | Path,
    *,
    heads: tuple[int, int] | None = None,
    embedding: Literal["embed_tokens", "lm_head"] | None = None,
    on_file: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Checkpoint:
    """Open a checkpoint of any format that π models come in. Reads headers only.

    Args:
        path: a directory or file, or a gs://, s3:// or hf:// address, which is brought to the cache first.
            An openpi checkpoint (or its `params`), a LeRobot or openpi-PyTorch directory, a PaliGemma `.npz`,
            a `.safetensors` file or index.
        heads: of the image tower and kv heads of the transformer, where PyTorch names hide them and they are
            not SigLIP So400m's 16 and Gemma's 1.
        embedding: which tensor to take where a PyTorch file has both `embed_tokens` and `lm_head`, and they
            differ; see `PytorchTree`.
        on_file: told of each file that is brought from an address: its name, how many are done, how many
            there are.

    Raises:
        CheckpointError: it is none of these, or damaged. Pickled files (.pt, .bin) are refused by name.
    """
    if "://" in str(path) and not str(path).startswith("file://"):
        from pioxide.weights.remote import bring

        path = bring(str(path), on_file=on_file)
    try:
        root, weights = _locate(Path(str(path).removeprefix("file://")).expanduser())
    except (OSError, RuntimeError) as error:  # RuntimeError: "~" of nobody
        raise CheckpointError(f"{path} can't be looked at: {error}") from error
    tree, kind = _open(weights, heads, embedding)
    try:
        architecture = recognise(tree)
        statistics = tree.statistics if isinstance(tree, PytorchTree) else {}
        companions = find_companions(root, statistics) if root.is_dir() else Companions()
    except BaseException:
        tree.close()
        raise
    return Checkpoint(root, kind, tree, architecture, companions)


def contract_of(checkpoint: Checkpoint, asset_id: str | None = None) -> Contract:
    """Returns what a checkpoint's numbers mean, with the statistics of one robot.

    Args:
        checkpoint: Opened.
        asset_id: Whose statistics, where it has several; its last part is enough. None leaves them unknown
            then.

    Raises:
        CheckpointError: Files disagree, or say something that can't be obeyed.
        InputError: There are no statistics of that name.
    """
    if asset_id is None:
        return checkpoint.contract
    said = read_contract(
        checkpoint.path, checkpoint.format, checkpoint.architecture, checkpoint.companions, asset_id
    )
    return said.contract


def stream(
    tree: Tree,
    dtype: Callable[[str, Spec], np.dtype[Any]] = lambda path, spec: spec.dtype,
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> Iterator[tuple[str, Array]]:
    """Every tensor in turn, whole and in the dtype asked for.

    The largest come first: what reading one needs besides is then needed while little else is there.

    Args:
        tree: opened.
        dtype: what to convert each tensor to.
        on_bytes: told what was read.

    Raises:
        CheckpointError: after the last one, if any held a NaN or an infinity in that dtype; lists them all.
    """
    problems = Problems()
    for path, spec in sorted(tree.specs.items(), key=lambda item: (-item[1].nbytes, item[0])):
        array = np.empty(spec.shape, dtype(path, spec))
        bad = 0
        for start, stop in tree.blocks(path):
            block = array[start:stop] if spec.shape else array
            tree.fill(path, block, start)
            bad += count_not_finite(block)
            on_bytes(path, block.size * spec.dtype.itemsize)
        if bad:
            problems.values.append(f"{path}: {bad:,} of {spec.size:,}")
        yield path, array
        del array
    if problems:
        raise problems.error(tree.where)


def _locate(path: Path) -> tuple[Path, Path]:
    """The checkpoint's directory and where its tensors are."""
    if path.suffix in PICKLED:
        raise CheckpointError(
            f"{path} is a pickled PyTorch file: reading one can run any code, so pioxide never does; "
            "save it as .safetensors where you trust it"
        )
    if path.is_file():
        return (path.parent if path.suffix != ".npz" else path), path
    if not path.is_dir():
        raise CheckpointError(f"{path} is not there")
    if is_orbax(path):
        return (path.parent if path.name == "params" else path), path
    found: list[tuple[Path, Path]] = []
    if is_orbax(path / "params"):
        found.append((path, path / "params"))
    for directory in (path, path / "pretrained_model"):
        for name in ("model.safetensors", "model.safetensors.index.json"):
            if (directory / name).is_file():
                found.append((directory, directory / name))
                break
    found = found or [(path, archive) for archive in sorted(path.glob("*.npz"))]
    if not found:
        raise CheckpointError(_nothing_here(path))
    if len(found) > 1:
        names = ", ".join(str(weights.relative_to(path)) for _, weights in found)
        raise CheckpointError(f"{path} holds several checkpoints ({names}): name one, as {found[0][1]}")
    return found[0]


def _nothing_here(path: Path) -> str:
    steps = sorted((d.name for d in path.iterdir() if d.name.isdigit() and is_orbax(d / "params")), key=int)
    if steps:
        return f"{path} holds training steps {', '.join(steps)}: name one, as in {path / steps[-1]}"
    pickled = sorted(f.name for f in path.iterdir() if f.suffix in PICKLED)
    if pickled:
        return (
            f"{path} holds only pickled files ({', '.join(pickled[:3])}), which are never loaded; "
            "save the model as .safetensors where you trust it"
        )
    return (
        f"{path} is no checkpoint: it has no params/ (openpi), no model.safetensors (LeRobot, "
        "openpi-PyTorch, Hugging Face) and no .npz (PaliGemma)"
    )


def _open(weights: Path, heads: tuple[int, int] | None, embedding: Any) -> tuple[Tree, Format]:
    if weights.is_dir() and is_orbax(weights):
        return OrbaxTree(weights), "openpi"
    if weights.suffix == ".npz":
        return NpzTree(weights), "paligemma-npz"
    if weights.is_dir() or weights.suffix in (".safetensors", ".json"):
        tree = open_pytorch(weights, heads=heads, embedding=embedding)
        return tree, tree.layout
    raise CheckpointError(f"{weights} is no checkpoint: expected .safetensors, .npz or a directory")
