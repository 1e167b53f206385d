"""Films of episodes side by side, failures first: what a person looks at before believing a number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.evaluate.adapter import Variant
from pioxide.evaluate.lane import Outcome

EDGE = 4
GREEN, RED, DARK = (46, 160, 67), (209, 73, 91), (24, 24, 24)
# Pictures of a film's last moment, so that it is seen.
STAY = 10


@dataclass
class Reel:
    """The pictures of as many episodes as a grid has room for; failures push successes out.

    Attributes:
        room: Episodes to keep.
        size: Pixels along a picture's edge.
        kept: Outcomes and their pictures.
    """

    room: int
    size: int = 192
    kept: list[tuple[Outcome, list[NDArray[np.uint8]]]] = field(default_factory=list)

    def picture(self, rendered: Any) -> NDArray[np.uint8]:
        """Returns a rendered picture at the film's size, nearest pixels."""
        image = np.asarray(rendered, np.uint8)
        side = max(image.shape[:2])
        at = (np.arange(self.size) * side / self.size).astype(int)
        square = np.zeros((side, side, 3), np.uint8)
        square[: image.shape[0], : image.shape[1]] = image[..., :3]
        return square[at][:, at]

    def add(self, outcome: Outcome, frames: list[NDArray[np.uint8]]) -> None:
        """Keeps an episode, or not."""
        self.kept.append((outcome, frames))
        self.kept.sort(key=lambda kept: _order(kept[0]))
        del self.kept[self.room :]

    def write(self, path: Path, hz: float) -> None:
        """Writes the grid as a film (H.264 in mp4).

        Raises:
            InputError: No episode was kept.
            OutputError: It can't be written.
        """
        from pioxide.data.video_writer import write_film

        write_film(path, self._grid(), fps=hz)

    def _grid(self) -> Iterator[NDArray[np.uint8]]:
        if not self.kept:
            return
        columns = math.ceil(math.sqrt(len(self.kept)))
        rows = math.ceil(len(self.kept) / columns)
        cell = self.size + 2 * EDGE
        for at in range(max(len(frames) for _, frames in self.kept) + STAY):
            grid = np.full((rows * cell, columns * cell, 3), DARK, np.uint8)
            for i, (outcome, frames) in enumerate(self.kept):
                top, left = i // columns * cell, i % columns * cell
                ended = at >= len(frames) - 1
                edge = (GREEN if outcome.success else RED) if ended else DARK
                grid[top : top + cell, left : left + cell] = edge
                inside = (
                    slice(top + EDGE, top + EDGE + self.size),
                    slice(left + EDGE, left + EDGE + self.size),
                )
                grid[inside] = frames[min(at, len(frames) - 1)]
            yield grid


def _order(outcome: Outcome) -> tuple[bool, bool, int]:
    """Failures of the plain variant first: the others are meant to fail."""
    return outcome.episode.variant is not Variant.PLAIN, outcome.success, outcome.episode.seed


def labels(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns one line an episode, in the film's order."""
    return [
        f"seed {one.episode.seed}, {one.episode.variant}{f', {one.kind}' if one.kind else ''}: "
        f"{'done' if one.success else 'failed'} after {one.steps} actions"
        for one in sorted(outcomes, key=_order)
    ]
