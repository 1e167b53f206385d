"""Frames of video files by time: the frame for a timestamp, decoded and reduced once. Needs PyAV.

A timestamp's frame is the one less than half a frame away from it. Where the video has none there, that is
an error, never a neighbour.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.data.faults import fault, one_line
from pioxide.data.images import Fit
from pioxide.errors import DatasetError, InputError
from pioxide.files import mistaken_file
from pioxide.transforms.images import plan_for

try:
    import av
    from av.container import InputContainer
    from av.error import FFmpegError
    from av.video.reformatter import Interpolation, VideoReformatter
except ImportError:  # pragma: no cover - the extra is not installed
    raise InputError('reading video needs PyAV: pip install "pioxide[video]"') from None

# Without the last two, swscale's colours are 1 to 1.5 levels of 255 too dark.
CONVERSION = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
# What only describes a file may be spelled in any encoding, and nobody reads it. PyAV asks nobody from 19 on.
_ANY_SPELLING: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
# Seconds that are gone back further where a seek ends behind the frame that was asked for.
GO_BACK = (0.0, 1.0, 10.0, float("inf"))


class VideoReader:
    """Reads frames, and keeps a few files open, for each thread its own.

    Pickling leaves the open files behind, and so does a fork: another process opens its own.
    """

    def __init__(self, keep_open: int = 16) -> None:
        """Starts.

        Args:
            keep_open: Files that stay open in a thread; the one used longest ago is closed first.
        """
        self.keep_open = keep_open
        self._local = threading.local()

    def frames(self, root: Path, file: str, seconds: ArrayLike, fit: Fit, *, fps: float) -> NDArray[Any]:
        """Returns [n, S, S, 3], the frames of one file at these times, in this order.

        They are decoded in the order of time, each once.

        Args:
            root: The dataset.
            file: Relative to it.
            seconds: [n] since the beginning of the file.
            fit: What they are brought to.
            fps: Frames a second of the dataset; the video's may be more.

        Raises:
            DatasetError: The file can't be read, or has no frame at a time.
        """
        times = np.asarray(seconds, np.float64)
        out = fit.black(len(times))
        opened = self._opened(root, file)
        before: int | None = None
        for at in np.argsort(times, kind="stable").tolist():
            if before is not None and times[at] == times[before]:
                out[at] = out[before]
            else:
                opened.read(float(times[at]), fps, fit, out[at])
            before = at
        return out

    def shape(self, root: Path, file: str) -> tuple[int, int]:
        """Returns height and width of a video's frames, as it says.

        Raises:
            DatasetError: The file can't be read.
        """
        stream = self._opened(root, file).stream
        return stream.codec_context.height, stream.codec_context.width

    def close(self) -> None:
        """Closes the files of this thread."""
        for opened in self._files().values():
            opened.close()
        self._files().clear()

    def __getstate__(self) -> int:
        """Returns what another process needs: nothing that is open."""
        return self.keep_open

    def __setstate__(self, state: int) -> None:
        """Starts anew."""
        self.__init__(state)

    def _files(self) -> OrderedDict[Path, _Opened]:
        if getattr(self._local, "process", None) != os.getpid():
            # After a fork the files are the parent's: to close them here would be to seek there.
            self._local.process = os.getpid()
            self._local.files = OrderedDict()
        return self._local.files

    def _opened(self, root: Path, file: str) -> _Opened:
        files, path = self._files(), root / file
        if path in files:
            files.move_to_end(path)
            return files[path]
        while len(files) >= self.keep_open:
            files.popitem(last=False)[1].close()
        files[path] = _Opened(root, file)
        return files[path]


def open_video(path: Path) -> InputContainer:
    """Opens a video file as PyAV reads it, whatever its descriptions are spelled in."""
    return av.open(str(path), **_ANY_SPELLING)


class _Opened:
    """One open file, and how far it was decoded."""

    def __init__(self, root: Path, file: str) -> None:
        self.root, self.file = root, file
        try:
            self.container = open_video(root / file)
        except (OSError, ValueError, FFmpegError) as error:
            raise self._unreadable(error) from error
        if not self.container.streams.video:
            raise fault("has no video in it", file=file)
        self.stream = self.container.streams.video[0]
        # Several processes read at once: threads inside each only stand in one another's way.
        self.stream.thread_type = "NONE"
        self.stream.codec_context.thread_count = 1
        self.time_base = float(self.stream.time_base or 0)
        if self.time_base <= 0:
            raise fault("does not say in what its times are counted", file=file)
        self.start = self.stream.start_time or 0
        self.rate = float(self.stream.average_rate or 0)
        self.keys = sorted(e.timestamp for e in self.stream.index_entries if e.is_keyframe)
        self.reformatter = VideoReformatter()
        self.decoded: Iterator[av.VideoFrame] | None = None
        self.last: av.VideoFrame | None = None

    def read(self, seconds: float, fps: float, fit: Fit, out: NDArray[Any]) -> None:
        """Writes the frame at a time into `out` [S, S, 3], which is black."""
        try:
            frame = self._find(seconds, fps)
            self._convert(frame, fit, out)
        except DatasetError:
            raise
        except (OSError, ValueError, FFmpegError) as error:
            self.decoded = self.last = None
            raise self._unreadable(error, seconds) from error

    def close(self) -> None:
        self.decoded = self.last = None
        self.container.close()

    def _find(self, seconds: float, fps: float) -> av.VideoFrame:
        target = seconds / self.time_base + self.start
        period = 1.0 / (max(fps, self.rate) * self.time_base)
        if self._goes_on(target, period):
            frame = self._next(target - period / 2)
            if frame is not None and self._time(frame) <= target + period / 2:
                return frame
        frame: av.VideoFrame | None = None
        for back in GO_BACK:
            position = max(target + period / 4 - back / self.time_base, self.start)
            self.container.seek(int(position), stream=self.stream, backward=True)
            self.decoded, self.last = self.container.decode(self.stream), None
            frame = self._next(target - period / 2)
            if frame is not None and self._time(frame) <= target + period / 2:
                return frame
            if position <= self.start:
                break
        nearest = "ends before" if frame is None else f"has the next at {self._seconds(frame):.4f} s"
        raise fault(f"has no frame at {seconds:.4f} s: it {nearest}", file=self.file)

    def _goes_on(self, target: float, period: float) -> bool:
        """Whether decoding on from the last frame reaches the target at no more cost than a seek."""
        if self.decoded is None or self.last is None:
            return False
        ahead = (target - self._time(self.last)) / period
        if ahead < -0.5:
            return False
        before = bisect_right(self.keys, target + period / 2) - 1
        since_key = (target - self.keys[before]) / period if before >= 0 else 16.0
        return ahead <= since_key + 2

    def _next(self, at_least: float) -> av.VideoFrame | None:
        """The first frame from a time on, None where there is none; the last decoded one counts, too."""
        if self.last is not None and self._time(self.last) >= at_least:
            return self.last
        assert self.decoded is not None
        for frame in self.decoded:
            self.last = frame
            if self._time(frame) >= at_least:
                return frame
        self.decoded = self.last = None
        return None

    def _time(self, frame: av.VideoFrame) -> int:
        if frame.pts is None:
            raise fault("has frames without a time", file=self.file)
        return frame.pts

    def _seconds(self, frame: av.VideoFrame) -> float:
        return (self._time(frame) - self.start) * self.time_base

    def _convert(self, frame: av.VideoFrame, fit: Fit, out: NDArray[Any]) -> None:
        if frame.is_corrupt:
            raise fault(f"is damaged at {self._seconds(frame):.4f} s", file=self.file)
        if frame.rotation:
            raise fault(
                f"is to be shown rotated by {frame.rotation} degrees, which nothing here does", file=self.file
            )
        if frame.format.name.startswith("gray") and frame.format.components[0].bits > 8:
            raise fault(f"holds {frame.format.name}, as depth does, expected colours", file=self.file)
        plan = plan_for(frame.height, frame.width, fit.size)
        height, width = (plan.height, plan.width) if fit.in_one_go else (frame.height, frame.width)
        rgb: NDArray[Any] = self.reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=CONVERSION, threads=1
        ).to_ndarray()
        if fit.in_one_go:
            out[plan.top : plan.top + height, plan.left : plan.left + width] = rgb
        else:
            out[:] = fit.apply(rgb)

    def _unreadable(self, error: BaseException, seconds: float | None = None) -> DatasetError:
        path = self.root / self.file
        if not path.exists():
            return fault("no such file", file=self.file)
        where = "" if seconds is None else f" at {seconds:.4f} s"
        reason = mistaken_file(path) or f"can't be read as video{where} ({one_line(error)})"
        return fault(reason, file=self.file)
