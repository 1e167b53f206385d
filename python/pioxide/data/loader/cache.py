"""A cache of pictures at the model's size: decoded once, then read many times faster than video.

`DIR/DATASET/224-antialias-jpeg95/FEATURE/episode_000012-DIGEST.frames` holds one episode of one camera,
complete or not at all. The digest is of where its pictures come from: a video that is encoded anew is decoded
again, and nothing else is. Pictures are JPEG, or as they are where they have to be exact.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.data.faults import one_line
from pioxide.data.images import Fit
from pioxide.data.loader.cameras import Pictures, RecordedPictures
from pioxide.data.loader.index import FrameIndex
from pioxide.errors import DatasetError, InputError, OutputError, SettingsError
from pioxide.files import atomic_file, held, make_directory, read_json, remove_temporary, write_json
from pioxide.transforms.images import plan_for

SETTINGS, LOCK = "cache.json", ".lock"
QUALITY = 95
# Decoded at a time, so that a long episode needs no more memory than a short one.
BLOCK = 128
MAGIC = b"pioxfrm1"
HEAD = struct.Struct("<8sQII")  # magic, frames, height and width of what is stored
# Of a file that pictures come from, so much of its beginning and end goes into the digest.
ENDS = 64 * 1024

OnFrames = Callable[[int, int], None]


@dataclass(frozen=True)
class CacheSettings:
    """Where pictures are kept, and how what is missing is made.

    Attributes:
        directory: Of the cache. Several datasets, sizes and hosts may share one.
        threads: At work at once.
        on_frames: Told of frames that are there and of all, for each dataset; None for nobody.
    """

    directory: Path
    threads: int = 4
    on_frames: OnFrames | None = None

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: No thread.
        """
        if self.threads < 1:
            raise InputError(f"threads is {self.threads}, expected at least 1")


