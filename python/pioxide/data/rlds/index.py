"""A dataset made of RLDS records: their numbers as LeRobot v3.0 has them, their pictures left where they are.

What is written is small: numbers, instructions, and 16 bytes a picture that say where it lies. Every byte of
the records is read once, and its checksum compared; a run that was stopped goes on at the shard where it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pioxide.data.faults import fault, nothing_left, unreadable
from pioxide.data.rlds.episodes import PLACE, Steps, read_steps, stored_as
from pioxide.data.rlds.layout import RldsDirectory, missing_shards
from pioxide.data.rlds.mapping import PICTURES, RLDS, CheckedMapping, RldsMapping
from pioxide.data.rlds.records import Record, Torn, read_records
from pioxide.errors import DatasetError, FormatError, SettingsError
from pioxide.files import (
    HashingFile,
    atomic_file,
    json_text,
    locked,
    make_directory,
    parse_json,
    read_json,
    remove_temporary,
    write_json,
)

INFO = "meta/info.json"
PROGRESS, FRAMES = ".progress", "frames"
CHUNK = 1000
OWN = ("observation.state", "action")
# Names of the list of episodes that a record's own may not take.
TAKEN = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index")


@dataclass(frozen=True)
class Indexed:
    """What was made.

    Attributes:
        path: The dataset.
        episodes: How many it lists.
        frames: Of all of them.
        left_out: Episodes that could not be read, with the reason.
        found: Whether all of it was there already.
    """

    path: Path
    episodes: int
    frames: int
    left_out: tuple[tuple[int, str], ...]
    found: bool = False


def index_rlds(
    directory: RldsDirectory,
    mapping: RldsMapping,
    output: Path,
    *,
    skip_bad: bool = False,
    workers: int = 4,
    on_done: Callable[[int], None] | None = None,
) -> Indexed:
    """Makes a dataset of an RLDS one, or goes on where a stopped run was.

    Args:
        directory: The records.
        mapping: What their features mean.
        output: The dataset's directory.
        skip_bad: Whether episodes that can't be read are left out, with a reason each.
        workers: Shards read at once.
        on_done: Told of episodes that were dealt with, in this run or before.

    Raises:
        InputError: The mapping does not fit.
        DatasetError: A shard is missing, or a record can't be read, without `skip_bad`; or nothing is left.
        SettingsError: `output` was made of other records or with another mapping.
        OutputError: It can't be written, or another run is writing it.
    """
    checked = mapping.checked(directory)
    missing = missing_shards(directory)
    if missing and not skip_bad:
        more = f" ({len(missing)} shards are missing)" if len(missing) > 1 else ""
        raise DatasetError(f"{missing[0]}{more}; fetch it, or leave its episodes out (--skip-bad)")
    settings = parse_json(json_text(_settings(directory, mapping)), "settings")  # as it will be read
    make_directory(output)
    with locked(output):
        if (output / INFO).is_file():
            return _there(output, settings)
        _begin(output, settings)
        job = _Job(directory, checked, output, skip_bad)
        tell = on_done or (lambda count: None)
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="index") as pool:
            running = {pool.submit(job.shard, number): number for number in range(len(directory.files))}
            try:
                for one in as_completed(running):
                    one.result()
                    tell(directory.records[running[one]])
            except BaseException:
                job.stopped = True
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        made = job.finish(settings)
        shutil.rmtree(output / PROGRESS, ignore_errors=True)
    return made


def _settings(directory: RldsDirectory, mapping: RldsMapping) -> dict[str, Any]:
    sizes = [
        (directory.path / file).stat().st_size if (directory.path / file).is_file() else None
        for file in directory.files
    ]
    return {
        "format": 1,
        "source": os.fspath(directory.path.resolve()),
        "name": directory.name,
        "version": directory.version,
        "split": directory.split,
        "kind": directory.kind,
        "shards": [
            {"file": file, "records": count, "bytes": size}
            for file, count, size in zip(directory.files, directory.records, sizes, strict=True)
        ],
        "mapping": asdict(mapping),
    }


def _there(output: Path, settings: dict[str, Any]) -> Indexed:
    """What an earlier run made, if it is of the same records."""
    if not (output / RLDS).is_file():
        raise SettingsError(f"{output} holds another dataset; name another directory")
    found = read_json(output / RLDS)
    _refuse_others(output, {key: found.get(key) for key in settings}, settings)
    info = read_json(output / INFO)
    left_out = tuple((int(i), str(reason)) for i, reason in found["left_out"])
    return Indexed(output, info["total_episodes"], info["total_frames"], left_out, found=True)


def _begin(output: Path, settings: dict[str, Any]) -> None:
    progress = output / PROGRESS
    make_directory(progress)
    remove_temporary(progress)
    if (progress / "settings.json").is_file():
        _refuse_others(output, read_json(progress / "settings.json"), settings)
    else:
        write_json(progress / "settings.json", settings)


def _refuse_others(output: Path, found: dict[str, Any], settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        if found.get(key) != value:
            raise SettingsError(
                f"{output} was begun with another {key}; name another directory, or delete this one"
            )


class _Job:
    """The work of one run."""

    def __init__(
        self, directory: RldsDirectory, checked: CheckedMapping, output: Path, skip_bad: bool
    ) -> None:
        self.directory, self.checked, self.output, self.skip_bad = directory, checked, output, skip_bad
        self.first = np.concatenate([[0], np.cumsum(directory.records)]).tolist()
        self.stopped = False

    def _piece(self, number: int, ending: str) -> Path:
        return self.output / PROGRESS / f"{number:05d}.{ending}"

    def shard(self, number: int) -> None:
        """Reads one shard, unless that is done; its list is written last.

        Raises:
            DatasetError: A record can't be read, without `skip_bad`.
        """
        if self.stopped or self._piece(number, "json").is_file():
            return
        file, count = self.directory.files[number], self.directory.records[number]
        listed: list[dict[str, Any]] = []
        bad: list[tuple[int, str]] = []
        tables: list[pa.Table] = []
        index, stop = self.first[number], self.first[number] + count
        if not (self.directory.path / file).is_file():
            bad = [(lost, f"{file}: no such file") for lost in range(index, stop)]
            index = stop
        for record in read_records(self.directory.path, file, self.directory.kind) if index < stop else ():
            if self.stopped:
                return
            result = self._episode(record, index, stop, number)
            if isinstance(result, DatasetError):
                # With records that nobody described, the numbers of all later episodes are in doubt.
                if not self.skip_bad or index >= stop:
                    raise result
                lost = range(index, stop) if isinstance(result, Torn) else (index,)
                bad += [(one, str(result)) for one in lost]
                index = lost[-1] + 1 if lost else index
                continue
            listed.append({"episode_index": index, "length": len(result), "said": result.said})
            tables.append(self._table(index, result))
            index += 1
        if index < stop:
            error = fault(
                f"has {index - self.first[number]:,} records, and {count:,} are described", file=file
            )
            if not self.skip_bad:
                raise error
            bad += [(lost, str(error)) for lost in range(index, stop)]
        if tables:
            with atomic_file(self._piece(number, "parquet")) as out:
                _write_groups(out, tables)
        write_json(self._piece(number, "json"), {"episodes": listed, "bad": bad})

    def _episode(
        self, record: Record | DatasetError, index: int, stop: int, number: int
    ) -> Steps | DatasetError:
        file = self.directory.files[number]
        if isinstance(record, DatasetError):
            return record
        if index >= stop:
            count = self.directory.records[number]
            return Torn(f"{file}: has more records than the {count:,} that are described")
        try:
            return read_steps(record, index, self.checked, self.directory)
        except FormatError as error:
            return fault(f"record {index - self.first[number]} {error}", file=file, episode=index)

    def _table(self, index: int, steps: Steps) -> pa.Table:
        columns: dict[str, pa.Array] = {
            OWN[0]: _vectors(steps.state),
            OWN[1]: _vectors(steps.actions),
            "text": pa.array(steps.texts).dictionary_encode(),
            "episode_index": pa.array(np.full(len(steps), index)),
        }
        for name, places in steps.pictures.items():
            content = pa.py_buffer(np.ascontiguousarray(places))
            columns[name] = pa.Array.from_buffers(pa.binary(PLACE.itemsize), len(places), [None, content])
        return pa.table(columns)

    def finish(self, settings: dict[str, Any]) -> Indexed:
        """Writes the dataset of what was read; `info.json` last, without which it is none."""
        pieces = [read_json(self._piece(n, "json")) for n in range(len(self.directory.files))]
        bad = [(int(i), str(reason)) for piece in pieces for i, reason in piece["bad"]]
        if not any(piece["episodes"] for piece in pieces):
            raise nothing_left([reason for _, reason in bad])
        tasks: dict[str, int] = {}
        listed: list[dict[str, Any]] = []
        row = 0
        with ExitStack() as stack:
            places: dict[str, HashingFile] = {}
            for name in self.checked.cameras:
                make_directory(self.output / FRAMES)
                path = self.output / FRAMES / f"{PICTURES}{name}.bin"
                places[name] = stack.enter_context(atomic_file(path))
            for number, piece in enumerate(pieces):
                if piece["episodes"]:
                    row = self._data_file(number, piece["episodes"], row, tasks, listed, places)
        make_directory((self.output / RLDS).parent)
        write_json(self.output / RLDS, settings | {"left_out": bad})
        self._lists(listed, tasks)
        write_json(self.output / INFO, self._info(len(listed), row, len(tasks)))
        return Indexed(self.output, len(listed), row, tuple(bad))

    def _data_file(
        self,
        number: int,
        episodes: Sequence[dict[str, Any]],
        row: int,
        tasks: dict[str, int],
        listed: list[dict[str, Any]],
        places: dict[str, HashingFile],
    ) -> int:
        """One shard's data file, lines of the list and places; returns the number of the next row."""
        piece = f"{PROGRESS}/{number:05d}.parquet"
        try:
            with pq.ParquetFile(self.output / piece) as file:
                groups = [file.read_row_group(group) for group in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise unreadable(self.output, piece, error) from error
        made: list[pa.Table] = []
        for episode, group in zip(episodes, groups, strict=True):
            length, texts = len(group), group["text"].to_pylist()
            for name, out in places.items():
                out.write(b"".join(group[name].to_pylist()))
            frame = np.arange(length)
            made.append(
                group.select([*OWN, "episode_index"])
                .append_column("timestamp", pa.array((frame / self.checked.mapping.fps).astype(np.float32)))
                .append_column("frame_index", pa.array(frame))
                .append_column("index", pa.array(frame + row))
                .append_column("task_index", pa.array([tasks.setdefault(t, len(tasks)) for t in texts]))
            )
            said = {
                key: value for key, value in episode["said"].items() if key not in TAKEN and "/" not in key
            }
            listed.append(
                said
                | {
                    "episode_index": episode["episode_index"],
                    "tasks": list(dict.fromkeys(texts)),
                    "length": length,
                    "data/chunk_index": number // CHUNK,
                    "data/file_index": number % CHUNK,
                    "dataset_from_index": row,
                    "dataset_to_index": row + length,
                }
            )
            row += length
        path = self.output / data_file(number)
        make_directory(path.parent)
        with atomic_file(path) as out:
            _write_groups(out, made)
        return row

    def _lists(self, listed: list[dict[str, Any]], tasks: dict[str, int]) -> None:
        columns = dict.fromkeys(key for one in listed for key in one)
        episodes = pa.table({key: [one.get(key) for one in listed] for key in columns})
        table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
        for name, content in (("episodes/chunk-000/file-000", episodes), ("tasks", table)):
            path = self.output / f"meta/{name}.parquet"
            make_directory(path.parent)
            with atomic_file(path) as out:
                _write_groups(out, [content])

    def _info(self, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
        checked = self.checked
        meant = ((checked.state, checked.state_names), (checked.action, checked.action_names))
        features: dict[str, Any] = {
            key: {"dtype": str(stored_as(leaves.values())), "shape": [len(names)], "names": list(names)}
            for key, (leaves, names) in zip(OWN, meant, strict=True)
        }
        for name, leaves in checked.cameras.items():
            shape = [size for size in next(iter(leaves.values())).shape if size > 0]
            features[PICTURES + name] = {
                "dtype": "image",
                "shape": shape if len(shape) == 3 else [1, 1, 3],
                "names": ["height", "width", "channels"],
            }
        indices = ("frame_index", "episode_index", "index", "task_index")
        kinds = {"timestamp": "float32"} | dict.fromkeys(indices, "int64")
        features |= {key: {"dtype": kind, "shape": [1], "names": None} for key, kind in kinds.items()}
        return {
            "codebase_version": "v3.0",
            "robot_type": checked.mapping.robot_type,
            "total_episodes": episodes,
            "total_frames": frames,
            "total_tasks": tasks,
            "chunks_size": CHUNK,
            "fps": checked.mapping.fps,
            "splits": {"train": f"0:{episodes}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": None,
            "features": features,
        }


def data_file(shard: int) -> str:
    """Returns the data file of a shard's episodes, relative to the dataset."""
    return f"data/chunk-{shard // CHUNK:03d}/file-{shard % CHUNK:03d}.parquet"


def _vectors(values: NDArray[np.floating]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _write_groups(out: Any, tables: Sequence[pa.Table]) -> None:
    """A row group a table, so that one is read alone."""
    with pq.ParquetWriter(out, tables[0].schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
