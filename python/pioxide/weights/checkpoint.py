"""A checkpoint of any format, opened: what it is, what came with it, and its tensors when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pioxide.contract import Contract, choose_robot
from pioxide.errors import CheckpointError, InputError
from pioxide.files import as_address
from pioxide.robots import RobotSpec
from pioxide.transforms import Stats
from pioxide.weights.adapter import open_adapter
from pioxide.weights.architecture import Architecture, recognise
from pioxide.weights.companions import Companions, choose_stats, find_companions
from pioxide.weights.contracts import Said, read_contract
from pioxide.weights.formats import FORMATS, Format
from pioxide.weights.locate import Located, locate
from pioxide.weights.lora import MergedTree
from pioxide.weights.openpi import OrbaxTree, is_orbax
from pioxide.weights.paligemma import NpzTree
from pioxide.weights.pytorch import PytorchTree, open_pytorch
from pioxide.weights.tree import Array, Problems, Spec, Tree, count_not_finite


@dataclass(frozen=True)
class Checkpoint:
    """What `load` found at a path. Close it, or use it in a `with`, to let go of its files.

    Attributes:
        path: The checkpoint's own directory (or file) on this machine.
        format: Whose layout it has.
        tree: Its tensors, by openpi path.
        architecture: The model they belong to.
        companions: What came with them.
        robot: Whose contract it is to have, of those that it has; None where nobody said.
    """

    path: Path
    format: Format
    tree: Tree
    architecture: Architecture
    companions: Companions
    robot: str | None = None

    @property
    def contract(self) -> Contract:
        """Returns what the model's numbers mean, as far as the files say; the rest is UNKNOWN.

        Raises:
            CheckpointError: Files disagree, or say something that can't be obeyed.
            ContractError: It is of several robots, and nobody said which; see `of`.
        """
        return choose_robot(self.contracts, self.robot, str(self.path))

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """Returns the contract of each robot that the checkpoint was trained for; mostly there is one.

        Raises:
            CheckpointError: As `contract`.
        """
        return self.said.contracts

    def of(self, robot: RobotSpec | str | None) -> Checkpoint:
        """Returns the checkpoint as one robot's, where it is of several; else itself.

        Args:
            robot: Which, by its name, also that of a `RobotSpec`.

        Raises:
            ContractError: It is of several robots, and none of that name, or nobody said which.
        """
        if len(self.contracts) == 1:
            return self
        chosen = replace(self, robot=robot.name if isinstance(robot, RobotSpec) else robot)
        _ = chosen.contract
        return chosen

    @cached_property
    def said(self) -> Said:
        """Returns the contracts, and notes on how they were read."""
        return read_contract(self.path, self.format, self.architecture, self.companions)

    @property
    def title(self) -> str:
        """Returns the model's name: π0, π0.5, π0-FAST or PaliGemma."""
        return "PaliGemma" if self.format.startswith("paligemma") else self.architecture.title

    @property
    def described_format(self) -> str:
        """Returns the format in words."""
        return FORMATS[self.format]

    def problems(self) -> Problems:
        """Returns what is wrong with the tensors, without reading one."""
        return self.architecture.compare(self.tree)

    def norm_stats(self, asset_id: str | None = None) -> Mapping[str, Stats]:
        """Returns norm statistics by key ("state", "actions").

        Args:
            asset_id: Of which robot, where the checkpoint has several.

        Raises:
            InputError: There are none, or none of that name, or a name is needed.
        """
        return choose_stats(self.companions.norm_stats, asset_id, str(self.path))

    def merged(self, scale: float = 1.0) -> Checkpoint:
        """Returns the checkpoint with openpi's low-rank updates added to the weights; itself without any.

        Args:
            scale: Alpha / rank; 1 in all of openpi's configs.

        Raises:
            CheckpointError: A tensor is missing, extra or of another shape; a factor without the other would
                be an update left out.
        """
        if not self.architecture.lora:
            return self
        if problems := self.problems():
            raise problems.error(str(self.path))
        tree = MergedTree(self.tree, scale)
        return replace(self, tree=tree, architecture=self.architecture.merged)

    def close(self) -> None:
        """Lets go of open files."""
        self.tree.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    path: str | Path,
    *,
    base: str | Path | None = None,
    heads: tuple[int, int] | None = None,
    embedding: Literal["embed_tokens", "lm_head"] | None = None,
    on_file: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Checkpoint:
    """Opens a checkpoint of any format that π models come in. Reads headers only.

    Args:
        path: A directory or file, or a gs://, s3:// or hf:// address, which is brought to the cache first.
            An openpi checkpoint (or its `params`), a LeRobot or openpi-PyTorch directory, a PaliGemma `.npz`,
            a `.safetensors` file or index. A LeRobot training run, whose last step is taken, and a PEFT
            adapter, which is added to the weights of its base.
        base: An adapter's base, likewise a path or an address, where it does not lie where the adapter says.
        heads: Of the image tower and kv heads of the transformer, where PyTorch names hide them and they are
            not SigLIP So400m's 16 and Gemma's 1.
        embedding: Which tensor to take where a PyTorch file has both `embed_tokens` and `lm_head`, and they
            differ; see `PytorchTree`.
        on_file: Told of each file that is brought from an address: its name, how many are done, how many
            there are.

    Raises:
        CheckpointError: It is none of these, or damaged. Pickled files (.pt, .bin) are refused by name.
        InputError: There is a base, and no adapter.
    """
    here = _brought(path, on_file)
    base_here = None if base is None else _brought(base, on_file)
    try:
        found = locate(here.expanduser(), None if base_here is None else base_here.expanduser())
    except (OSError, RuntimeError) as error:  # RuntimeError: "~" of nobody
        raise CheckpointError(f"{path} can't be looked at: {error}") from error
    if base is not None and found.adapter is None:
        raise InputError(f"{path} is no adapter, so it has no base: leave base out")
    root = found.root
    tree, kind = _open(found, heads, embedding)
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
        ContractError: It is of several robots, and nobody said which; see `Checkpoint.of`.
        InputError: There are no statistics of that name.
    """
    if asset_id is None:
        return checkpoint.contract
    said = read_contract(
        checkpoint.path, checkpoint.format, checkpoint.architecture, checkpoint.companions, asset_id
    )
    return choose_robot(said.contracts, checkpoint.robot, str(checkpoint.path))


def stream(
    tree: Tree,
    dtype: Callable[[str, Spec], np.dtype[Any]] = lambda path, spec: spec.dtype,
    on_bytes: Callable[[str, int], None] = lambda path, count: None,
) -> Iterator[tuple[str, Array]]:
    """Yields every tensor in turn, whole and in the dtype asked for.

    The largest come first: what reading one needs besides is then needed while little else is there.

    Args:
        tree: Opened.
        dtype: What to convert each tensor to.
        on_bytes: Told what was read.

    Raises:
        CheckpointError: After the last one, if any held a NaN or an infinity in that dtype; lists them all.
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


