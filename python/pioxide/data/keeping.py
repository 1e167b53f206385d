"""Which frames of a dataset are used: those of a column of truth values, or of a file of spans.

A file is JSON: spans, `to` being the first frame after one (a span without both is its whole episode), or, as
openpi publishes for DROID, spans by the names of recordings, `recording_folderpath--file_path`:

    [{"episode": 0, "from": 12, "to": 120}, {"episode": 0, "from": 160, "to": 301}, {"episode": 1}]
    {"gs://xembodiment_data/r2d2/.../recordings/MP4--/nfs/.../trajectory.h5": [[12, 120], [160, 301]]}

What it does not name is left out. A frame that is used has its whole window of actions, which may reach into
frames that are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pioxide.data.episode import EpisodeInfo
from pioxide.data.kept import KeptFrames, spans_of
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.spans import frames_of
from pioxide.errors import InputError
from pioxide.files import read_json

# What DROID's list of episodes says, of which openpi makes a recording's name.
RECORDING = ("recording_folderpath", "file_path")


def keep_frames(dataset: LeRobotDataset, said: str) -> LeRobotDataset:
    """Returns the same dataset with the frames that a person chose.

    Args:
        dataset: Whose frames.
        said: A file where it ends in .json, and a column of the dataset elsewhere; "" for all frames.

    Raises:
        InputError: A span is of no episode or frame that there is, or overlaps another; there is no such
            column of truth values; or nothing is left.
        FormatError: The file is no JSON.
    """
    if not said:
        return dataset
    if said.endswith(".json"):
        spans = _of_file(read_json(Path(said)), dataset, said)
    else:
        spans = _of_column(said, dataset)
    kept = KeptFrames.of(said, spans, dataset.total_frames)
    if not kept.kept:
        raise InputError(f"frames: {said} keeps no frame of {dataset.path}")
    return replace(dataset, kept=kept)


def _of_column(column: str, dataset: LeRobotDataset) -> dict[int, NDArray[np.int64]]:
    feature = dataset.features.get(column)
    if feature is None or not feature.is_numeric or feature.dim != 1:
        there = ", ".join(k for k, f in dataset.features.items() if f.dtype == "bool" and f.dim == 1)
        raise InputError(
            f"frames: {column!r} is no column of a truth value a frame, of which there is {there or 'none'}; "
            "a file of spans ends in .json"
        )
    # An episode that can't be read stays whole: whoever reads it then says what is wrong.
    found = {info.index: np.array([[0, info.length]]) for info in dataset.episodes}
    for one in dataset.scan((column,), on_bad=lambda *_: None):
        values = one.columns[column].reshape(-1)
        if (odd := np.flatnonzero(~np.isin(values, (0, 1)))).size:
            raise InputError(
                f"frames: {column!r} is {values[odd[0]]:g} in frame {odd[0]} of episode {one.index}, "
                "expected true or false, or 1 or 0"
            )
        found[one.index] = spans_of(values == 1)
    return found


def _of_file(content: Any, dataset: LeRobotDataset, where: str) -> dict[int, NDArray[np.int64]]:
    lengths = {info.index: info.length for info in dataset.episodes}
    if isinstance(content, list):
        listed = (_listed(entry, f"{where}: span {n}") for n, entry in enumerate(cast("list[Any]", content)))
    elif isinstance(content, dict):
        listed = _recorded(cast("dict[str, Any]", content), dataset, where)
    else:
        raise InputError(
            f"{where}: expected a list of spans, or spans by recording, got {type(content).__name__}"
        )
    found: dict[int, list[tuple[int, int]]] = {}
    places: dict[int, str] = {}
    for place, episode, start, stop in listed:
        found.setdefault(episode, []).append(frames_of(place, lengths, episode, start, stop))
        places[episode] = place
    for episode, spans in found.items():
        spans.sort()
        for (_, stop), (start, _) in pairwise(spans):
            if start < stop:
                raise InputError(f"{places[episode]}: frame {start} of episode {episode} is in two spans")
    return {episode: _joined(spans) for episode, spans in found.items()}


def _joined(spans: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Rising spans, those that touch as one: they keep the same frames."""
    out: list[list[int]] = []
    for start, stop in spans:
        if out and out[-1][1] == start:
            out[-1][1] = stop
        else:
            out.append([start, stop])
    return np.array(out, np.int64).reshape(-1, 2)


def _listed(entry: Any, place: str) -> tuple[str, int, int, int | None]:
    got = {*cast("dict[str, Any]", entry)} if isinstance(entry, dict) else set[str]()
    if got not in ({"episode"}, {"episode", "from", "to"}):
        raise InputError(f"{place}: expected episode, from and to, got {entry!r:.200}")
    said = cast("dict[str, Any]", entry)
    for name, value in said.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{place}: {name}: expected a whole number, got {value!r}")
    return place, said["episode"], said.get("from", 0), said.get("to")


def _recorded(
    ranges: dict[str, Any], dataset: LeRobotDataset, where: str
) -> Iterable[tuple[str, int, int, int | None]]:
    """Spans by the names of recordings, those of recordings that the dataset has."""
    there = dataset.episode_columns()
    if lacking := [name for name in RECORDING if name not in there]:
        raise InputError(
            f"{where}: spans by recording need {' and '.join(RECORDING)} in the list of episodes, and "
            f"{lacking[0]} is not there; DROID has both, as `pioxide index` writes it"
        )
    folders, files = (dataset.episode_values(name) for name in RECORDING)
    known = 0
    for info in dataset.episodes:
        name = f"{folders.get(info.index)}--{files.get(info.index)}"
        if name not in ranges:
            continue
        known += 1
        yield from _ranges(ranges[name], info, f"{where}: {name}")
    if not known:
        raise InputError(f"{where}: names none of the {len(dataset.episodes):,} recordings of {dataset.path}")


def _ranges(given: Any, info: EpisodeInfo, place: str) -> Iterable[tuple[str, int, int, int | None]]:
    if not isinstance(given, list):
        raise InputError(f"{place}: expected a list of [from, to], got {given!r:.200}")
    for pair in cast("list[Any]", given):
        numbers: list[Any] = pair if isinstance(pair, list) else []
        if len(numbers) != 2 or not all(type(n) is int for n in numbers):
            raise InputError(f"{place}: expected [from, to], got {pair!r:.200}")
        yield place, info.index, numbers[0], numbers[1]
