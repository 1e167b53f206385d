"""Images in the data files of a dataset, and the fitting to the model's size that video and cache share.

`Fit` is a contract's `image_size` and `resize`. A still image is PNG or JPEG bytes, as LeRobot's image
columns hold them, and needs Pillow.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pioxide.contract import Contract, Resize, known
from pioxide.data.episode import EpisodeInfo
from pioxide.data.faults import fault, one_line, unreadable
from pioxide.data.parquet import open_parquet
from pioxide.errors import DatasetError, InputError
from pioxide.transforms.images import interpolate_with_pad, resize_with_pad

# What Pillow calls images that are red, green, blue, or grey, of eight bits; others would be clipped.
PLAIN_MODES = ("RGB", "L", "P")


@dataclass(frozen=True)
class Fit:
    """How a frame is brought to the model's size.

    Attributes:
        size: S, pixels along an edge.
        resize: As the contract has it.
        exact: Whether every pixel is the one that a policy would make of the same frame. Otherwise video is
            reduced while it is converted, which is several times faster and differs by 0.2 levels of 255 on
            average; where the contract resizes as LeRobot does there is no such shortcut, and this changes
            nothing.
    """

    size: int
    resize: Resize
    exact: bool = False

    @classmethod
    def of(cls, contract: Contract, *, exact: bool = False) -> Fit:
        """Reads it off a contract.

        Raises:
            ContractError: It does not say how images are resized.
        """
        contract.require("image_size", "resize", doing="preparing images")
        return cls(known(contract.image_size, "image_size"), known(contract.resize, "resize"), exact)

    @property
    def in_float(self) -> bool:
        """Returns whether images are float32 in [-1, 1] and not uint8."""
        return self.resize is Resize.INTERPOLATE

    @property
    def in_one_go(self) -> bool:
        """Returns whether video may be reduced while it is converted."""
        return not self.exact and not self.in_float

    def black(self, count: int) -> NDArray[Any]:
        """Returns `count` black images [count, S, S, 3]."""
        shape = (count, self.size, self.size, 3)
        return np.full(shape, -1, np.float32) if self.in_float else np.zeros(shape, np.uint8)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Returns an image [h, w, 3] at the model's size, as a policy would see it."""
        return interpolate_with_pad(image, self.size) if self.in_float else resize_with_pad(image, self.size)


class StillImages:
    """Images in the data files of a dataset. Holds nothing open."""

    def __init__(self, root: Path) -> None:
        """Starts; `root` is the dataset."""
        self.root = root

    def origin(self, info: EpisodeInfo, key: str) -> tuple[Path, str]:
        """Returns the file that an episode's images are in, and what else says which they are."""
        return self.root / info.file, info.file

    def frames(self, info: EpisodeInfo, key: str, frames: NDArray[np.int64], fit: Fit) -> NDArray[Any]:
        """Returns [n, S, S, 3], the images of some frames of an episode, in the order of `frames`.

        Raises:
            DatasetError: The file can't be read, or a frame's image is missing or is no plain image.
        """
        column = self._column(info, key, int(frames.max()) + 1)
        out = fit.black(len(frames))
        for row, frame in zip(out, frames.tolist(), strict=True):
            row[:] = fit.apply(self._image(info, key, frame, column[frame].as_py()))
        return out

    def shape(self, info: EpisodeInfo, key: str) -> tuple[int, int]:
        """Returns height and width of an episode's first image.

        Raises:
            DatasetError: As `frames`.
        """
        height, width, _ = self._image(info, key, 0, self._column(info, key, 1)[0].as_py()).shape
        return height, width

    def _column(self, info: EpisodeInfo, key: str, needed: int) -> pa.ChunkedArray:
        """The episode's rows of an image column; row groups without them are not read."""
        try:
            with open_parquet(self.root / info.file) as file:
                if key not in file.schema_arrow.names:
                    raise fault(f'has no column "{key}"', file=info.file)
                parts: list[pa.Array] = []
                for group in range(file.num_row_groups):
                    indices = file.read_row_group(group, columns=["episode_index"], use_threads=False)
                    here = np.flatnonzero(indices["episode_index"].to_numpy() == info.index)
                    if len(here):
                        rows = file.read_row_group(group, columns=[key], use_threads=False)[key]
                        parts += rows.slice(int(here[0]), int(here[-1] - here[0]) + 1).chunks
        except DatasetError:
            raise
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            raise unreadable(self.root, info.file, error) from error
        found = sum(len(part) for part in parts)
        if found < needed:
            raise fault(
                f'"{key}" has {found} images, {info.length} expected', file=info.file, episode=info.index
            )
        return pa.chunked_array(parts)

    def _image(self, info: EpisodeInfo, key: str, frame: int, value: Any) -> NDArray[np.uint8]:
        where = f'"{key}" frame {frame}'
        if not isinstance(value, dict):
            raise fault(f"{where} holds no image", file=info.file, episode=info.index)
        content, path = value.get("bytes"), value.get("path")
        try:
            if content is None and isinstance(path, str):
                content = (self.root / path).read_bytes()
            if content is None:
                raise fault(f"{where} has neither bytes nor a path", file=info.file, episode=info.index)
            return decode_image(content)
        except (OSError, InputError) as error:
            raise fault(
                f"{where} can't be read ({one_line(error)})", file=info.file, episode=info.index
            ) from error


def decode_image(content: bytes) -> NDArray[np.uint8]:
    """Returns PNG or JPEG bytes as [h, w, 3] uint8.

    Raises:
        InputError: They are no image, or one of other than eight bits a colour.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError('images in data files need Pillow: pip install "pioxide[train]"') from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode not in PLAIN_MODES:
                raise InputError(f"an image of mode {image.mode}, expected red, green and blue of 8 bits")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow: a broken PNG
        raise InputError(f"no image: {one_line(error)}") from error
