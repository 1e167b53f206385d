"""What travels with a checkpoint's tensors: norm statistics, tokenizers, settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pioxide.codec import CODEC_FILE
from pioxide.errors import CheckpointError, InputError
from pioxide.transforms import Stats, load_norm_stats
from pioxide.transforms.stats import FIELDS as STATISTICS
from pioxide.weights.documents import is_list, is_object, read_object
from pioxide.weights.safetensors import SafetensorsFile
from pioxide.weights.tree import Array

# What lies beside the tensors of openpi's checkpoints, and of those that training here writes.
ASSETS = "assets"
# The key of statistics that lie in the checkpoint itself and not under `assets/<asset_id>/`.
OWN = ""
# LeRobot's names of what openpi calls "state" and "actions".
LEROBOT_KEYS = {"observation.state": "state", "action": "actions"}
NORMALIZERS = ("normalizer_processor", "unnormalizer_processor")


@dataclass(frozen=True)
class Companions:
    """What was found beside the tensors.

    Attributes:
        norm_stats: Statistics by asset id ("droid", "trossen", ...), each by key ("state", "actions").
        fast_tokenizer: The directory of a FAST tokenizer or of another action codec, or None.
        text_model: A SentencePiece model, or None.
        config: The content of `config.json`, or empty.
    """

    norm_stats: Mapping[str, Mapping[str, Stats]] = field(default_factory=dict[str, Mapping[str, Stats]])
    fast_tokenizer: Path | None = None
    text_model: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def action_horizon(self) -> int | None:
        """Returns the actions in a chunk, where `config.json` says so."""
        return self._natural("chunk_size") or self._natural("action_horizon")

    def _natural(self, key: str) -> int | None:
        value = self.config.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def find_companions(root: Path, statistics: Mapping[str, Array]) -> Companions:
    """Looks beside the tensors.

    Args:
        root: The checkpoint's directory.
        statistics: Vectors found among the tensors (old LeRobot files).

    Raises:
        CheckpointError, FormatError: A file is there and damaged.
    """
    stats: dict[str, Mapping[str, Stats]] = {}
    assets = root / ASSETS
    if assets.is_dir():
        for file in sorted(assets.rglob("norm_stats.json")):
            stats[file.parent.relative_to(assets).as_posix()] = load_norm_stats(file)
    if (root / "norm_stats.json").is_file():
        stats[OWN] = load_norm_stats(root / "norm_stats.json")
    lerobot = _lerobot_stats(root) or _old_lerobot_stats(statistics)
    if lerobot:
        stats.setdefault(OWN, lerobot)
    text = next((f for f in _named(root, ("tokenizer.model", "paligemma_tokenizer.model"))), None)
    return Companions(stats, _fast_tokenizer(root), text, read_object(root / "config.json"))


def choose_stats(
    norm_stats: Mapping[str, Mapping[str, Stats]], asset_id: str | None, where: str
) -> Mapping[str, Stats]:
    """Returns the statistics of one asset.

    Raises:
        InputError: There are none, no such asset, or several and none was named.
    """
    names = ", ".join(repr(name) for name in norm_stats)
    if not norm_stats:
        raise InputError(f"{where} comes without norm statistics (no assets/<asset_id>/norm_stats.json)")
    if asset_id is None and len(norm_stats) > 1:
        raise InputError(f"{where} has norm statistics of several robots: name one of {names}")
    if asset_id is None:
        return next(iter(norm_stats.values()))
    if asset_id in norm_stats:
        return norm_stats[asset_id]
    ending = [name for name in norm_stats if name.rpartition("/")[2] == asset_id]
    if len(ending) > 1:
        raise InputError(f"{where} has norm statistics {' and '.join(map(repr, ending))}: name one in full")
    if not ending:
        raise InputError(f"{where} has no norm statistics {asset_id!r}, only {names}")
    return norm_stats[ending[0]]


def _lerobot_stats(root: Path) -> dict[str, Stats]:
    """Returns statistics from the state file of LeRobot's normaliser: `<feature>.<statistic>` vectors."""
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        steps = read_object(root / name).get("steps")
        for step in steps if is_list(steps) else []:
            if not is_object(step) or step.get("registry_name") not in NORMALIZERS:
                continue
            state: object = step.get("state_file")
            if state is None:
                continue
            if not isinstance(state, str) or Path(state).name != state:
                raise CheckpointError(f"{root / name}: state_file {state!r} is no file name")
            file = SafetensorsFile(root / state)
            try:
                small = [key for key, entry in file.tensors.items() if entry.spec.size < 4096]
                vectors = {key: file.read(key) for key in small if key.startswith(tuple(LEROBOT_KEYS))}
            finally:
                file.close()
            if stats := _grouped((key, vector) for key, vector in vectors.items()):
                return stats
    return {}


def _old_lerobot_stats(statistics: Mapping[str, Array]) -> dict[str, Stats]:
    """Returns statistics from `normalize_inputs.buffer_observation_state.mean` and its like."""
    found: list[tuple[str, Array]] = []
    for name, vector in statistics.items():
        match = re.fullmatch(r"(?:un)?normalize_\w+\.buffer_(\w+)\.(\w+)", name)
        if match:
            feature = match[1].replace("observation_state", "observation.state")
            found.append((f"{feature}.{match[2]}", vector))
    return _grouped(found)


def _grouped(items: Iterable[tuple[str, Array]]) -> dict[str, Stats]:
    """Returns statistics by feature from `action.mean` and its like."""
    table: dict[str, dict[str, Array]] = {}
    for name, vector in items:
        feature, _, statistic = name.rpartition(".")
        if feature in LEROBOT_KEYS and statistic in STATISTICS and vector.ndim == 1:
            table.setdefault(LEROBOT_KEYS[feature], {})[statistic] = vector.astype("float64")
    try:
        return {key: Stats(**vectors) for key, vectors in table.items()}
    except InputError as error:
        raise CheckpointError(f"the checkpoint's statistics make no sense: {error}") from error


def _fast_tokenizer(root: Path) -> Path | None:
    for file in _named(root, (CODEC_FILE,)):
        return file.parent
    for file in _named(root, ("processor_config.json",)):
        if (file.parent / "tokenizer.json").is_file() and "min_token" in read_object(file):
            return file.parent
    return None


def _named(root: Path, names: tuple[str, ...]) -> list[Path]:
    """Returns files of these names in a directory and two levels below."""
    found: list[Path] = []
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            found += sorted(root.glob(pattern))
    return found
