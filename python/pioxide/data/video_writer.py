"""Video files as LeRobot v3.0 keeps them: episodes one behind another, every frame at its exact time.

Needs PyAV (`pip install "pioxide[video]"`).
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError, OutputError
from pioxide.files import make_directory, rename

# Every second frame is a key frame, so that any frame is one or two decodes away, as LeRobot's own are.
KEY_FRAME_EVERY = 2


class EncodedEpisode(NamedTuple):
    """Where an episode's frames of one camera are: a file, and seconds in it from its start to its end."""

    chunk_index: int
    file_index: int
    from_timestamp: float
    to_timestamp: float


class VideoFile:
    """One mp4 in H.264, open for frames. Made by one thread, for the same bytes each time."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, int]) -> None:
        """Opens it.

        Args:
            path: The file.
            fps: Frames a second.
            shape: Height and width, both even.

        Raises:
            InputError: A side is odd, which H.264's usual pixels can't be.
            OutputError: The file can't be written.
        """
        import av

        if any(side % 2 for side in shape):
            raise InputError(f"video: expected an even height and width, got {shape[0]} x {shape[1]}")
        make_directory(path.parent)
        self.path, self.shape, self.frames = path, shape, 0
        rate = Fraction(fps).limit_denominator(1001)
        try:
            # No x264 banner with its version, no creation time: the same frames give the same bytes.
            self._container: Any = av.open(str(path), "w", container_options={"fflags": "+bitexact"})
        except OSError as error:
            raise OutputError(f"can't write {path}: {error.strerror or error}") from error
        # Without B-frames the order of decoding is that of time, and no edit list moves the beginning.
        options = {
            "crf": "18",
            "preset": "veryfast",
            "tune": "zerolatency",
            "bf": "0",
            "threads": "1",
            "sc_threshold": "0",
        }
        self._stream: Any = self._container.add_stream("libx264", rate=rate, options=options)
        self._stream.height, self._stream.width = shape
        self._stream.pix_fmt = "yuv420p"
        self._stream.gop_size = KEY_FRAME_EVERY
        self._stream.codec_context.time_base = 1 / rate

    @property
    def size(self) -> int:
        """Returns the bytes on disk; what is still in buffers does not count."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        """Writes frames [height, width, 3]; the first of them is a key frame.

        Raises:
            InputError: A frame has another shape or dtype.
        """
        import av
        from av.video.frame import PictureType

        for i, image in enumerate(frames):
            if image.shape != (*self.shape, 3) or image.dtype != np.uint8:
                raise InputError(
                    f"video: expected frames {(*self.shape, 3)} of uint8, got {image.shape} of {image.dtype}"
                )
            frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = self.frames
            if i == 0:
                frame.pict_type = PictureType.I
            self._container.mux(self._stream.encode(frame))
            self.frames += 1

    def __enter__(self) -> VideoFile:
        """Returns the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Finishes the file.

        Raises:
            OutputError: It can't be written.
        """
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except OSError as error:
            raise OutputError(f"can't write {self.path}: {error.strerror or error}") from error


class CameraWriter:
    """One camera's video files: a new one where the current one has grown large.

    Attributes:
        codec: As ffmpeg calls it.
    """

    codec = "h264"

    def __init__(self, root: Path, template: str, fps: float, files_a_chunk: int, max_bytes: int) -> None:
        """Opens nothing yet.

        Args:
            root: The dataset.
            template: A file's name, with chunk_index and file_index to fill in.
            fps: Frames a second.
            files_a_chunk: Files in a folder.
            max_bytes: A file that has more is closed before the next episode.
        """
        self._root, self._template, self._fps = root, template, fps
        self._files_a_chunk, self._max_bytes = files_a_chunk, max_bytes
        self._file: VideoFile | None = None
        self._number = -1

    def write(self, frames: NDArray[np.uint8]) -> EncodedEpisode:
        """Writes one episode [T, height, width, 3] and returns where it is.

        Raises:
            InputError: The frames have another size than those before.
            OutputError: It can't be written.
        """
        if self._file is not None and self._file.size > self._max_bytes:
            self.close()
        if self._file is None:
            self._number += 1
            chunk, index = divmod(self._number, self._files_a_chunk)
            name = self._template.format(chunk_index=chunk, file_index=index)
            self._file = VideoFile(self._root / name, self._fps, (frames.shape[1], frames.shape[2]))
        first = self._file.frames
        self._file.append(frames)
        chunk, index = divmod(self._number, self._files_a_chunk)
        return EncodedEpisode(chunk, index, first / self._fps, self._file.frames / self._fps)

    def close(self) -> None:
        """Finishes the current file."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def feature(self, height: int, width: int) -> dict[str, Any]:
        """Returns the camera's entry in `info.json`."""
        return {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": self.codec,
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": self._fps,
                "video.channels": 3,
                "has_audio": False,
            },
        }


def write_film(path: Path, frames: Iterable[NDArray[np.uint8]], *, fps: float) -> None:
    """Writes a film for people, whole or not at all.

    Args:
        path: An .mp4 file; replaced where it is there.
        frames: [height, width, 3] each, even in height and width.
        fps: Frames a second.

    Raises:
        InputError: There is no frame, or one has another shape.
        OutputError: It can't be written.
    """
    partial = path.with_name(f".{path.stem}.partial.mp4")
    file: VideoFile | None = None
    try:
        for frame in frames:
            file = file or VideoFile(partial, fps, frame.shape[:2])
            file.append([frame])
        if file is None:
            raise InputError(f"{path}: there is no frame to write")
        done, file = file, None
        done.close()
        rename(partial, path)
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        if file is not None:
            file.close()
        partial.unlink(missing_ok=True)
