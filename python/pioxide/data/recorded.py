"""The statistics that came with a dataset, beside those that its numbers have: part of `data.survey`.

pioxide computes its own; other trainers normalise by the recorded ones, which an edited dataset often keeps
from before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pioxide.data.columns import FrameColumns
from pioxide.data.findings import Code, Finding
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.rlds.pictures import is_indexed
from pioxide.data.summary import ColumnSummary, EpisodeSummary, Floats
from pioxide.errors import FormatError
from pioxide.files import parse_json, read_json, read_text

# Share of a joint's range by which a recorded number may be off.
TOLERANCE = 0.02
STATS, EPISODES_STATS = "meta/stats.json", "meta/episodes_stats.jsonl"
WAY_OUT = "other trainers normalise by it: compute it anew"


def check_recorded(
    dataset: LeRobotDataset, columns: FrameColumns, summaries: Sequence[EpisodeSummary]
) -> list[Finding]:
    """Compares recorded smallest, largest and mean values with those that were read.

    Args:
        dataset: whose.
        columns: that were read; nothing is compared where only some of their dimensions were.
        summaries: of the episodes that could be read.
    """
    if not summaries or columns.state_dims is not None or columns.action_dims is not None:
        return []
    if len(summaries) < len(dataset.episodes):
        return []  # the recorded ones are of all
    if is_indexed(dataset.path):
        return []  # which has none, and no other trainer reads
    try:
        file, recorded = _recorded(dataset)
    except FormatError as error:
        place = STATS if (dataset.path / STATS).exists() else EPISODES_STATS
        return [Finding(Code.STATS, place, error.reason or str(error), WAY_OUT)]
    if not file:
        message = "has no stats.json or episodes_stats.jsonl"
        return [Finding(Code.STATS, "meta", message, "other trainers need it to normalise: compute it")]
    found: list[Finding] = []
    start = {"state": 0, "actions": 0}
    for what, keys in (("state", columns.state_keys), ("actions", columns.action_keys)):
        for key in keys:
            stop = start[what] + dataset.features[key].dim
            place = slice(start[what], stop)
            start[what] = stop
            parts = [(s.length, s.state if what == "state" else s.actions) for s in summaries]
            message = _difference(recorded.get(key), parts, place, dataset.names([key]))
            if message and all(finding.message != message for finding in found):
                found.append(Finding(Code.STATS, f"{key} ({file})", message, WAY_OUT))
    return found


def _recorded(dataset: LeRobotDataset) -> tuple[str, dict[str, Any]]:
    """The file, and by key smallest, largest and mean value, and standard deviation."""
    if (dataset.path / STATS).exists():
        stats = read_json(dataset.path / STATS)
        return STATS, stats if isinstance(stats, dict) else {}
    if not (dataset.path / EPISODES_STATS).exists():
        return "", {}
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for line in read_text(dataset.path / EPISODES_STATS).splitlines():
        row = parse_json(line, EPISODES_STATS) if line.strip() else {}
        for key, of_key in row.get("stats", {}).items():
            rows.setdefault(key, []).append((row.get("episode_index", -1), of_key))
    listed = {info.index: info.length for info in dataset.episodes}
    merged: dict[str, Any] = {}
    for key, entries in rows.items():
        if key not in dataset.features or not dataset.features[key].is_numeric:
            continue
        try:
            known = [(listed[index], stats) for index, stats in entries if index in listed]
            weights = np.array([length for length, _ in known], np.float64)
            means = np.array([np.ravel(stats["mean"]) for _, stats in known], np.float64)
            merged[key] = {
                "episodes": len(known),
                "min": np.min([np.ravel(stats["min"]) for _, stats in known], axis=0),
                "max": np.max([np.ravel(stats["max"]) for _, stats in known], axis=0),
                "mean": weights @ means / weights.sum(),
            }
        except (KeyError, TypeError, ValueError):
            merged[key] = None
    return EPISODES_STATS, merged


def _difference(
    recorded: Any, parts: Sequence[tuple[int, ColumnSummary]], place: slice, names: Sequence[str]
) -> str:
    """What is wrong with the recorded statistics of one column, in a sentence; "" where nothing is."""
    if recorded is None:
        return "has no statistics that can be read"
    if recorded.get("episodes", len(parts)) != len(parts):
        return f"has statistics of {recorded['episodes']:,} of {len(parts):,} episodes"
    lengths = np.array([length for length, _ in parts], np.float64)
    low: Floats = np.min([part.low[place] for _, part in parts], axis=0)
    high: Floats = np.max([part.high[place] for _, part in parts], axis=0)
    means = np.array([part.mean[place] for _, part in parts])
    true = {"min": low, "max": high, "mean": lengths @ means / lengths.sum()}
    if "std" in recorded:
        squares = sum(part.squares[place] for _, part in parts)
        squares = squares + lengths @ np.square(means - true["mean"])
        true["std"] = np.sqrt(squares / lengths.sum())
    allowed = TOLERANCE * np.maximum(high - low, 1e-6 * np.maximum(np.abs(low), np.abs(high)) + 1e-9)
    for name, expected in true.items():
        try:
            values = np.ravel(np.asarray(recorded[name], np.float64))
        except (KeyError, TypeError, ValueError):
            return f"has no {name} that can be read"
        if values.shape != expected.shape:
            return f"has a {name} of {values.size} numbers, and the data have {expected.size}"
        apart = np.abs(values - expected)
        if not (apart <= allowed).all():
            joint = int(np.argmax(np.where(np.isfinite(apart), apart / allowed, np.inf)))
            return (
                f"says that the {name} of {names[joint]} is {values[joint]:.4g}; it is {expected[joint]:.4g}"
            )
    return ""
