"""A LeRobot dataset on disk, v2.0, v2.1 or v3.0 behind one interface, read by episode, without video."""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.data.at_hand import at_hand
from pioxide.data.episode import Episode, EpisodeInfo, Feature
from pioxide.data.faults import fault, one_line
from pioxide.data.findings import Finding
from pioxide.data.kept import KeptFrames
from pioxide.data.listing import listed_columns, listed_values
from pioxide.data.meta import load_meta
from pioxide.data.rlds.mapping import RLDS
from pioxide.data.rows import FileRows, build_episode, column_texts, episodes_in
from pioxide.data.tasks import Instructions, TaskChoice
from pioxide.errors import DatasetError, InputError
from pioxide.files import read_json, sha256_of
from pioxide.notebook import facts_table

# The fingerprint sees all bytes of the data files up to so many in all; of larger datasets, of each file its
# size, its last bytes (the Parquet footer) and some blocks spread evenly over it.
WHOLE_BYTES = 4 << 30
BLOCK_BYTES = 16 * 1024
BLOCKS = 64

OnBad = Callable[[EpisodeInfo, DatasetError], None]


@dataclass(frozen=True)
class LeRobotDataset:
    """The metadata of a dataset, checked, and ways to its episodes. Picklable: it holds no open file.

    Attributes:
        path: the directory.
        version: "v2.0", "v2.1" or "v3.0".
        fps: frames a second.
        robot_type: as recorded.
        features: by key.
        tasks: instruction by task index.
        episodes: in the order of their indices; where some are not listed, `episodes[i].index` is not i:
            see `episode`.
        meta_files: the metadata files that were read, relative to `path`.
        findings: what is contradictory in the metadata, and not needed.
        undeclared: features whose entry is wrong, with the reason.
        instructions: where the frames' instructions come from; None for `task_index` and `tasks`.
        kept: which frames rows are made of, and statistics counted; None for all.
    """

    path: Path
    version: str
    fps: float
    robot_type: str
    features: dict[str, Feature]
    tasks: dict[int, str]
    episodes: tuple[EpisodeInfo, ...]
    meta_files: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    undeclared: dict[str, str] = field(default_factory=dict)
    instructions: Instructions | None = None
    kept: KeptFrames | None = None

    def __repr__(self) -> str:
        """Returns what it is in a line; it may have a hundred thousand episodes."""
        facts = "".join(f", {value}" for value in self._facts().values())
        return f"LeRobotDataset({str(self.path)!r}{facts})"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows."""
        return facts_table({"dataset": str(self.path)} | self._facts())

    def _facts(self) -> dict[str, str]:
        """What a person wants to know first."""
        return {
            "version": f"LeRobot {self.version}",
            "robot": self.robot_type or "unknown robot",
            "length": f"{len(self.episodes):,} episodes, {self.total_frames:,} frames at {self.fps:g} Hz",
            "tasks": f"{len(self.tasks):,} task{'s' * (len(self.tasks) != 1)}",
            "features": f"{len(self.features):,} features",
        }

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, pictures: bool = False) -> LeRobotDataset:
        """Reads a dataset's metadata. No data file is opened yet.

        Args:
            path: a directory, or an address (`s3://`, `gs://`, `hf://`) whose metadata and data files are
                brought to the cache first; the dataset's `path` is that copy then.
            pictures: bring video from an address, too.

        Raises:
            DatasetError: the metadata is missing, malformed or contradicts itself; names file and reason.
        """
        root = at_hand(Path(path).expanduser(), pictures=pictures)
        meta = load_meta(root)
        return cls(
            root,
            meta.version,
            meta.fps,
            meta.robot_type,
            meta.features,
            meta.tasks,
            meta.episodes,
            meta.files,
            meta.findings,
            meta.undeclared,
            meta.instructions,
        )

    @property
    def total_frames(self) -> int:
        """Returns how many frames all episodes have."""
        return sum(episode.length for episode in self.episodes)

    def with_tasks(self, choice: TaskChoice) -> LeRobotDataset:
        """Returns the same dataset with the instructions that a person chose.

        Raises:
            InputError: there is no such column, or it holds neither texts nor task indices.
            DatasetError: the list of episodes can't be read any more.
        """
        if choice == TaskChoice():
            return self
        texts: list[str] | None = None
        by_episode: dict[int, Any] | None = None
        key = choice.task_key
        if key and (key in self.features or key in self.undeclared):
            if key in self.undeclared or not self.features[key].is_numeric:
                texts = column_texts(self.path, self._data_files(), key)
        elif key in self.episode_columns():
            by_episode = self.episode_values(key)
            if not any(isinstance(text, str) for text in by_episode.values()):
                raise InputError(f'task_key "{key}": the list of episodes holds no text there')
        elif key:
            there = ", ".join((*self.features, *self.episode_columns()))
            raise InputError(f'task_key: there is no column "{key}"; there are {there}')
        own = self.instructions or Instructions(self.tasks)
        instructions = choice.instructions(own, texts, by_episode)
        return replace(self, tasks=instructions.tasks, instructions=instructions)

    def rows(self, index: int) -> int:
        """Returns how many rows are made of an episode: its frames, or those that are kept."""
        return self.episode(index).length if self.kept is None else self.kept.number(index)

    def row_frames(self, index: int) -> NDArray[np.int64]:
        """Returns [rows] the frames of an episode that rows are made of, rising."""
        if self.kept is None:
            return np.arange(self.episode(index).length, dtype=np.int64)
        return self.kept.frames(index)

    def episode_columns(self) -> tuple[str, ...]:
        """Returns what the list of episodes says besides what every list has: success, operator, ..."""
        return listed_columns(self.path, self._lists())

    def episode_values(self, column: str) -> dict[int, Any]:
        """Returns one of `episode_columns`, by episode; a list of one value is that value.

        Raises:
            DatasetError: the list can't be read any more.
        """
        return listed_values(self.path, self._lists(), column)

    def _lists(self) -> list[str]:
        return [file for file in self.meta_files if file.startswith("meta/episodes")]

    def episode(self, index: int) -> EpisodeInfo:
        """Returns one episode as the metadata lists it, by its number.

        Raises:
            InputError: there is none of that number.
        """
        if 0 <= index < len(self.episodes) and self.episodes[index].index == index:
            return self.episodes[index]
        found = bisect_left(self.episodes, index, key=lambda info: info.index)
        if found < len(self.episodes) and self.episodes[found].index == index:
            return self.episodes[found]
        raise InputError(
            f"no episode {index}: the dataset has {self.episodes[0].index} to {self.episodes[-1].index}"
            + (", not all of them" if len(self.episodes) <= self.episodes[-1].index else "")
        )

    def read(self, episode_index: int, columns: Sequence[str]) -> Episode:
        """Returns one episode.

        Args:
            episode_index: which.
            columns: feature keys; only these, and the frame and task index, are decoded.

        Raises:
            InputError: no such episode, or a column that the dataset hasn't or that is video, image or text.
            DatasetError: the episode can't be read; names file, episode and reason.
        """
        (episode,) = self.scan(columns, [episode_index])
        return episode

    def scan(
        self,
        columns: Sequence[str],
        episodes: Iterable[int] | None = None,
        *,
        on_bad: OnBad | None = None,
        optional: Sequence[str] = (),
    ) -> Iterator[Episode]:
        """Episodes one after another, each file and row group read once, a few MB at a time.

        Memory holds one batch of rows and one episode, however large the files are. Rows of a file that
        belong to no listed episode are passed over.

        Args:
            columns: feature keys, as in `read`.
            episodes: indices, all by default; repeated ones come once.
            on_bad: called with an episode that can't be read, which is then left out; without it the error is
                raised.
            optional: feature keys to read where a file has them; an episode's `columns` lack the others.

        Yields:
            Episodes in the order in which they lie on disk, which in every recorded dataset is that of their
            indices.

        Raises:
            InputError: as in `read`, at once and not at the first episode.
            DatasetError: as in `read`, without `on_bad`.
        """
        columns = self._checked_columns(columns)
        chosen = self.episodes if episodes is None else [self.episode(i) for i in sorted(set(episodes))]
        wanted = _Wanted(tuple(columns), tuple(self._checked_columns(optional)))
        return self._scan(wanted, chosen, on_bad)

    def files(self) -> dict[str, list[EpisodeInfo]]:
        """Returns the data files in order, with the episodes that each holds."""
        return _by_file(info for info in self.episodes if not info.problem)

    def dim(self, keys: Sequence[str]) -> int:
        """Returns how many dimensions these columns have side by side, as `Episode.stack` puts them."""
        return sum(self.features[key].dim for key in self._checked_columns(keys))

    def names(self, keys: Sequence[str]) -> list[str]:
        """Names of these columns' dimensions side by side; `action[3]` where the dataset has none."""
        out: list[str] = []
        for key in self._checked_columns(keys):
            feature = self.features[key]
            if feature.names is not None:
                out.extend(feature.names)
            else:
                out.extend([key] if feature.dim == 1 else [f"{key}[{i}]" for i in range(feature.dim)])
        return out

    def fingerprint(self) -> str:
        """Returns a name for the dataset's content, the same after copying, 32 hex digits.

        It covers the metadata files that were read and the data files, whole up to 4 GiB of data in all.
        Larger datasets are sampled: every file's size, its footer and 64 blocks of 16 KiB, so that a change
        of few values can go unseen there. Modification times and other files (video, statistics) don't
        count. A data file that is missing is recorded as missing.

        Raises:
            DatasetError: a metadata file has gone since the dataset was opened.
        """
        digest = hashlib.sha256()
        for file in sorted(self.meta_files):
            try:
                content = sha256_of(self.path / file)
            except OSError as error:
                raise fault(f"can't be read any more ({one_line(error)})", file=file) from error
            digest.update(f"meta\0{file}\0{content}\n".encode(errors="surrogateescape"))
        files = self._data_files()
        sizes = [_size(self.path / file) for file in files]
        whole = sum(size or 0 for size in sizes) <= WHOLE_BYTES
        with ThreadPoolExecutor() as pool:  # hashing lets other threads run
            contents = pool.map(lambda file, size: _digest(self.path / file, size, whole), files, sizes)
            for file, content in zip(files, contents, strict=True):
                digest.update(f"data\0{file}\0{content}\n".encode(errors="surrogateescape"))
        if (self.path / RLDS).is_file():  # which pictures its frames show; the records themselves may move
            mapping = json.dumps(read_json(self.path / RLDS).get("mapping"), sort_keys=True)
            digest.update(f"mapping\0{mapping}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:32]

    def _scan(
        self, wanted: _Wanted, chosen: Sequence[EpisodeInfo], on_bad: OnBad | None
    ) -> Iterator[Episode]:
        holders: dict[int, str] | None = None
        for file, infos in _by_file(chosen).items():
            for info, result in self._scan_file(file, infos, wanted):
                if isinstance(result, _Elsewhere):
                    holders = self._holders() if holders is None else holders
                    result = self._read_elsewhere(info, result.error, holders.get(info.index), wanted)
                if isinstance(result, Episode):
                    yield result
                elif on_bad is None:
                    raise result
                else:
                    on_bad(info, result)

    def _scan_file(
        self, file: str, infos: Sequence[EpisodeInfo], wanted: _Wanted
    ) -> Iterator[tuple[EpisodeInfo, Episode | DatasetError | _Elsewhere]]:
        """Every wanted episode of one file, as arrays or as the reason why not."""
        pending: dict[int, EpisodeInfo] = {}
        for info in infos:
            if info.problem:
                yield info, fault(info.problem, file=file, episode=info.index)
            else:
                pending[info.index] = info
        if not pending:
            return
        said = Instructions(self.tasks) if self.instructions is None else self.instructions
        optional = tuple(dict.fromkeys((*wanted.optional, *said.columns)))
        rows = FileRows(self.path, file, wanted.columns, set(pending), optional)
        try:
            for index, batches in rows:
                info = pending.pop(index, None)
                if info is not None:
                    result = self._build(info, batches, wanted, said)
                    torn = rows.lost is not None and sum(b.num_rows for b in batches) < info.length
                    yield info, _for_episode(rows.lost, info) if torn and rows.lost else result
        except DatasetError as error:
            absent = not (self.path / file).exists()
            for info in pending.values():
                lost = _for_episode(error, info)
                yield info, _Elsewhere(lost) if absent else lost
            return
        for info in pending.values():
            if rows.lost is not None:
                yield info, _for_episode(rows.lost, info)
            else:
                yield info, _Elsewhere(fault("has no row in this file", file=file, episode=info.index))

    def _holders(self) -> dict[int, str]:
        """Which data file really holds each episode, for metadata that says another one (v3.0)."""
        found: dict[int, str] = {}
        twice: set[int] = set()
        for file in self._data_files() if self.version == "v3.0" else ():
            for index in episodes_in(self.path / file):
                if found.setdefault(index, file) != file:
                    twice.add(index)
        return {index: file for index, file in found.items() if index not in twice}

    def _read_elsewhere(
        self, info: EpisodeInfo, error: DatasetError, holder: str | None, wanted: _Wanted
    ) -> Episode | DatasetError:
        if holder is None or holder == info.file:
            return error
        moved = replace(info, file=holder)
        for _, result in self._scan_file(holder, [moved], wanted):
            return result.error if isinstance(result, _Elsewhere) else result
        return error

    def _data_files(self) -> list[str]:
        """Every data file that is there, and those that should be."""
        there = {path.relative_to(self.path).as_posix() for path in self.path.glob("data/**/*.parquet")}
        return sorted(there | {info.file for info in self.episodes if not info.problem})

    def _build(
        self, info: EpisodeInfo, batches: list, wanted: _Wanted, said: Instructions
    ) -> Episode | DatasetError:
        try:
            made = build_episode(info, batches, wanted.every, self.features, said)
            return made if self.kept is None else replace(made, kept=self.kept.frames(info.index))
        except DatasetError as error:
            return error

    def _checked_columns(self, columns: Sequence[str]) -> list[str]:
        if isinstance(columns, str):
            raise InputError(f"expected a list of columns, got the string {columns!r}")
        for key in columns:
            if key in self.undeclared:
                raise InputError(self.undeclared[key])
            if key not in self.features:
                raise InputError(f'no feature "{key}": the dataset has {", ".join(self.features)}')
            if not self.features[key].is_numeric:
                raise InputError(f'"{key}" holds {self.features[key].dtype}, not numbers')
        return list(dict.fromkeys(columns))


@dataclass(frozen=True)
class _Wanted:
    """Which columns to read, and which only where they are there."""

    columns: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def every(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.columns, *self.optional)))


@dataclass(frozen=True)
class _Elsewhere:
    """An episode that is not in its file; `error` says so, unless another file turns out to hold it."""

    error: DatasetError


def _by_file(infos: Iterable[EpisodeInfo]) -> dict[str, list[EpisodeInfo]]:
    files: dict[str, list[EpisodeInfo]] = {}
    for info in infos:
        files.setdefault(info.file, []).append(info)
    return files


def _for_episode(error: DatasetError, info: EpisodeInfo) -> DatasetError:
    """A file's fault as the fault of the episode that it hides."""
    reason = str(error).removeprefix(f"{info.file}: ")
    return error if error.episode is not None else fault(reason, file=info.file, episode=info.index)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _digest(path: Path, size: int | None, whole: bool) -> str:
    """What a data file's content is known by; "missing" where it can't be read."""
    try:
        if size is None or whole:
            return sha256_of(path)
        digest = hashlib.sha256(f"{size}\n".encode())
        last = max(0, size - BLOCK_BYTES)
        with path.open("rb") as file:
            for start in [*(last * i // BLOCKS for i in range(BLOCKS)), last]:
                file.seek(start)
                digest.update(file.read(BLOCK_BYTES))
        return digest.hexdigest()
    except OSError:
        return "missing"
