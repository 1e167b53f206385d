"""LeRobot datasets written whole or not at all, v3.0 with video: for recorders, examples and tests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pioxide.data.video_writer import CameraWriter
from pioxide.errors import InputError
from pioxide.files import new_directory, write_json, write_text

CHUNK_SIZE = 1000  # episodes (v2.1) or files (v3.0) a folder
INDEX_FEATURES = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64"}
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
VIDEO_FILE_MB = 200
# Frames of an episode, spread over it, that its picture statistics are of.
PICTURED_FRAMES = 20
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


@dataclass(frozen=True)
class EpisodeData:
    """One episode to write.

    Attributes:
        columns: by feature key, arrays [T] or [T, D] of one length T >= 1; the dtype is kept.
        task: the instruction, or one for every frame.
        videos: by feature key, pictures [T, height, width, 3] uint8 (v3.0 only).
    """

    columns: Mapping[str, NDArray]
    task: str | Sequence[str]
    videos: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Returns the number of frames T."""
        return len(next(iter(self.columns.values())))

    @property
    def frame_tasks(self) -> list[str]:
        """Returns the instruction of every frame."""
        return [self.task] * self.length if isinstance(self.task, str) else list(self.task)


def write_lerobot_v3(
    path: str | os.PathLike[str],
    episodes: Iterable[EpisodeData],
    *,
    fps: int,
    robot_type: str,
    names: Mapping[str, Sequence[str]] | None = None,
    rows_per_file: int = 1_000_000,
    compression: str = "snappy",
) -> Path:
    """Writes a LeRobot v3.0 dataset: many episodes a file, one row group an episode, video in H.264.

    Args:
        path: the new dataset's directory; must not exist or be empty.
        episodes: what to write, all with the same columns.
        fps: frames a second.
        robot_type: for `info.json`.
        names: of a column's dimensions (joints).
        rows_per_file: a file is closed before it would exceed this many rows.
        compression: of the data files, e.g. "snappy" or "zstd".

    Returns:
        The directory.

    Raises:
        InputError: the directory is not empty, there are no episodes, their columns or pictures don't
            agree, or a value is NaN or infinite.
    """
    with _new_dataset(Path(path)) as root:
        recording = _Recording(episodes, names or {}, fps)
        cameras: dict[str, CameraWriter] = {}
        writer: pq.ParquetWriter | None = None
        rows_in_file, file, first_row = 0, -1, 0
        listed: list[dict[str, Any]] = []
        try:
            for index, (episode, table) in enumerate(recording):
                if writer is None or rows_in_file + episode.length > rows_per_file:
                    if writer is not None:
                        writer.close()
                    file, rows_in_file = file + 1, 0
                    at = {"chunk_index": file // CHUNK_SIZE, "file_index": file % CHUNK_SIZE}
                    name = root / DATA_PATH.format(**at)
                    name.parent.mkdir(parents=True, exist_ok=True)
                    writer = _parquet_writer(name, table.schema, compression)
                writer.write_table(table, row_group_size=episode.length)
                rows_in_file += episode.length
                listed.append(
                    {
                        "episode_index": index,
                        "tasks": list(dict.fromkeys(episode.frame_tasks)),
                        "length": episode.length,
                        "data/chunk_index": file // CHUNK_SIZE,
                        "data/file_index": file % CHUNK_SIZE,
                        "dataset_from_index": first_row,
                        "dataset_to_index": first_row + episode.length,
                        "meta/episodes/chunk_index": 0,
                        "meta/episodes/file_index": 0,
                    }
                    | _encode(root, cameras, episode, fps)
                    | {
                        f"stats/{key}/{name}": value
                        for key, stats in recording.stats[index].items()
                        for name, value in stats.items()
                    }
                )
                first_row += episode.length
        finally:
            if writer is not None:
                writer.close()
            for camera in cameras.values():
                camera.close()
        (root / "meta/episodes/chunk-000").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(listed), root / "meta/episodes/chunk-000/file-000.parquet")
        pq.write_table(_task_table(recording.tasks), root / "meta/tasks.parquet")
        write_json(root / "meta/stats.json", _joined(recording.stats))
        info = recording.info("v3.0", robot_type) | {
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": VIDEO_FILE_MB,
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if cameras else None,
        }
        for key, (height, width, _) in recording.pictures.items():
            info["features"][key] = cameras[key].feature(height, width)
        write_json(root / "meta/info.json", info)
    return Path(path)


