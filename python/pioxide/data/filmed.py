"""What is wrong with a dataset's videos: part of `data.survey`, with PyAV where it is installed.

Every file is opened, and five frames of each episode are decoded: enough to see that its frames are there,
and that they show something that moves.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Resize
from pioxide.data.findings import Code, Finding, numbers
from pioxide.data.footage import Place, video_places
from pioxide.data.images import Fit
from pioxide.data.lerobot import LeRobotDataset
from pioxide.errors import DatasetError, InputError
from pioxide.files import mistaken_file

if TYPE_CHECKING:
    from pioxide.data.video import VideoReader

# Frames of an episode that are decoded, spread evenly, the first and the last among them.
LOOKS = 5
# So many pixels along an edge are compared.
THUMB = Fit(48, Resize.ANTIALIAS)
# Levels of 255 by which two frames of a camera that works differ somewhere, and above which it is not blank.
SAME, BLANK = 2, 4
# Shares by which a rate may be off.
RATE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Filmed:
    """What the videos were found to be.

    Attributes:
        findings: what is wrong.
        unseen: what was not looked at, and why.
    """

    findings: list[Finding]
    unseen: list[str]


def check_videos(dataset: LeRobotDataset, episodes: Sequence[int], *, workers: int = 1) -> Filmed:
    """Looks at the videos of these episodes, each file once.

    Args:
        dataset: whose.
        episodes: those whose data can be read.
        workers: threads.
    """
    cameras = [key for key, feature in dataset.features.items() if feature.dtype == "video"]
    stills = [key for key, feature in dataset.features.items() if feature.dtype == "image"]
    unseen = [f"images that are no video ({', '.join(stills)})"] if stills else []
    if not cameras or not episodes:
        return Filmed([], unseen)
    reader = _reader()
    if reader is None or not dataset.fps:
        why = "PyAV is not installed: pip install 'pioxide[video]'" if reader is None else "no rate is known"
        return Filmed([], [*unseen, f"videos of {', '.join(cameras)}: {why}"])
    findings: list[Finding] = []
    pictures: dict[tuple[str, int], NDArray[np.int16]] = {}
    for key in cameras:
        lost: dict[int, DatasetError] = {}
        try:
            every = video_places(
                dataset, key, (e.index for e in dataset.episodes), on_missing=lost.__setitem__
            )
        except DatasetError as error:
            findings.append(_unusable(str(error), error.file or "meta", ()))
            continue
        sharing = Counter(place.file for place in every.values())
        places = {index: every[index] for index in episodes if index in every}
        missing = {index: lost[index] for index in episodes if index in lost}
        if not places and all(error.file != "meta/episodes" for error in missing.values()):
            unseen.append(f"videos of {key}: none of {len(missing):,} is here")
            continue
        findings += _missing(key, missing)
        files: dict[str, dict[int, Place]] = defaultdict(dict)
        for index, place in places.items():
            files[place.file][index] = place

        def look(
            item: tuple[str, dict[int, Place]], key: str = key, sharing: Counter[str] = sharing
        ) -> _File:
            return _File(dataset, key, *item, sharing[item[0]], reader)

        with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
            for file in pool.map(look, files.items()):
                findings += file.findings
                pictures |= {(key, index): thumbs for index, thumbs in file.thumbs.items()}
    return Filmed(_grouped(findings + _twice(pictures)), unseen)


def _reader() -> VideoReader | None:
    try:
        from pioxide.data.video import VideoReader
    except InputError:
        return None
    return VideoReader(keep_open=1)


class _File:
    """One video file and what is wrong with it."""

    def __init__(
        self,
        dataset: LeRobotDataset,
        key: str,
        file: str,
        places: dict[int, Place],
        sharing: int,
        reader: VideoReader,
    ) -> None:
        """Looks.

        Args:
            dataset: whose.
            key: camera.
            file: relative to the dataset.
            places: of the episodes to look at.
            sharing: how many episodes the file holds, those that can't be read among them.
            reader: of frames.
        """
        self.dataset, self.key, self.file, self.places = dataset, key, file, places
        self.whole = sharing == len(places)
        self.findings: list[Finding] = []
        self.thumbs: dict[int, NDArray[np.int16]] = {}
        if self._opens():
            for index, place in places.items():
                self._look(reader, index, place)
            reader.close()

    def _opens(self) -> bool:
        """Compares what the file says of itself with the metadata."""
        from av.error import FFmpegError

        from pioxide.data.video import open_video

        path = self.dataset.path / self.file
        indices = tuple(self.places)
        try:
            with open_video(path) as container:
                stream = container.streams.video[0]
                frames = stream.frames or len(stream.index_entries)
                rate = float(stream.average_rate or 0)
                size = (stream.height, stream.width)
        except (OSError, ValueError, IndexError, FFmpegError) as error:
            reason = mistaken_file(path) or f"can't be read as video ({error or type(error).__name__})"
            self.findings.append(_unusable(reason, self.file, indices))
            return False
        shape = self.dataset.features[self.key].shape
        if len(shape) == 3 and size not in (shape[:2], shape[1:]):
            message = (
                f"shows {size[0]} x {size[1]}, and the metadata says {shape[0]} x {shape[1]} x {shape[2]}"
            )
            self._warn(Code.VIDEO_SHAPE, message, "correct the shape in meta/info.json")
        expected = sum(self.dataset.episode(index).length for index in indices)
        if rate and abs(rate / self.dataset.fps - 1) > RATE_TOLERANCE:
            message = f"has {rate:.4g} frames a second, and the dataset {self.dataset.fps:g}"
            self._warn(Code.VIDEO_RATE, message, "look whether its frames belong to these times")
        elif frames and frames != expected and self.whole:
            what = "episode" if len(indices) == 1 else f"{len(indices)} episodes"
            message = f"has {frames:,} frames, and its {what} {expected:,}"
            self._warn(Code.VIDEO_LENGTH, message, "pictures and numbers may be of different moments")
        return True

    def _look(self, reader: VideoReader, index: int, place: Place) -> None:
        length = self.dataset.episode(index).length
        frames = np.unique(np.linspace(0, length - 1, LOOKS).round())
        seconds = place.start + frames / self.dataset.fps
        try:
            thumbs = reader.frames(self.dataset.path, self.file, seconds, THUMB, fps=self.dataset.fps)
        except DatasetError as error:
            reason = str(error).removeprefix(f"{self.file}: ")
            self.findings.append(_unusable(reason, self.file, (index,)))
            return
        looks = thumbs.astype(np.int16)
        still = np.abs(np.diff(looks, axis=0)).reshape(len(looks) - 1, -1).max(axis=1, initial=0) <= SAME
        inside = looks.reshape(len(looks), -1)[:, _inside(looks)]
        if np.ptp(inside, axis=1).max() <= BLANK:
            shade = "black" if inside.mean() < 24 else "white" if inside.mean() > 231 else "one colour"
            self._warn(Code.VIDEO_BLANK, f"shows nothing but {shade}", "a covered or broken camera", index)
        elif length >= self.dataset.fps and len(still) == LOOKS - 1 and (run := _run(still)) >= 2:
            at = int(frames[_run_start(still)])
            message = f"shows the same picture from frame {at} on" if run < LOOKS - 1 else "shows one picture"
            self._warn(Code.VIDEO_FROZEN, message, "the camera hung: leave the episode out", index)
        else:
            self.thumbs[index] = looks

    def _warn(self, code: Code, message: str, way_out: str, index: int | None = None) -> None:
        indices = tuple(self.places) if index is None else (index,)
        place = self.file if index is None else f"episode {index} ({self.file})"
        self.findings.append(Finding(code, place, message, way_out, indices))


def _inside(looks: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which numbers are not the black bars of fitting into a square: all where nothing else is to be seen."""
    lit: NDArray[np.bool_] = np.any(looks > 0, axis=(0, 3))
    inside = np.any(lit, axis=1)[:, None] & np.any(lit, axis=0)
    return np.repeat(inside if lit.any() else ~inside, looks.shape[3])


