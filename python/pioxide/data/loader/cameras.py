"""The pictures of a source: which feature of the dataset fills which slot, and how rows are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract, known
from pioxide.data.footage import Place, video_places
from pioxide.data.images import Fit, StillImages
from pioxide.data.lerobot import LeRobotDataset
from pioxide.data.loader.index import FrameIndex
from pioxide.data.rlds.pictures import RecordImages, is_indexed
from pioxide.data.video import VideoReader
from pioxide.errors import ContractError


class Pictures(Protocol):
    """The frames of one camera of a source."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Returns the images [n, S, S, 3] of these rows, in this order."""
        ...


class RecordedPictures(Pictures, Protocol):
    """Frames as a dataset holds them, which a cache can be made of."""

    @property
    def index(self) -> FrameIndex:
        """Returns the source's rows."""
        ...

    def origin(self, episode: int) -> tuple[Path, str]:
        """Returns the file that an episode's frames are in, and what else says which they are."""
        ...

    def shape(self, episode: int) -> tuple[int, int]:
        """Returns height and width of an episode's frames as recorded."""
        ...


@dataclass(frozen=True)
class VideoPictures:
    """A camera whose frames are in video files.

    Attributes:
        root: The dataset.
        fps: Its rate.
        index: The source's rows.
        places: By episode of the index, where its video is.
        reader: Keeps files open.
        fit: To the model's size.
    """

    root: Path
    fps: float
    index: FrameIndex
    places: tuple[Place, ...]
    reader: VideoReader
    fit: Fit

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Pictures`. Rows of one file are decoded together, in the order of time."""
        out = self.fit.black(len(rows))
        by_file: dict[str, list[int]] = {}
        places = [self.places[episode] for episode in self.index.episode[rows]]
        for at, place in enumerate(places):
            by_file.setdefault(place.file, []).append(at)
        for file, at in sorted(by_file.items()):
            seconds = [places[i].start + self.index.seconds[rows[i]] for i in at]
            out[at] = self.reader.frames(self.root, file, seconds, self.fit, fps=self.fps)
        return out

    def origin(self, episode: int) -> tuple[Path, str]:
        """See `RecordedPictures`."""
        place = self.places[episode]
        return self.root / place.file, f"{place.file} from {place.start!r} at {self.fps!r}"

    def shape(self, episode: int) -> tuple[int, int]:
        """See `RecordedPictures`."""
        return self.reader.shape(self.root, self.places[episode].file)


@dataclass(frozen=True)
class StillPictures:
    """A camera whose frames are images in the data files, or in the records that a dataset was made of.

    Attributes:
        key: The feature.
        index: The source's rows.
        images: Reads them.
        fit: To the model's size.
    """

    key: str
    index: FrameIndex
    images: StillImages | RecordImages
    fit: Fit

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """See `Pictures`."""
        out = self.fit.black(len(rows))
        episodes, frames = self.index.episode[rows], self.index.frame(rows)
        for episode in np.unique(episodes):
            at = np.flatnonzero(episodes == episode)
            out[at] = self.images.frames(self.index.infos[episode], self.key, frames[at], self.fit)
        return out

    def origin(self, episode: int) -> tuple[Path, str]:
        """See `RecordedPictures`."""
        info = self.index.infos[episode]
        return self.images.origin(info, self.key)

    def shape(self, episode: int) -> tuple[int, int]:
        """See `RecordedPictures`."""
        return self.images.shape(self.index.infos[episode], self.key)


def slot_features(
    contract: Contract, dataset: LeRobotDataset, chosen: Mapping[str, str | None]
) -> dict[str, str]:
    """Returns the dataset's feature for each slot that one fills, in the order of the contract.

    A camera's feature is the one that is chosen, else the one of its name, else the one whose name ends like
    the camera's: "images/top" is `observation.images.top`.

    Args:
        contract: Its `cameras` say which of the robot's cameras fills which slot.
        dataset: Its features.
        chosen: By the robot's key; None for a camera that the dataset lacks.

    Raises:
        ContractError: A camera is not known or two features may be it; shows both sides.
    """
    contract.require("cameras", "absent_camera", doing="reading images")
    slots = [slot for slot in known(contract.cameras, "cameras") if slot.key is not None]
    features = [key for key, feature in dataset.features.items() if feature.dtype in ("video", "image")]
    has = ", ".join(features) or "none"

    def error(what: str) -> ContractError:
        wanted = ", ".join(f"{slot.key} (slot {slot.slot})" for slot in slots)
        raised = ContractError(
            f"{what}: the contract has cameras {wanted}; the dataset {dataset.path} has {has}. Say which is "
            'which: cameras={"ROBOT KEY": "DATASET FEATURE"}'
        )
        raised.fields = ("cameras",)
        return raised

    if strange := sorted(set(chosen) - {str(slot.key) for slot in slots}):
        raise error(f"no camera is called {strange[0]!r}")
    found: dict[str, str] = {}
    for slot in slots:
        key = str(slot.key)
        feature = chosen[key] if key in chosen else _named(key, features)
        if feature is None:
            if slot.required:
                raise error(f"nothing shows {key!r}")
            continue
        if feature not in features:
            raise error(f"{feature!r} is no camera of the dataset")
        if feature in found.values():
            raise error(f"{feature!r} fills two slots")
        found[slot.slot] = feature
    if not found:
        raise error("no camera is left")
    return found


def make_pictures(dataset: LeRobotDataset, feature: str, index: FrameIndex, fit: Fit) -> RecordedPictures:
    """Returns what reads a feature's images.

    Raises:
        DatasetError: A video is missing, or the metadata do not say where it is.
    """
    if dataset.features[feature].dtype == "image":
        kind = RecordImages.open if is_indexed(dataset.path) else StillImages
        return StillPictures(feature, index, kind(dataset.path), fit)
    places = video_places(dataset, feature, [info.index for info in index.infos])
    ordered = tuple(places[info.index] for info in index.infos)
    return VideoPictures(dataset.path, dataset.fps, index, ordered, VideoReader(), fit)


def _named(key: str, features: list[str]) -> str | None:
    if key in features:
        return key
    ending = key.replace("/", ".").rsplit(".", 1)[-1]
    alike = [feature for feature in features if feature.replace("/", ".").rsplit(".", 1)[-1] == ending]
    return alike[0] if len(alike) == 1 else None
