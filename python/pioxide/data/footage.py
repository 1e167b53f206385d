"""Where a dataset's camera frames lie: which video file, and at which second of it an episode begins.

v2 has a file an episode; v3.0 puts many episodes into one, and lists where each begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from pioxide.data.faults import fault, unreadable
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.parquet import open_parquet
from pioxide.errors import DatasetError, FormatError
from pioxide.files import read_json

INFO = "meta/info.json"
V2_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True)
class Place:
    """An episode's video of one camera.

    Attributes:
        file: Relative to the dataset.
        start: Seconds into the file at which the episode begins.
    """

    file: str
    start: float


def video_places(
    dataset: LeRobotDataset,
    key: str,
    episodes: Iterable[int],
    *,
    on_missing: Callable[[int, DatasetError], None] | None = None,
) -> dict[int, Place]:
    """Returns where the video of each episode lies. No video is opened; every file is looked for.

    Args:
        dataset: Whose.
        key: A feature that is video.
        episodes: Indices.
        on_missing: Told of each episode whose video is not there, which is then left out; without it that is
            an error.

    Raises:
        DatasetError: The metadata do not say, or a file is not there.
    """
    chosen = sorted(set(episodes))
    info = _info(dataset)
    listed = _listed(dataset, key) if dataset.version == "v3.0" else {}
    default = V3_PATH if dataset.version == "v3.0" else V2_PATH
    template = info.get("video_path") or default
    chunk_size = info.get("chunks_size", 1000)
    places: dict[int, Place] = {}
    for index in chosen:
        fields: dict[str, Any] = {"video_key": key, "episode_index": index}
        start = 0.0
        if dataset.version == "v3.0":
            if index not in listed:
                reason = f"does not say where the video of {key!r} is"
                error = fault(reason, file="meta/episodes", episode=index)
                if on_missing is None:
                    raise error
                on_missing(index, error)
                continue
            chunk, number, start = listed[index]
            fields |= {"chunk_index": chunk, "file_index": number, "episode_chunk": chunk}
        else:
            # Converters use v3's names, too; in v2 an episode is a file, and a chunk is a folder.
            chunk = index // chunk_size
            fields |= {"episode_chunk": chunk, "chunk_index": chunk, "file_index": index}
        places[index] = Place(_filled(template, fields), start)
    for file in sorted({place.file for place in places.values()}):
        if (dataset.path / file).is_file():
            continue
        for index in [index for index, place in places.items() if place.file == file]:
            error = fault("no such file", file=file, episode=index)
            if on_missing is None:
                raise error
            on_missing(index, error)
            del places[index]
    return places


def _info(dataset: LeRobotDataset) -> dict[str, Any]:
    try:
        return read_json(dataset.path / INFO)
    except FormatError as error:
        raise fault(error.reason, file=INFO) from error


def _filled(template: Any, fields: Mapping[str, Any]) -> str:
    try:
        path = PurePosixPath(template.format(**fields))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise fault(f"video_path {template!r} can't be filled in with {sorted(fields)}", file=INFO) from error
    if path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise fault(f"video_path {template!r} leads outside the dataset", file=INFO)
    return path.as_posix()


def _listed(dataset: LeRobotDataset, key: str) -> dict[int, tuple[int, int, float]]:
    """By episode, v3.0's chunk and file number and the second at which it begins."""
    names = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    found: dict[int, tuple[int, int, float]] = {}
    for path in sorted(dataset.path.glob("meta/episodes/*/*.parquet")):
        file = path.relative_to(dataset.path).as_posix()
        try:
            with open_parquet(path) as parquet:
                if missing := [name for name in names if name not in parquet.schema_arrow.names]:
                    raise fault(f'has no column "{missing[0]}", which says where the video is', file=file)
                rows = parquet.read(columns=["episode_index", *names], use_threads=False).to_pylist()
        except DatasetError:
            raise
        except (OSError, pa.ArrowException, ValueError) as error:
            raise unreadable(dataset.path, file, error) from error
        for row in rows:
            chunk, number, start = (row[name] for name in names)
            if row["episode_index"] is None or None in (chunk, number, start):
                continue
            found[int(row["episode_index"])] = (int(chunk), int(number), float(start))
    return found
