"""The steps of LeRobot's processor files, and what its normaliser's says with the statistics beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pioxide.errors import CheckpointError, InputError
from pioxide.transforms import NormMode, NormRule, Stats
from pioxide.transforms.normalize import LEROBOT_EPSILON
from pioxide.transforms.stats import FIELDS as STATISTICS
from pioxide.weights.documents import is_list, is_object, read_document
from pioxide.weights.lerobot_config import ACTION, STATE, Feature, read_modes, texts
from pioxide.weights.safetensors import SafetensorsFile

# What a normaliser's step may say.
_NORMALIZER_FIELDS = ("eps", "features", "norm_map", "normalize_observation_keys", "device", "dtype", "stats")
LARGEST = 4096


class Step(NamedTuple):
    """One entry of a processor file."""

    name: str
    config: Mapping[str, Any]
    state_file: str | None
    where: str


@dataclass(frozen=True)
class Normalization:
    """A normaliser step.

    Attributes:
        modes: By type of feature.
        epsilon: What keeps a denominator from 0.
        features: What it looks at in observations.
        only: The observation keys it is restricted to, or None.
        stats: Of the state and the actions, by feature.
    """

    modes: dict[str, NormMode]
    epsilon: float
    features: dict[str, Feature]
    only: frozenset[str] | None
    stats: dict[str, Stats]

    @property
    def says_nothing(self) -> bool:
        """Returns whether there are neither features nor statistics, as in the published base models."""
        return not self.features and not self.stats

    def rule(self, feature: str) -> NormRule:
        """Returns how a feature is normalised: one without statistics passes as it is."""
        kind = "ACTION" if feature == ACTION else self.features.get(feature, Feature("", ())).type
        seen = feature == ACTION or (feature in self.features and (self.only is None or feature in self.only))
        mode = self.modes.get(kind, NormMode.IDENTITY)
        if not seen or feature not in self.stats:
            mode = NormMode.IDENTITY
        return NormRule.lerobot(mode, self.epsilon)


def read_steps(file: Path) -> list[Step]:
    """Returns the steps of a processor file, unchecked but for their form.

    Raises:
        CheckpointError: It is no processor file.
    """
    value = read_document(file)
    listed: object = value.get("steps") if is_object(value) else None
    if not is_list(listed):
        raise CheckpointError(f'{file} has no list of "steps"')
    return [_step(step, f"{file}: step {i}") for i, step in enumerate(listed)]


def _step(value: object, where: str) -> Step:
    if not is_object(value):
        raise CheckpointError(f"{where}: expected an object, got {value!r}")
    name: object = value.get("registry_name") or value.get("class")
    config: object = value.get("config") or {}
    if not isinstance(name, str) or not is_object(config):
        raise CheckpointError(f"{where}: expected a registry_name and a config, got {value!r}")
    state: object = value.get("state_file")
    if state is not None and (not isinstance(state, str) or Path(state).name != state):
        raise CheckpointError(f"{where}: state_file {state!r} is no file name")
    return Step(name, config, state, f"{where} ({name})")


def refuse_unknown(step: Step, *known: str) -> None:
    """Refuses a step with a field that is not known.

    Raises:
        CheckpointError: Names the field.
    """
    if foreign := sorted(set(step.config) - set(known)):
        raise CheckpointError(
            f"{step.where}: this pioxide does not know its field {foreign[0]!r} "
            f"({step.config[foreign[0]]!r}), which may change what it does"
        )


def read_normalization(step: Step, root: Path) -> Normalization:
    """Reads a normaliser with its statistics.

    Raises:
        CheckpointError: A field is not known, or statistics make no sense.
    """
    config = step.config
    refuse_unknown(step, *_NORMALIZER_FIELDS)
    epsilon = config.get("eps", LEROBOT_EPSILON)
    features: dict[str, Feature] = {}
    listed: object = config.get("features") or {}
    if not is_object(listed):
        raise CheckpointError(f"{step.where}: features: expected an object, got {listed!r}")
    for key, one in listed.items():
        try:
            features[key] = Feature(str(one["type"]), tuple(one["shape"]))
        except (TypeError, KeyError) as error:
            raise CheckpointError(f"{step.where}: features: {key}: {error!r}") from error
    modes = read_modes(config.get("norm_map") or {}, f"{step.where}: norm_map")
    only = config.get("normalize_observation_keys")
    restricted = None if only is None else frozenset(texts(only, f"{step.where}: normalize_observation_keys"))
    if config.get("stats"):
        raise CheckpointError(f"{step.where}: statistics inside the JSON file are not read")
    stats, named = ({}, set[str]()) if step.state_file is None else read_stats(root / step.state_file)
    seen = sorted(key for key in named if features.get(key, Feature("", ())).type == "VISUAL")
    if seen and modes.get("VISUAL", NormMode.IDENTITY) is not NormMode.IDENTITY:
        raise CheckpointError(
            f"{step.where}: images are normalised ({modes['VISUAL']}, {seen[0]}), which no pipeline here does"
        )
    try:
        return Normalization(
            modes, float(NormRule.lerobot("identity", epsilon).epsilon), features, restricted, stats
        )
    except (InputError, TypeError) as error:
        raise CheckpointError(f"{step.where}: {error}") from error


def read_stats(file: Path) -> tuple[dict[str, Stats], set[str]]:
    """Returns the state's and the actions' statistics in a normaliser's state file, and all features in it.

    Raises:
        CheckpointError: The file is damaged, or statistics of the state or the actions make no sense.
    """
    opened = SafetensorsFile(file)
    try:
        table: dict[str, dict[str, Any]] = {}
        named: set[str] = set()
        for name, entry in opened.tensors.items():
            feature, _, statistic = name.rpartition(".")
            named.add(feature)
            if feature in (STATE, ACTION) and statistic in STATISTICS and entry.spec.size <= LARGEST:
                vector = np.atleast_1d(opened.read(name)).astype(np.float64)
                table.setdefault(feature, {})[statistic] = vector
    finally:
        opened.close()
    try:
        return {feature: Stats(**vectors) for feature, vectors in table.items()}, named
    except InputError as error:
        raise CheckpointError(f"{file}: the statistics make no sense: {error}") from error
