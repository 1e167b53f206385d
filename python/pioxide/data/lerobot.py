"""A LeRobot dataset on disk, v2.0, v2.1 or v3.0 behind one interface, read by episode, without video."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pioxide.data.episode import Episode, EpisodeInfo, Feature
from pioxide.data.faults import fault, one_line
from pioxide.data.meta import load_meta
from pioxide.data.rows import build_episode, episode_batches
from pioxide.errors import DatasetError, InputError

# Of each data file the fingerprint sees its size and its last bytes: the Parquet footer, with offsets and
# min/max.
FINGERPRINT_TAIL = 16 * 1024

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
        episodes: as the metadata lists them; `episodes[i].index == i`.
        meta_files: the metadata files that were read, relative to `path`.
    """

    path: Path
    version: str
    fps: float
    robot_type: str
    features: dict[str, Feature]
    tasks: dict[int, str]
    episodes: tuple[EpisodeInfo, ...]
    meta_files: tuple[str, ...]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> LeRobotDataset:
        """Read a dataset's metadata. No data file is opened yet.

        Raises:
            DatasetError: the metadata is missing, malformed or contradicts itself; names file and reason.
        """
        root = Path(path).expanduser()
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
        )

    @property
    def total_frames(self) -> int:
        """Frames of all episodes."""
        return sum(episode.length for episode in self.episodes)

    def read(self, episode_index: int, columns: Sequence[str]) -> Episode:
        """One episode.

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
    ) -> Iterator[Episode]:
        """Episodes one after another, each file and row group read once, a few MB at a time.

        Memory holds one batch of rows and one episode, however large the files are. Rows of a file that
        belong to no listed episode are passed over.

        Args:
            columns: feature keys, as in `read`.
            episodes: indices, all by default; repeated ones come once.
            on_bad: called with an episode that can't be read, which is then left out; without it the error is
                raised.

        Yields:
            Episodes in the order in which they lie on disk, which in every recorded dataset is that of their
            indices.

        Raises:
            InputError: as in `read`, at once and not at the first episode.
            DatasetError: as in `read`, without `on_bad`.
        """
        columns = self._checked_columns(columns)
        chosen = self.episodes if episodes is None else [self._info(i) for i in sorted(set(episodes))]
        return self._scan(columns, chosen, on_bad)

    def files(self) -> dict[str, list[EpisodeInfo]]:
        """The data files in order, with the episodes that each holds."""
        return _by_file(self.episodes)

    def dim(self, keys: Sequence[str]) -> int:
        """How many dimensions these columns have side by side, as `Episode.stack` puts them."""
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
        """A name for the dataset's content, the same after copying, 32 hex digits.

        It covers the metadata files whole, and of each data file its name, size and Parquet footer;
        modification times and other files (video, statistics) don't count. A data file that is missing is
        recorded as missing.

        Raises:
            DatasetError: a metadata file has gone since the dataset was opened.
        """
        digest = hashlib.sha256()
        for file in sorted(self.meta_files):
            try:
                content = hashlib.sha256((self.path / file).read_bytes()).hexdigest()
            except OSError as error:
                raise fault(f"can't be read any more ({one_line(error)})", file=file) from error
            digest.update(f"meta\0{file}\0{content}\n".encode())
        for file in sorted(self.files()):
            digest.update(f"data\0{file}\0{_size_and_tail(self.path / file)}\n".encode())
        return digest.hexdigest()[:32]

    def _scan(
        self, columns: Sequence[str], chosen: Sequence[EpisodeInfo], on_bad: OnBad | None
    ) -> Iterator[Episode]:
        for file, infos in _by_file(chosen).items():
            for info, result in self._scan_file(file, infos, columns):
                if isinstance(result, Episode):
                    yield result
                elif on_bad is None:
                    raise result
                else:
                    on_bad(info, result)

    def _scan_file(
        self, file: str, infos: Sequence[EpisodeInfo], columns: Sequence[str]
    ) -> Iterator[tuple[EpisodeInfo, Episode | DatasetError]]:
        """Every wanted episode of one file, as arrays or as the reason why not."""
        pending = {info.index: info for info in infos}
        try:
            for index, batches in episode_batches(self.path, file, columns, set(pending)):
                info = pending.pop(index, None)
                if info is not None:
                    yield info, self._build(info, batches, columns)
        except DatasetError as error:
            if len(infos) == 1:
                yield infos[0], _for_episode(error, infos[0])
            else:  # the file breaks off somewhere: see of each remaining episode whether it is hit
                for info in pending.values():
                    yield from self._scan_file(file, [info], columns)
            return
        for info in pending.values():
            yield info, fault("has no row in this file", file=file, episode=info.index)

    def _build(self, info: EpisodeInfo, batches: list, columns: Sequence[str]) -> Episode | DatasetError:
        try:
            return build_episode(info, batches, columns, self.features, self.tasks)
        except DatasetError as error:
            return error

    def _info(self, index: int) -> EpisodeInfo:
        if not 0 <= index < len(self.episodes):
            raise InputError(f"no episode {index}: the dataset has 0 to {len(self.episodes) - 1}")
        return self.episodes[index]

    def _checked_columns(self, columns: Sequence[str]) -> list[str]:
        if isinstance(columns, str):
            raise InputError(f"expected a list of columns, got the string {columns!r}")
        for key in columns:
            if key not in self.features:
                raise InputError(f'no feature "{key}": the dataset has {", ".join(self.features)}')
            if not self.features[key].is_numeric:
                raise InputError(f'"{key}" holds {self.features[key].dtype}, not numbers')
        return list(dict.fromkeys(columns))


def _by_file(infos: Iterable[EpisodeInfo]) -> dict[str, list[EpisodeInfo]]:
    files: dict[str, list[EpisodeInfo]] = {}
    for info in infos:
        files.setdefault(info.file, []).append(info)
    return files


def _for_episode(error: DatasetError, info: EpisodeInfo) -> DatasetError:
    """A file's fault as the fault of the episode that it hides."""
    reason = str(error).removeprefix(f"{info.file}: ")
    return error if error.episode is not None else fault(reason, file=info.file, episode=info.index)


def _size_and_tail(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - FINGERPRINT_TAIL))
            return f"{size}\0{hashlib.sha256(stream.read()).hexdigest()}"
    except OSError:
        return "missing"
