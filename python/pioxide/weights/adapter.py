"""PEFT LoRA adapters: low-rank updates in a directory of their own, added to the weights of their base.

    adapter_config.json  which base, the rank, alpha
    adapter_model.safetensors  "base_model.model.<module>.lora_A.weight" [r, in] and "lora_B.weight" [out, r]

`adapted` gives the base's files with the updates in them, `W + alpha / r * B A`, computed in float32 as a
tensor is read. Whatever of an adapter would change the weights in another way is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pioxide.errors import CheckpointError
from pioxide.weights.documents import is_object, read_document
from pioxide.weights.safetensors import Entry, SafetensorsFile
from pioxide.weights.tree import Array, Spec

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTORS = (".lora_A.weight", ".lora_B.weight")
FLOAT32 = np.dtype(np.float32)
# Settings under which an update is not `alpha / r * B A` of one matrix; each must be as here.
PLAIN: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (False, None),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "bias": ("none", None),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
    "megatron_config": (None,),
}
# Ways to begin that leave the base as it is; the others take something out of its weights.
BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal", "lora_ga")


class Update(NamedTuple):
    """A low-rank update: `scale * second @ first`."""

    first: str
    second: str
    scale: float


@dataclass(frozen=True)
class Adapter:
    """An adapter directory, read.

    Attributes:
        root: The directory.
        base: What `base_model_name_or_path` says.
        file: The factors, open.
        updates: By the base's tensor, as the adapter spells it.
        replaced: Tensors that the adapter holds whole, likewise.
    """

    root: Path
    base: str
    file: SafetensorsFile
    updates: Mapping[str, Update]
    replaced: Mapping[str, str]

    def find_base(self) -> Path:
        """Returns the base's directory.

        Raises:
            CheckpointError: It is not on this machine; names it and says how to give it.
        """
        for place in (self.root / self.base, Path(self.base)):
            if place.is_dir() and place.resolve() != self.root.resolve():
                return place
        raise CheckpointError(
            f"{self.root} is an adapter: it changes the weights of {self.base!r}, which is not there; bring "
            f"them, and pass base=DIRECTORY or write that into base_model_name_or_path of {CONFIG}"
        )


def is_adapter(directory: Path) -> bool:
    """Returns whether a directory holds an adapter and no weights of its own."""
    return (directory / CONFIG).is_file() and not (directory / "model.safetensors").is_file()


def open_adapter(directory: Path) -> Adapter:
    """Reads an adapter.

    Raises:
        CheckpointError: It is damaged, or more than plain low-rank updates; names the setting or tensor.
    """
    where = directory / CONFIG
    config = read_document(where)
    if not is_object(config):
        raise CheckpointError(f"{where}: expected an object, got {config!r}")
    for name, plain in PLAIN.items():
        if config.get(name, plain[0]) not in plain:
            raise CheckpointError(
                f"{where}: {name} is {config[name]!r}; only LoRA's plain updates are read ({plain[0]!r}): "
                "merge the adapter with PEFT (merge_and_unload) and save the policy"
            )
    if config.get("init_lora_weights", True) not in BEGINNINGS:
        raise CheckpointError(
            f"{where}: init_lora_weights {config['init_lora_weights']!r} changes the base's weights too: "
            "merge the adapter with PEFT (merge_and_unload) and save the policy"
        )
    base: object = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{where} names no base (base_model_name_or_path)")
    file = SafetensorsFile(directory / TENSORS)
    try:
        updates, replaced = _updates(file, config, where)
    except BaseException:
        file.close()
        raise
    return Adapter(directory, base, file, updates, replaced)


def adapted(
    files: list[SafetensorsFile], adapter: Adapter, core_name: Callable[[str], str]
) -> list[SafetensorsFile]:
    """Returns the base's files with an adapter's updates in them.

    Args:
        files: The base's, open.
        adapter: Opened; closing the files closes it too.
        core_name: A tensor's name without what layouts put before it.

    Raises:
        CheckpointError: A tensor of the adapter has no place in the base, or does not fit; lists all such.
    """
    theirs = {core_name(name): (file, name) for file in files for name in file.tensors}
    changes: dict[SafetensorsFile, dict[str, Update | str]] = {file: {} for file in files}
    wrong: list[str] = []
    for own, change in [*adapter.updates.items(), *adapter.replaced.items()]:
        if core_name(own) not in theirs:
            wrong.append(f"{own} is no tensor of the base")
            continue
        file, name = theirs[core_name(own)]
        shape, expected = _shape(adapter.file, change), file.tensors[name].spec.shape
        if shape != expected:
            wrong.append(f"{own} is {list(shape)}, and the base has {list(expected)}")
        changes[file][name] = change
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong[:20])
        raise CheckpointError(f"{adapter.root} does not fit its base:\n{lines}")
    return [AdaptedFile(file, adapter.file, changes[file]) for file in files]


class AdaptedFile(SafetensorsFile):
    """A file of the base in which some tensors are changed; those are float32, unless they were wider."""

    def __init__(
        self, base: SafetensorsFile, factors: SafetensorsFile, changes: Mapping[str, Update | str]
    ) -> None:
        """Takes over the base's file, and the adapter's."""
        self.path, self.metadata, self.base, self.factors = base.path, base.metadata, base, factors
        self.changes = changes
        self.tensors = {
            name: Entry(_widened(entry.spec), entry.offset) if name in changes else entry
            for name, entry in base.tensors.items()
        }

    def read_into(self, name: str, out: Array, first: int = 0) -> None:
        """See `SafetensorsFile.read_into`; a changed tensor is computed whole each time."""
        change = self.changes.get(name)
        if change is None:
            self.base.read_into(name, out, first)
            return
        dtype = self.tensors[name].spec.dtype
        if isinstance(change, str):
            whole = self.factors.read(change).astype(dtype)
        else:
            one, two = (self.factors.read(factor).astype(dtype) for factor in (change.first, change.second))
            whole = self.base.read(name).astype(dtype) + dtype.type(change.scale) * (two @ one)
        out.reshape(-1)[:] = whole.reshape(-1)[first : first + out.size]

    def close(self) -> None:
        """Closes both files."""
        self.base.close()
        self.factors.close()


def _updates(
    file: SafetensorsFile, config: Mapping[str, Any], where: Path
) -> tuple[dict[str, Update], dict[str, str]]:
    updates: dict[str, Update] = {}
    replaced: dict[str, str] = {}
    wrong: list[str] = []
    for name in sorted(file.tensors):
        if not name.startswith(PREFIX):
            wrong.append(f"{name} is no tensor of an adapter")
        elif name.endswith(FACTORS):
            module = name.removesuffix(FACTORS[0]).removesuffix(FACTORS[1])
            pair = (module + FACTORS[0], module + FACTORS[1])
            if missing := [one for one in pair if one not in file.tensors]:
                wrong.append(f"{missing[0]} is missing")
                continue
            own = module.removeprefix(PREFIX)
            first, second = (file.tensors[one].spec.shape for one in pair)
            if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
                wrong.append(f"{module}: factors {list(first)} and {list(second)} make no matrix")
                continue
            updates[f"{own}.weight"] = Update(pair[0], pair[1], _scale(config, own, first[0], where))
        elif "lora_" in name:
            wrong.append(f"{name} is more than a plain update")
        else:  # a module that was trained whole (modules_to_save)
            replaced[name.removeprefix(PREFIX)] = name
    if wrong or not (updates or replaced):
        lines = "\n".join(f"  {line}" for line in wrong[:20] or ["no updates"])
        raise CheckpointError(f"{file.path}: what an adapter needs is not there, or is not known:\n{lines}")
    return updates, replaced


def _scale(config: Mapping[str, Any], module: str, rank: int, where: Path) -> float:
    said = _of_module(config, "rank_pattern", "r", module, where)
    if said != rank:
        raise CheckpointError(f"{where}: {module} has rank {said:g} there, and its factors have {rank}")
    alpha = _of_module(config, "alpha_pattern", "lora_alpha", module, where)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_module(config: Mapping[str, Any], patterns: str, name: str, module: str, where: Path) -> float:
    """Returns a setting of one module: the first pattern that its name ends in, else the setting of all."""
    by_pattern: object = config.get(patterns) or {}
    if not is_object(by_pattern):
        raise CheckpointError(f"{where}: {patterns}: expected an object, got {by_pattern!r}")
    found = next((key for key in by_pattern if re.match(rf"(.*\.)?({key})$", module)), None)
    value: object = config.get(name) if found is None else by_pattern[found]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise CheckpointError(f"{where}: {name} of {module}: expected a number above 0, got {value!r}")
    return value


def _shape(file: SafetensorsFile, change: Update | str) -> tuple[int, ...]:
    if isinstance(change, str):
        return file.tensors[change].spec.shape
    return file.tensors[change.second].spec.shape[0], file.tensors[change.first].spec.shape[1]


def _widened(spec: Spec) -> Spec:
    return spec if spec.dtype == np.float64 else Spec(spec.shape, FLOAT32)