def _brought(path: str | Path, on_file: Callable[[str, int, int], None]) -> Path:
    """Returns where a path or an address is on this machine."""
    address = as_address(path)
    if not address or address.startswith("file://"):
        return Path(str(path).removeprefix("file://"))
    from pioxide.weights.remote import bring

    return bring(address, on_file=on_file)


def _open(found: Located, heads: tuple[int, int] | None, embedding: Any) -> tuple[Tree, Format]:
    weights = found.weights
    if found.adapter is not None and weights.suffix == ".npz":
        raise CheckpointError(f"{found.root} is an adapter of PyTorch weights, and its base is {weights}")
    if weights.is_dir() and is_orbax(weights):
        if found.adapter is not None:
            raise CheckpointError(
                f"{found.root} is an adapter of PyTorch weights, and its base {weights} is openpi's: "
                "convert that one first"
            )
        return OrbaxTree(weights), "openpi"
    if weights.suffix == ".npz":
        return NpzTree(weights), "paligemma-npz"
    if weights.is_dir() or weights.suffix in (".safetensors", ".json"):
        adapter = None if found.adapter is None else open_adapter(found.adapter)
        try:
            tree = open_pytorch(weights, adapter, heads=heads, embedding=embedding)
        except BaseException:
            if adapter is not None:
                adapter.file.close()
            raise
        return tree, tree.layout
    raise CheckpointError(f"{weights} is no checkpoint: expected .safetensors, .npz or a directory")
