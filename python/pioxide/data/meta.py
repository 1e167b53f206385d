"""The `meta/` folder of a LeRobot dataset, v2.0, v2.1 or v3.0, read into one form and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pioxide.data.episode import EpisodeInfo, Feature, parse_feature
from pioxide.data.faults import fault, one_line
from pioxide.errors import DatasetError, FormatError
from pioxide.files import parse_json, read_json, read_text

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
V3_COLUMNS = (
    "episode_index",
    "length",
    "tasks",
    "data/chunk_index",
    "data/file_index",
    "dataset_from_index",
    "dataset_to_index",
)


@dataclass(frozen=True)
class Meta:
    """Everything the metadata says.

    Attributes:
        version: "v2.0", "v2.1" or "v3.0".
        fps: frames a second.
        robot_type: as recorded, "unknown" where it is null.
        features: by key, in the order of `info.json`.
        tasks: instruction by task index.
        episodes: by index, 0..N-1.
        files: the metadata files that were read, relative to the dataset.
    """

    version: str
    fps: float
    robot_type: str
    features: dict[str, Feature]
    tasks: dict[int, str]
    episodes: tuple[EpisodeInfo, ...]
    files: tuple[str, ...]


def load_meta(root: Path) -> Meta:
    """Read the metadata of the dataset at `root`.

    Raises:
        DatasetError: a file is missing or malformed, the version is another one, episodes are missing,
            repeated or empty, or the totals contradict the list of episodes. The message names the file.
    """
    info = _read_info(root)
    version = info.get("codebase_version")
    if version not in VERSIONS:
        raise fault(f"codebase_version is {version!r}, expected one of {', '.join(VERSIONS)}", file=INFO)
    if info.get("storage_format", "parquet") != "parquet":
        raise fault(f"storage_format is {info['storage_format']!r}, only Parquet is read", file=INFO)
    features = _parse_features(info)
    read = _read_v3 if version == "v3.0" else _read_v2
    tasks, episodes, files = read(root, info)
    _check_episodes(info, episodes, files[-1])
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < float("inf"):
        raise fault(f"fps is {fps!r}, expected a positive number", file=INFO)
    robot_type = info.get("robot_type")
    return Meta(
        version=version,
        fps=float(fps),
        robot_type=robot_type if isinstance(robot_type, str) else "unknown",
        features=features,
        tasks=tasks,
        episodes=tuple(episodes),
        files=(INFO, *files),
    )


def _read_info(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise fault("no such directory", file=str(root))
    if not (root / INFO).exists():
        raise fault(f"no such file; {root} is not a LeRobot dataset", file=INFO)
    try:
        info = read_json(root / INFO)
    except FormatError as error:
        raise fault(error.reason, file=INFO) from error
    if not isinstance(info, dict):
        raise fault("is not a JSON object", file=INFO)
    return info


def _parse_features(info: dict[str, Any]) -> dict[str, Feature]:
    declared = info.get("features")
    if not isinstance(declared, dict):
        raise fault('has no "features" object', file=INFO)
    features = {}
    for key, value in declared.items():
        try:
            features[key] = parse_feature(value)
        except (KeyError, TypeError, ValueError) as error:
            raise fault(f'feature "{key}" needs a dtype and a shape of integers', file=INFO) from error
    return features


def _read_v2(root: Path, info: dict[str, Any]) -> tuple[dict[int, str], list[EpisodeInfo], tuple[str, ...]]:
    episodes_file, tasks_file = "meta/episodes.jsonl", "meta/tasks.jsonl"
    chunk_size = info.get("chunks_size", 1000)
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise fault(f"chunks_size is {chunk_size!r}, expected a positive integer", file=INFO)
    template = info.get("data_path", "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet")
    episodes = []
    for line, row in _json_lines(root, episodes_file):
        index = _integer(row, "episode_index", f"{episodes_file}:{line}")
        length = _integer(row, "length", f"{episodes_file}:{line}")
        file = _data_path(template, episode_chunk=index // chunk_size, episode_index=index)
        episodes.append(EpisodeInfo(index, length, _strings(row.get("tasks")), file))
    return _jsonl_tasks(root, tasks_file), episodes, (tasks_file, episodes_file)


def _read_v3(root: Path, info: dict[str, Any]) -> tuple[dict[int, str], list[EpisodeInfo], tuple[str, ...]]:
    template = info.get("data_path", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet")
    tasks_file = "meta/tasks.parquet"
    if (root / tasks_file).exists():
        tasks = _parquet_tasks(root, tasks_file)
    else:  # early v3.0 recordings kept the older file
        tasks_file = "meta/tasks.jsonl"
        tasks = _jsonl_tasks(root, tasks_file)
    tables = sorted(path.relative_to(root).as_posix() for path in root.glob("meta/episodes/*/*.parquet"))
    if not tables:
        raise fault("has no chunk-*/file-*.parquet", file="meta/episodes")
    episodes = []
    for file in tables:
        for row in _table(root, file, V3_COLUMNS).to_pylist():
            index = _integer(row, "episode_index", file)
            where = f"{file}: episode {index}"
            length = _integer(row, "length", where)
            start = _integer(row, "dataset_from_index", where)
            stop = _integer(row, "dataset_to_index", where)
            if stop - start != length:
                raise fault(
                    f"rows {start} to {stop} of the dataset are {stop - start}, but length is {length}",
                    file=file,
                    episode=index,
                )
            path = _data_path(
                template,
                chunk_index=_integer(row, "data/chunk_index", where),
                file_index=_integer(row, "data/file_index", where),
            )
            episodes.append(EpisodeInfo(index, length, _strings(row["tasks"]), path, start))
    return tasks, episodes, (tasks_file, *tables)


def _check_episodes(info: dict[str, Any], episodes: list[EpisodeInfo], file: str) -> None:
    """Sort by index; indices must be 0..N-1, lengths positive, and the totals must agree."""
    episodes.sort(key=lambda episode: episode.index)
    for expected, episode in enumerate(episodes):
        if episode.index < expected:
            raise fault(f"episode {episode.index} is listed twice", file=file)
        if episode.index > expected:
            raise fault(f"episode {expected} is missing: the next one is {episode.index}", file=file)
        if episode.length < 1:
            raise fault(f"length is {episode.length}", file=file, episode=episode.index)
    if not episodes:
        raise fault("lists no episode", file=file)
    totals = {"total_episodes": len(episodes), "total_frames": sum(e.length for e in episodes)}
    for key, found in totals.items():
        if key in info and info[key] != found:
            raise fault(f"{key} is {info[key]!r}, but the listed episodes make {found}", file=INFO)


def _jsonl_tasks(root: Path, file: str) -> dict[int, str]:
    tasks: dict[int, str] = {}
    for line, row in _json_lines(root, file):
        _add_task(tasks, _integer(row, "task_index", f"{file}:{line}"), row.get("task"), f"{file}:{line}")
    return tasks


def _parquet_tasks(root: Path, file: str) -> dict[int, str]:
    """A pandas table whose index is the instruction: stored as `task` or, unnamed, as `__index_level_0__`."""
    table = _table(root, file)
    text = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
    if text is None or "task_index" not in table.column_names:
        raise fault(f"expected the columns task and task_index, found {table.column_names}", file=file)
    tasks: dict[int, str] = {}
    for row in table.to_pylist():
        _add_task(tasks, _integer(row, "task_index", file), row[text], file)
    return tasks


def _add_task(tasks: dict[int, str], index: int, task: Any, where: str) -> None:
    if not isinstance(task, str):
        raise fault(f"task {index} is {task!r}, expected a string", file=where)
    if tasks.setdefault(index, task) != task:
        raise fault(f"task {index} is both {tasks[index]!r} and {task!r}", file=where)


def _json_lines(root: Path, file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = read_text(root / file).split("\n")
    except FormatError as error:
        raise fault(error.reason, file=file) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, "")
        except FormatError as error:
            raise fault(error.reason, file=f"{file}:{number}") from error
        if not isinstance(row, dict):
            raise fault("is not a JSON object", file=f"{file}:{number}")
        yield number, row


def _table(root: Path, file: str, columns: tuple[str, ...] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(root / file) as parquet:
            present = parquet.schema_arrow.names
            missing = [name for name in columns or () if name not in present]
            if missing:
                raise fault(f"has no column {missing[0]!r}", file=file)
            return parquet.read(columns=None if columns is None else list(columns), use_threads=False)
    except FileNotFoundError as error:
        raise fault("no such file", file=file) from error
    except DatasetError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise fault(f"can't be read as Parquet ({one_line(error)})", file=file) from error


def _data_path(template: Any, **fields: int) -> str:
    """Fill in `data_path`; a dataset must not point outside its own directory."""
    try:
        path = PurePosixPath(template.format(**fields))
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        raise fault(f"data_path {template!r} can't be filled in with {sorted(fields)}", file=INFO) from error
    if path.is_absolute() or ".." in path.parts:
        raise fault(f"data_path {template!r} leads outside the dataset", file=INFO)
    return path.as_posix()


def _integer(row: dict[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise fault(f"{key} is {value!r}, expected an integer from 0", file=where)
    return value


def _strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(item) for item in value or ())