def _run(still: NDArray[np.bool_]) -> int:
    """How many of the last steps in a row changed nothing."""
    moved = np.flatnonzero(~still)
    return len(still) - (int(moved[-1]) + 1 if len(moved) else 0)


def _run_start(still: NDArray[np.bool_]) -> int:
    return len(still) - _run(still)


def _unusable(reason: str, file: str, indices: Sequence[int]) -> Finding:
    place = f"episode {indices[0]} ({file})" if len(indices) == 1 else file
    return Finding(
        Code.VIDEO, place, reason, "leave the episode out, or fetch the file again", tuple(indices)
    )


def _missing(key: str, missing: dict[int, DatasetError]) -> list[Finding]:
    if not missing:
        return []
    first = next(iter(missing.values()))
    reason = str(first).removeprefix(f"{first.file}: episode {first.episode}: ")
    place = f"{numbers(list(missing), 'episode')} ({first.file})"
    message = reason if len(missing) == 1 else f"{reason}, nor the {len(missing) - 1:,} others of {key}"
    way_out = "leave the episodes out, or fetch the files"
    return [Finding(Code.VIDEO, place, message, way_out, tuple(missing))]


def _twice(pictures: dict[tuple[str, int], NDArray[np.int16]]) -> list[Finding]:
    """Videos that show the same: of two episodes, or of two cameras."""
    seen: dict[bytes, tuple[str, int]] = {}
    found: list[Finding] = []
    for (key, index), thumbs in pictures.items():
        first = seen.setdefault(thumbs.tobytes(), (key, index))
        if first == (key, index):
            continue
        other = f"episode {first[1]}" if first[0] == key else f"{first[0]} of episode {first[1]}"
        message = f"shows the same as {other}"
        way_out = "one of the two is a copy, or a camera was opened twice"
        found.append(Finding(Code.VIDEO_TWICE, f"episode {index}, {key}", message, way_out, (index,)))
    return found


def _grouped(findings: Sequence[Finding], most: int = 5) -> list[Finding]:
    """Of each kind the first few one by one, and how many more there are."""
    kept: list[Finding] = []
    more: dict[Code, list[Any]] = defaultdict(list)
    counts: dict[Code, int] = defaultdict(int)
    for finding in findings:
        counts[finding.code] += 1
        if counts[finding.code] <= most:
            kept.append(finding)
        else:
            more[finding.code].extend(finding.episodes)
    for code, indices in more.items():
        message = f"{numbers(indices, 'episode')} likewise"
        kept.append(Finding(code, "videos", message, "", tuple(indices)))
    return kept
