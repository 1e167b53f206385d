"""Pictures that stay in the records of an RLDS dataset, found by the places that `index_rlds` wrote down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.data.episode import EpisodeInfo
from pioxide.data.faults import fault, one_line
from pioxide.data.images import Fit, decode_image
from pioxide.data.rlds.episodes import PLACE
from pioxide.data.rlds.index import FRAMES, data_file
from pioxide.data.rlds.mapping import PICTURES, RLDS
from pioxide.data.rlds.records import read_record
from pioxide.errors import FormatError, InputError
from pioxide.files import read_json


def is_indexed(root: Path) -> bool:
    """Returns whether a dataset's pictures are in the records of another."""
    return (root / RLDS).is_file()


@dataclass(frozen=True)
class RecordImages:
    """Pictures of an indexed dataset. Holds nothing open.

    Attributes:
        root: The dataset that was made of the records.
        source: Directory of the records.
        kind: "tfrecord" or "array_record".
        shards: File of records by data file.
        cameras: Keys of the records' pictures by feature.
    """

    root: Path
    source: Path
    kind: str
    shards: dict[str, str]
    cameras: dict[str, list[str]]

    @classmethod
    def open(cls, root: Path) -> RecordImages:
        """Reads where the records are, and looks whether they are as they were.

        Raises:
            DatasetError: They are gone, or are of another size.
        """
        try:
            said = read_json(root / RLDS)
            source, kind = Path(said["source"]), str(said["kind"])
            shards = {data_file(n): (str(one["file"]), one["bytes"]) for n, one in enumerate(said["shards"])}
            cameras = {PICTURES + name: list(keys) for name, keys in said["mapping"]["cameras"].items()}
        except FormatError as error:
            raise fault(error.reason, file=RLDS) from error
        except (AttributeError, KeyError, TypeError) as error:
            raise fault(f"is not what pioxide index writes ({one_line(error)})", file=RLDS) from error
        for file, size in shards.values():
            if size is None:
                continue  # which was missing before, and whose episodes are not listed
            path = source / file
            if not path.is_file():
                raise fault(f'records are not at {path}; where they are stands there as "source"', file=RLDS)
            if path.stat().st_size != size:
                raise fault(f"{path} is not as it was when it was indexed: index it anew", file=RLDS)
        return cls(root, source, kind, {data: file for data, (file, _) in shards.items()}, cameras)

    def origin(self, info: EpisodeInfo, key: str) -> tuple[Path, str]:
        """Returns the file of records that an episode is in, and what else says which its pictures are."""
        return self._path(info), f"{info.file} {self.cameras.get(key)}"

    def frames(self, info: EpisodeInfo, key: str, frames: NDArray[np.int64], fit: Fit) -> NDArray[Any]:
        """Returns [n, S, S, 3], the images of some frames of an episode, in the order of `frames`.

        Raises:
            DatasetError: A picture can't be read; names file, episode and frame.
        """
        out = fit.black(len(frames))
        contents = self._contents(info, key, frames.tolist())
        for row, frame, content in zip(out, frames.tolist(), contents, strict=True):
            row[:] = fit.apply(self._decoded(info, key, frame, content))
        return out

    def shape(self, info: EpisodeInfo, key: str) -> tuple[int, int]:
        """Returns height and width of an episode's first picture.

        Raises:
            DatasetError: As `frames`.
        """
        height, width, _ = self._decoded(info, key, 0, self._contents(info, key, [0])[0]).shape
        return height, width

    def _path(self, info: EpisodeInfo) -> Path:
        return self.source / self.shards[info.file]

    def _decoded(self, info: EpisodeInfo, key: str, frame: int, content: bytes) -> NDArray[np.uint8]:
        try:
            return decode_image(content)
        except InputError as error:
            reason = f'"{key}" frame {frame} can\'t be read ({one_line(error)})'
            raise fault(reason, file=self._path(info).name, episode=info.index) from error

    def _contents(self, info: EpisodeInfo, key: str, frames: Sequence[int]) -> list[bytes]:
        path = self._path(info)
        try:
            places = self._places(info, key, frames)
            if self.kind == "array_record":
                record = read_record(path, places[0][0])
                found = [record[inner : inner + size] for _, inner, size in places]
            else:
                handle = os.open(path, os.O_RDONLY)
                try:
                    found = [os.pread(handle, size, at) for at, _, size in places]
                finally:
                    os.close(handle)
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise fault(
                f'"{key}" can\'t be read ({one_line(error)})', file=path.name, episode=info.index
            ) from error
        return found

    def _places(self, info: EpisodeInfo, key: str, frames: Sequence[int]) -> list[tuple[int, int, int]]:
        file = f"{FRAMES}/{key}.bin"
        if info.start is None:
            raise fault("the list of episodes does not say where it begins", file=file, episode=info.index)
        handle = os.open(self.root / file, os.O_RDONLY)
        try:
            size = PLACE.itemsize
            content = b"".join(os.pread(handle, size, (info.start + frame) * size) for frame in frames)
        finally:
            os.close(handle)
        if len(content) != size * len(frames):
            raise fault("is shorter than the dataset", file=file, episode=info.index)
        return np.frombuffer(content, PLACE).tolist()
