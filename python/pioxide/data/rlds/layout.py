"""A TFDS directory: what `dataset_info.json` and `features.json` say, without opening a record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pioxide.data.faults import fault
from pioxide.data.rlds.records import FORMATS
from pioxide.errors import DatasetError, FormatError, InputError
from pioxide.files import read_json, refuse_address

INFO, FEATURES = "dataset_info.json", "features.json"
STEPS = "steps/"


@dataclass(frozen=True)
class Leaf:
    """A feature that holds values.

    Attributes:
        kind: "number", "text", "image", or what else it is, which is not read.
        shape: Of one step's, or of one episode's outside of `steps`; -1 where it varies.
        dtype: As TFDS says.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @property
    def dim(self) -> int:
        """Returns how many numbers it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __str__(self) -> str:
        """Returns it as messages show it."""
        said = f" {self.dtype}{list(self.shape)}" if self.kind != "text" else ""
        return f"{self.kind}{said}"


@dataclass(frozen=True)
class RldsDirectory:
    """An RLDS dataset as its directory describes it.

    Attributes:
        path: The directory, e.g. `droid/1.0.1`.
        name: Of the dataset.
        version: Of it.
        split: Which of its splits.
        kind: "tfrecord" or "array_record".
        files: One a shard, in order.
        records: How many each has.
        features: By flattened key, those of steps below `steps/`.
    """

    path: Path
    name: str
    version: str
    split: str
    kind: str
    files: tuple[str, ...]
    records: tuple[int, ...]
    features: dict[str, Leaf]

    @classmethod
    def open(cls, path: str | os.PathLike[str], split: str = "train") -> RldsDirectory:
        """Reads the two descriptions; no record is opened, and no shard is looked for.

        Raises:
            DatasetError: A description is missing, or not what TFDS writes; names the file.
            InputError: There is no such split.
        """
        root = Path(path).expanduser()
        try:
            refuse_address(root)
        except FormatError as error:
            raise fault(error.reason, file=str(root)) from error
        _refuse_others(root)
        info = _object(root, INFO)
        splits = {str(one.get("name")): one for one in info.get("splits", []) if isinstance(one, dict)}
        if split not in splits:
            raise InputError(f"{root} has no split {split!r}; there is {', '.join(splits) or 'none'}")
        kind = info.get("fileFormat", "tfrecord")
        if kind not in FORMATS:
            raise fault(f"fileFormat is {kind!r}, expected {' or '.join(FORMATS)}", file=INFO)
        name = info.get("name")
        if not isinstance(name, str) or not name:
            raise fault("has no name", file=INFO)
        try:
            records = tuple(int(length) for length in splits[split].get("shardLengths", []))
        except (TypeError, ValueError):
            records = ()
        if not records or min(records) < 0:
            raise fault(f"says no shardLengths of split {split!r}", file=INFO)
        template = splits[split].get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        files = tuple(
            _file(str(template), name, split, kind, shard, len(records)) for shard in range(len(records))
        )
        features = dict(_leaves(_object(root, FEATURES), ""))
        if not any(key.startswith(STEPS) for key in features):
            has = ", ".join(features) or "nothing"
            raise fault(f"has no steps, so that it is no RLDS dataset; it has {has}", file=FEATURES)
        return cls(root, name, str(info.get("version", "")), split, kind, files, records, features)

    def keys(self, kind: str = "", *, steps: bool = True) -> dict[str, Leaf]:
        """Returns the features of a kind, without the leading `steps/`, or those of the whole episode."""
        return {
            key.removeprefix(STEPS): leaf
            for key, leaf in self.features.items()
            if key.startswith(STEPS) == steps and (not kind or leaf.kind == kind)
        }


def _refuse_others(root: Path) -> None:
    if not root.is_dir():
        raise fault("no such directory", file=str(root))
    if (root / INFO).exists():
        return
    versions = sorted(one.parent.name for one in root.glob(f"*/{INFO}"))
    hint = f"; its versions are {', '.join(versions)}: name one" if versions else ""
    raise fault(f"no such file; {root} is no dataset of TFDS{hint}", file=INFO)


def _object(root: Path, file: str) -> dict[str, Any]:
    try:
        found = read_json(root / file)
    except FormatError as error:
        raise fault(error.reason, file=file) from error
    if not isinstance(found, dict):
        raise fault("is not a JSON object", file=file)
    return found


def _file(template: str, name: str, split: str, kind: str, shard: int, shards: int) -> str:
    told = {
        "DATASET": name,
        "SPLIT": split,
        "FILEFORMAT": kind,
        "SHARD_INDEX": f"{shard:05d}",
        "NUM_SHARDS": f"{shards:05d}",
        "SHARD_X_OF_Y": f"{shard:05d}-of-{shards:05d}",
    }
    for key, value in told.items():
        template = template.replace(f"{{{key}}}", value)
    if "{" in template or "/" in template or template.startswith("."):
        raise fault(f"filepathTemplate gives {template!r}, which is no name of a shard", file=INFO)
    return template


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Leaf]]:
    """The tree of features, flattened as TFDS names them in records."""
    if not isinstance(node, dict):
        raise fault(f'"{key}" is no description of a feature', file=FEATURES)
    prefix = f"{key}/" if key else ""
    if isinstance(fields := node.get("featuresDict"), dict):
        for name, inside in fields.get("features", {}).items():
            yield from _leaves(inside, prefix + name)
    elif isinstance(sequence := node.get("sequence"), dict):
        inside = sequence.get("feature", {})
        if "featuresDict" in inside or key == STEPS.rstrip("/"):
            yield from _leaves(inside, key)
        else:
            yield key, Leaf("sequence")
    else:
        yield key, _leaf(node, key)


def _leaf(node: dict[str, Any], key: str) -> Leaf:
    try:
        if "image" in node:
            return Leaf("image", _shape(node["image"]), str(node["image"].get("dtype", "uint8")))
        if "text" in node:
            return Leaf("text")
        if "tensor" in node:
            tensor = node["tensor"]
            dtype, encoding = str(tensor.get("dtype", "")), str(tensor.get("encoding", "none"))
            if dtype in ("string", "object"):
                return Leaf("text")
            kind = "number" if encoding in ("none", "") else f"{encoding} tensor"
            return Leaf(kind, _shape(tensor), dtype)
    except (AttributeError, TypeError, ValueError) as error:
        raise fault(f'"{key}" is no description of a feature ({error})', file=FEATURES) from error
    return Leaf(str(node.get("pythonClassName", "unknown")).rsplit(".", 1)[-1])


def _shape(node: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in node.get("shape", {}).get("dimensions", []))


def missing_shards(directory: RldsDirectory) -> list[DatasetError]:
    """Returns an error for each shard that is not there."""
    out: list[DatasetError] = []
    for file, count in zip(directory.files, directory.records, strict=True):
        if not (directory.path / file).is_file():
            out.append(fault(f"no such file, and {INFO} says that it has {count:,} records", file=file))
    return out
