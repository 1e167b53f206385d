"""Draws the chunks that a codec is made of, from one dataset or from several as if they were one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.codec import ActionCodec
from pioxide.data import LeRobotDataset
from pioxide.data.faults import nothing_left
from pioxide.data.overflow import chunk_of, placed
from pioxide.data.portions import Alone, Crew, Portion
from pioxide.errors import OverflowingChunkError
from pioxide.shards.codecs import CodecOptions
from pioxide.shards.frames import FrameCutter

WAY_OUT = "leave the episode out with --episodes or --skip-bad, mend it, or drop the joint"


@dataclass(frozen=True)
class SampleSource:
    """Episodes of a dataset to draw chunks from.

    Attributes:
        dataset: What to read.
        cutter: How its episodes become chunks.
        episodes: Which.
        weight: How often each of its frames counts.
    """

    dataset: LeRobotDataset
    cutter: FrameCutter
    episodes: tuple[int, ...]
    weight: int = 1

    @property
    def lengths(self) -> list[int]:
        """Returns the rows of each episode."""
        return [self.dataset.rows(episode) for episode in self.episodes]


@dataclass(frozen=True)
class Sample:
    """Chunks drawn from a dataset.

    Attributes:
        chunks: [n, H, D], normalised.
        places: [n, 2] the episode and the frame of each.
    """

    chunks: NDArray[np.float64]
    places: NDArray[np.int64]

    def without(self, episode: int) -> Sample:
        """Returns it without an episode's chunks."""
        kept = self.places[:, 0] != episode
        return Sample(self.chunks[kept], self.places[kept])


class Wild(NamedTuple):
    """An episode with a chunk that no codec of these settings can represent.

    Attributes:
        source: Which of the sources has it.
        episode: Its number.
        reason: With frame and joint.
    """

    source: int
    episode: int
    reason: str


def draw_chunks(
    sources: Sequence[SampleSource], number: int, seed: int, crew: Crew | None = None
) -> list[Sample]:
    """Draws up to `number` chunks of all sources together, every frame as likely as its weight says.

    It is what would be drawn from one dataset that holds each of them `weight` times, one after another.

    Args:
        sources: Where from.
        number: How many chunks, of all together.
        seed: Of the draw.
        crew: Who reads the sources, in this order, in place of this process.

    Returns:
        A sample a source, possibly empty.
    """
    sizes = [sum(source.lengths) * source.weight for source in sources]
    total = sum(sizes)
    drawn = np.random.default_rng(seed).choice(total, min(total, number), replace=False)
    crew = crew or Alone([source.dataset for source in sources])
    samples, first = [], 0
    for number, (source, size) in enumerate(zip(sources, sizes, strict=True)):
        here = drawn[(drawn >= first) & (drawn < first + size)] - first
        samples.append(_read(crew, number, source, np.sort(here % max(1, size // source.weight))))
        first += size
    return samples


@dataclass(frozen=True)
class _Cut:
    """Cuts the chunks that were drawn out of a portion; see `portions.Work`.

    Attributes:
        cutter: How.
        frames: Which frames of each episode, rising; one can be there several times.
    """

    cutter: FrameCutter
    frames: dict[int, NDArray[np.int64]]

    def __call__(self, dataset: LeRobotDataset, portion: Portion) -> Sample:
        number = sum(len(self.frames[episode]) for episode in portion.episodes)
        chunks = np.empty((number, self.cutter.horizon, self.cutter.numbers.robot.action_dim))
        places = np.empty((number, 2), np.int64)
        filled = 0
        for episode in dataset.scan(self.cutter.columns.all, portion.episodes):
            frames = self.frames[episode.index]
            for block in self.cutter.blocks(episode):
                first, last = block.frame_index[[0, -1]]
                rows = frames[np.searchsorted(frames, first) : np.searchsorted(frames, last, side="right")]
                part = slice(filled, filled + len(rows))
                chunks[part] = block.chunks[np.searchsorted(block.frame_index, rows)]
                places[part, 0], places[part, 1] = episode.index, rows
                filled += len(rows)
        return Sample(chunks, places)


def _read(crew: Crew, number: int, source: SampleSource, drawn: NDArray[np.int64]) -> Sample:
    """The chunks of these rows, which are counted over the source's episodes, rising."""
    starts = np.cumsum([0, *source.lengths])
    cuts = np.searchsorted(drawn, starts)
    frames = {
        episode: source.dataset.row_frames(episode)[drawn[cuts[i] : cuts[i + 1]] - starts[i]]
        for i, episode in enumerate(source.episodes)
        if cuts[i] < cuts[i + 1]
    }
    # Episodes of which nothing was drawn are not read.
    portions = crew.portions(number, list(frames))
    made = list(crew.each(_Cut(source.cutter, frames), portions))
    if len(made) == 1:
        return made[0]
    shape = (0, source.cutter.horizon, source.cutter.numbers.robot.action_dim)
    return Sample(
        np.concatenate([np.empty(shape), *(sample.chunks for sample in made)]),
        np.concatenate([np.empty((0, 2), np.int64), *(sample.places for sample in made)]),
    )


def made_codec(
    options: CodecOptions,
    samples: Sequence[Sample],
    joints: Sequence[Sequence[str]],
    *,
    names: Sequence[str] = (),
    skip_bad: bool,
) -> tuple[ActionCodec, list[Wild]]:
    """Makes a codec of all samples.

    Args:
        options: Which.
        samples: Of each source.
        joints: Names of each source's action dimensions.
        names: What messages call the sources; nothing by default.
        skip_bad: Leave episodes out that it can't represent.

    Returns:
        The codec, and the episodes that were left out.

    Raises:
        OverflowingChunkError: It can't represent a chunk, without `skip_bad`; names episode, frame and joint.
        DatasetError: No episode is left.
    """
    left = list(samples)
    wild: list[Wild] = []
    while True:
        arrays = [sample.chunks for sample in left]
        if wild and not any(len(array) for array in arrays):
            raise nothing_left([one.reason for one in wild])
        alike = len({array.shape[1:] for array in arrays}) == 1
        try:
            chunks = np.concatenate(arrays) if alike else [chunk for array in arrays for chunk in array]
            return options.fit(chunks), wild
        except OverflowingChunkError as error:
            chunk = chunk_of(error)
            if chunk is None:
                raise
            ends = np.cumsum([len(array) for array in arrays])
            source = int(np.searchsorted(ends, chunk, side="right"))
            place = left[source].places[chunk - int(ends[source]) + len(arrays[source])].tolist()
            said = placed(error, (place[0], place[1]), joints[source], WAY_OUT)
            if names:
                said = OverflowingChunkError(f"{names[source]}: {said}")
            if not skip_bad:
                raise said from None
            wild.append(Wild(source, place[0], str(said)))
            left[source] = left[source].without(place[0])