def write_lerobot_v21(
    path: str | os.PathLike[str],
    episodes: Iterable[EpisodeData],
    *,
    fps: int,
    robot_type: str,
    names: Mapping[str, Sequence[str]] | None = None,
    compression: str = "snappy",
) -> Path:
    """Writes a LeRobot v2.1 dataset: one file an episode. Arguments and errors as in `write_lerobot_v3`."""
    with _new_dataset(Path(path)) as root:
        recording = _Recording(episodes, names or {}, fps)
        listed: list[dict[str, Any]] = []
        for index, (episode, table) in enumerate(recording):
            if episode.videos:
                raise InputError("videos are written in v3.0 only: use write_lerobot_v3")
            name = root / f"data/chunk-{index // CHUNK_SIZE:03d}/episode_{index:06d}.parquet"
            name.parent.mkdir(parents=True, exist_ok=True)
            with _parquet_writer(name, table.schema, compression) as writer:
                writer.write_table(table, row_group_size=episode.length)
            tasks = list(dict.fromkeys(episode.frame_tasks))
            listed.append({"episode_index": index, "tasks": tasks, "length": episode.length})
        (root / "meta").mkdir()
        _write_lines(root / "meta/episodes.jsonl", listed)
        tasks = [{"task_index": i, "task": task} for task, i in recording.tasks.items()]
        _write_lines(root / "meta/tasks.jsonl", tasks)
        kept = ("min", "max", "mean", "std", "count")
        stats = [
            {"episode_index": i, "stats": {key: {n: s[n] for n in kept} for key, s in of_episode.items()}}
            for i, of_episode in enumerate(recording.stats)
        ]
        _write_lines(root / "meta/episodes_stats.jsonl", stats)
        info = recording.info("v2.1", robot_type) | {
            "total_videos": 0,
            "total_chunks": -(-len(listed) // CHUNK_SIZE),
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": None,
        }
        write_json(root / "meta/info.json", info)
    return Path(path)


class _Recording:
    """Episodes as Arrow tables, one after another; tasks, features, statistics, totals add up meanwhile."""

    def __init__(self, episodes: Iterable[EpisodeData], names: Mapping[str, Sequence[str]], fps: int):
        if fps <= 0:
            raise InputError(f"fps is {fps}, expected a positive number")
        self.episodes = episodes
        self.names = names
        self.fps = fps
        self.tasks: dict[str, int] = {}
        self.stats: list[dict[str, dict[str, list]]] = []
        self.columns: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.pictures: dict[str, tuple[int, ...]] = {}
        self.frames = 0

    def __iter__(self) -> Iterator[tuple[EpisodeData, pa.Table]]:
        for index, episode in enumerate(self.episodes):
            yield episode, self._table(index, episode)
            self.frames += episode.length
        if not self.stats:
            raise InputError("a dataset needs at least one episode")
        unknown = [key for key in self.names if key not in self.columns]
        if unknown:
            raise InputError(f'names are given for "{unknown[0]}", which is no column')

    def _table(self, index: int, episode: EpisodeData) -> pa.Table:
        found: dict[str, tuple[str, tuple[int, ...]]] = {
            key: (str(a.dtype), a.shape[1:] or (1,)) for key, a in episode.columns.items()
        }
        if not found or (self.columns and found != self.columns):
            raise InputError(f"episode {index} has columns {found}, expected {self.columns or 'some'}")
        self.columns = found
        length, tasks = episode.length, episode.frame_tasks
        self._check_pictures(index, episode)
        for key, array in episode.columns.items():
            if key in INDEX_FEATURES or key == "task_index":
                raise InputError(f'episode {index}: "{key}" is filled in by the writer')
            if len(array) != length or array.ndim > 2:
                raise InputError(
                    f'episode {index}: "{key}" has shape {array.shape}, expected [{length}] or [{length}, D]'
                )
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                frame, *at = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
                which = f", dimension {at[0]}" if at else ""
                raise InputError(
                    f'episode {index}: "{key}" frame {frame}{which} is {array[(frame, *at)]}, which '
                    "statistics can't hold: leave out the episode, or the column"
                )
            joints = self.names.get(key)
            if joints is not None and len(joints) != found[key][1][0]:
                raise InputError(f'"{key}" has {found[key][1][0]} dimensions but {len(joints)} names')
        if length == 0 or len(tasks) != length:
            raise InputError(f"episode {index} has {length} frames and {len(tasks)} tasks")
        frame = np.arange(length)
        arrays: dict[str, NDArray] = dict(episode.columns) | {
            "timestamp": (frame / self.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(length, index),
            "index": frame + self.frames,
            "task_index": np.array([self.tasks.setdefault(task, len(self.tasks)) for task in tasks]),
        }
        pictures = {key: _describe_pictures(frames) for key, frames in episode.videos.items()}
        self.stats.append({key: _describe(array) for key, array in arrays.items()} | pictures)
        return pa.table({key: _arrow(array) for key, array in arrays.items()})

    def _check_pictures(self, index: int, episode: EpisodeData) -> None:
        shapes = {key: frames.shape[1:] for key, frames in episode.videos.items()}
        if self.stats and shapes != self.pictures:
            raise InputError(f"episode {index} has pictures {shapes}, expected {self.pictures}")
        self.pictures = shapes
        for key, frames in episode.videos.items():
            if key in episode.columns:
                raise InputError(f'episode {index}: "{key}" is a column and a video')
            if (
                frames.ndim != 4
                or frames.shape[3] != 3
                or frames.dtype != np.uint8
                or len(frames) != episode.length
            ):
                raise InputError(
                    f'episode {index}: "{key}" has shape {frames.shape} of {frames.dtype}, expected '
                    f"[{episode.length}, height, width, 3] of uint8"
                )

    def info(self, version: str, robot_type: str) -> dict[str, Any]:
        """Returns the part of `info.json` that the versions share."""
        features: dict[str, Any] = {}
        for key, (dtype, shape) in self.columns.items():
            names = self.names.get(key)
            features[key] = {"dtype": dtype, "shape": list(shape), "names": list(names) if names else None}
        for key, dtype in {**INDEX_FEATURES, "task_index": "int64"}.items():
            features[key] = {"dtype": dtype, "shape": [1], "names": None}
        return {
            "codebase_version": version,
            "robot_type": robot_type,
            "total_episodes": len(self.stats),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK_SIZE,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self.stats)}"},
            "features": features,
        }