@dataclass(frozen=True)
class CachedPictures:
    """A camera whose frames are in the cache. Holds nothing open.

    Attributes:
        index: The source's rows.
        files: By episode of the index.
        fit: Of what is stored, and of what is read.
    """

    index: FrameIndex
    files: tuple[Path, ...]
    fit: Fit

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Pictures`."""
        out = self.fit.black(len(rows))
        episodes, frames = self.index.episode[rows].tolist(), self.index.frame(rows).tolist()
        for image, episode, frame in zip(out, episodes, frames, strict=True):
            _place(_stored(self.files[episode], frame, self.fit.exact), self.fit, image)
        return out


@dataclass(frozen=True)
class FrameCache:
    """The part of a cache directory that holds pictures of one dataset at one size.

    Attributes:
        path: Of that part.
        fit: Of the pictures.
    """

    path: Path
    fit: Fit

    @classmethod
    def open(cls, directory: Path, dataset: str, fit: Fit) -> FrameCache:
        """Opens it, and makes it where it is not there.

        Args:
            directory: Of the whole cache.
            dataset: Name of the dataset.
            fit: Of the pictures.

        Raises:
            InputError: Pictures are to be exact and in float, which takes too much space.
            SettingsError: What is there was made in another way.
            OutputError: It can't be written.
        """
        if fit.exact and fit.in_float:
            raise InputError(
                "a cache holds 8 bits a colour, and images resized as LeRobot does are floats: exact images "
                "can't be cached; leave out the one or the other"
            )
        kind = "exact" if fit.exact else f"jpeg{QUALITY}"
        cache = cls(directory / dataset / f"{fit.size}-{fit.resize}-{kind}", fit)
        settings = {
            "format": 1,
            "size": fit.size,
            "resize": str(fit.resize),
            "stored": "as they are" if fit.exact else f"JPEG, quality {QUALITY}, whole colours",
        }
        file = cache.path / SETTINGS
        if file.exists():
            found = read_json(file)
            if found != settings:
                raise SettingsError(f"{file} says {found}, expected {settings}; use another cache directory")
        else:
            make_directory(cache.path)
            write_json(file, settings)
        return cache

    def files(self, feature: str, pictures: RecordedPictures) -> tuple[Path, ...]:
        """Returns where each episode of a camera is, or is to be."""
        ends: dict[Path, bytes] = {}
        out: list[Path] = []
        for episode, info in enumerate(pictures.index.infos):
            origin, which = pictures.origin(episode)
            if origin not in ends:
                ends[origin] = _ends(origin)
            digest = hashlib.sha256(ends[origin] + f"{which}\0{pictures.index.length(episode)}".encode())
            name = f"episode_{info.index:06d}-{digest.hexdigest()[:16]}.frames"
            out.append(self.path / feature / name)
        return tuple(out)

    def fill(
        self, cameras: Sequence[tuple[str, RecordedPictures]], settings: CacheSettings
    ) -> list[Pictures]:
        """Decodes what is missing, episode by episode, and returns the cached pictures of each camera.

        What was made before stays: a job that was killed goes on where it was.

        Args:
            cameras: Features, and how their frames are read.
            settings: How many work, and who is told.

        Raises:
            DatasetError: A video can't be read.
            OutputError: The cache can't be written.
        """
        todo: list[tuple[RecordedPictures, int, Path]] = []
        out: list[Pictures] = []
        total = done = 0
        for feature, pictures in cameras:
            files = self.files(feature, pictures)
            make_directory(self.path / feature)
            for episode, file in enumerate(files):
                length = pictures.index.length(episode)
                total += length
                if file.is_file():
                    done += length
                else:
                    todo.append((pictures, episode, file))
            out.append(CachedPictures(pictures.index, files, self.fit))
        tell = settings.on_frames or (lambda done, total: None)
        tell(done, total)
        if not todo:
            return out
        with (
            self._clean(feature for feature, _ in cameras),
            ThreadPoolExecutor(settings.threads) as pool,
        ):  # decoding and encoding let other threads run
            running = [pool.submit(self._make, *one) for one in todo]
            try:
                for one in running:
                    done += one.result()
                    tell(done, total)
            except BaseException:
                for one in running:
                    one.cancel()
                raise
        return out

    @contextmanager
    def _clean(self, features: Iterable[str]) -> Iterator[None]:
        """Removes what a killed run left half-written, unless another run is writing just now.

        Two that make the same do it twice, and the last one's files stay, whole as the first one's.
        """
        with ExitStack() as stack:
            try:
                alone = stack.enter_context(held(self.path / LOCK, f"process {os.getpid()}"))
            except OutputError:
                alone = False
            for feature in features if alone else ():
                remove_temporary(self.path / feature)
            yield

    def _make(self, pictures: RecordedPictures, episode: int, file: Path) -> int:
        start = int(pictures.index.starts[episode])
        stop = start + pictures.index.length(episode)
        plan = plan_for(*pictures.shape(episode), self.fit.size)
        inside = slice(plan.top, plan.top + plan.height), slice(plan.left, plan.left + plan.width)
        parts: list[bytes] = []
        for first in range(start, stop, BLOCK):
            images = pictures.read(np.arange(first, min(first + BLOCK, stop)))
            parts += [_encoded(image, self.fit.exact) for image in images[:, inside[0], inside[1]]]
            images[:, inside[0], inside[1]] = self.fit.black(1)[0, 0, 0, 0]
            if (images != self.fit.black(1)).any():
                number = pictures.index.infos[episode].index
                raise DatasetError(
                    f"{pictures.origin(episode)[0]}: episode {number} has pictures of several shapes, which "
                    "a cache can't hold; leave out the cache, or the episode"
                )
        offsets = np.cumsum([HEAD.size + 8 * (len(parts) + 1), *map(len, parts)]).astype("<u8")
        with atomic_file(file) as out:
            out.write(HEAD.pack(MAGIC, len(parts), plan.height, plan.width))
            out.write(offsets.tobytes())
            for part in parts:
                out.write(part)
        return len(parts)


def _encoded(image: NDArray[Any], exact: bool) -> bytes:
    if image.dtype != np.uint8:
        image = np.rint((image + 1) * 127.5).astype(np.uint8)
    if exact:
        return image.tobytes()
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def _stored(file: Path, frame: int, exact: bool) -> NDArray[np.uint8]:
    """One picture without its border.

    Raises:
        DatasetError: The file is gone, or is not what was written.
    """
    from PIL import Image

    try:
        handle = os.open(file, os.O_RDONLY)
        try:
            magic, count, height, width = HEAD.unpack(os.pread(handle, HEAD.size, 0))
            if magic != MAGIC or not 0 <= frame < count:
                raise ValueError(f"no frame {frame} in it")
            begin, end = struct.unpack("<QQ", os.pread(handle, 16, HEAD.size + 8 * frame))
            content = os.pread(handle, end - begin, begin)
        finally:
            os.close(handle)
        if exact:
            return np.frombuffer(content, np.uint8).reshape(height, width, 3)
        image = np.asarray(Image.open(io.BytesIO(content), formats=["JPEG"]))
        if image.shape != (height, width, 3):
            raise ValueError(f"a picture of shape {image.shape}")
        return image
    except (OSError, ValueError, struct.error) as error:
        raise DatasetError(f"{file}: can't be read ({one_line(error)}); delete it and start again") from error


def _place(image: NDArray[np.uint8], fit: Fit, out: NDArray[Any]) -> None:
    height, width = image.shape[:2]
    top, left = (fit.size - height) // 2, (fit.size - width) // 2
    inside = out[top : top + height, left : left + width]
    inside[:] = image / np.float32(127.5) - 1 if fit.in_float else image


def _ends(file: Path) -> bytes:
    """What a file's content is known by: its size, its beginning and its end."""
    with open(file, "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        head = opened.read(ENDS)
        opened.seek(max(0, size - ENDS))
        return hashlib.sha256(f"{size}\n".encode() + head + opened.read(ENDS)).digest()