def _encode(
    root: Path, cameras: dict[str, CameraWriter], episode: EpisodeData, fps: int
) -> dict[str, int | float]:
    """Write an episode's videos; where they are, as the list of episodes says it."""
    listed: dict[str, int | float] = {}
    for key, frames in episode.videos.items():
        if key not in cameras:
            template = VIDEO_PATH.replace("{video_key}", key)
            cameras[key] = CameraWriter(root, template, fps, CHUNK_SIZE, VIDEO_FILE_MB * 1_000_000)
        place = cameras[key].write(frames)
        listed |= {f"videos/{key}/{name}": value for name, value in place._asdict().items()}
    return listed


@contextmanager
def _new_dataset(path: Path) -> Iterator[Path]:
    """A directory to write into, which becomes `path` when everything is in it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already; a dataset is written to a new directory")
    with new_directory(path) as root:
        yield root


def _parquet_writer(file: Path, schema: pa.Schema, compression: str) -> pq.ParquetWriter:
    # Dictionaries cost space where every value is another; floats compress better with their bytes taken
    # apart.
    integers = [f.name for f in schema if pa.types.is_integer(f.type)]
    floats = [f.name for f in schema if pa.types.is_floating(f.type)]
    floats += [
        f"{f.name}.list.element"
        for f in schema
        if pa.types.is_fixed_size_list(f.type) and pa.types.is_floating(f.type.value_type)
    ]
    return pq.ParquetWriter(
        file,
        schema,
        compression=compression,
        use_dictionary=integers,  # type: ignore[arg-type]  # pyarrow's stub says bool
        use_byte_stream_split=floats,  # type: ignore[arg-type]
    )


def _arrow(array: NDArray) -> pa.Array:
    if array.ndim == 1:
        return pa.array(array)
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def _task_table(tasks: Mapping[str, int]) -> pa.Table:
    """A table that pandas reads as one with the instruction as its index, as LeRobot expects."""
    description = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": None,
                "field_name": "__index_level_0__",
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": list(tasks.values()), "__index_level_0__": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(description)})


def _describe(array: NDArray) -> dict[str, list]:
    """LeRobot's statistics of one column, each a list with a number a dimension."""
    values = array.reshape(len(array), -1).astype(np.float64)
    out = {
        "min": values.min(axis=0).tolist(),
        "max": values.max(axis=0).tolist(),
        "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(),
        "count": [len(values)],
    }
    return out | {name: np.quantile(values, p, axis=0).tolist() for name, p in QUANTILES.items()}


def _describe_pictures(frames: NDArray[np.uint8]) -> dict[str, list]:
    """LeRobot's statistics of a camera: by channel in [0, 1], as [3, 1, 1], of some frames."""
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), PICTURED_FRAMES)).round().astype(int)]
    channels = _describe(chosen.reshape(-1, 3) / 255.0)
    shaped = {name: [[[value]] for value in values] for name, values in channels.items() if name != "count"}
    return shaped | {"count": [len(chosen)]}


def _joined(stats: Sequence[dict[str, dict[str, list]]]) -> dict[str, dict[str, list]]:
    """Statistics of all episodes from those of each; quantiles by LeRobot's rule, the outermost of them."""
    out: dict[str, dict[str, list]] = {}
    for key in stats[0]:
        columns = {name: np.array([s[key][name] for s in stats], np.float64) for name in stats[0][key]}
        counts = columns["count"].reshape(-1, *(1 for _ in columns["mean"].shape[1:]))
        total = counts.sum()
        mean = (columns["mean"] * counts).sum(axis=0) / total
        spread = ((columns["std"] ** 2 + (columns["mean"] - mean) ** 2) * counts).sum(axis=0) / total
        out[key] = {
            "min": columns["min"].min(axis=0).tolist(),
            "max": columns["max"].max(axis=0).tolist(),
            "mean": mean.tolist(),
            "std": np.sqrt(spread).tolist(),
            "count": [int(total)],
        }
        for name, p in QUANTILES.items():
            outermost = np.min if p <= 0.5 else np.max
            out[key][name] = outermost(columns[name], axis=0).tolist()
    return out


def _write_lines(file: Path, rows: Iterable[Any]) -> None:
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
