"""`Assembler`: row numbers of a batch to its arrays, from whichever sources the rows are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import AbsentCamera, Memory, known
from pioxide.data.images import Fit
from pioxide.data.loader.batch import Batch
from pioxide.data.loader.cameras import Pictures
from pioxide.data.loader.reading import Opened
from pioxide.data.loader.rows import Part
from pioxide.errors import PioxideError

# How arrays are called on their way out of a worker, where only arrays in a dict go by shared memory.
IMAGE, IMAGE_MASK = "image/", "image_mask/"


@dataclass(frozen=True)
class Assembler:
    """Makes batches of row numbers.

    The rows of all sources are numbered on, one source after another, and then twice more: those that ask for
    their subtask, and those that leave their advantage out.

    Attributes:
        opened: The sources.
        starts: [sources + 1] the first number of each, and how many there are in all.
        slots: Image slots that are filled, in the model's order.
        attended: Of those, whether the network attends to an image that is not there.
        fit: Of the images.
        memory: Of what the network saw before; None for none.
    """

    opened: tuple[Opened, ...]
    starts: NDArray[np.int64]
    slots: tuple[str, ...]
    attended: bool
    fit: Fit
    memory: Memory | None = None

    @classmethod
    def of(cls, opened: Sequence[Opened], fit: Fit) -> Assembler:
        """Numbers these sources' rows. A slot that none fills is left out, unless it is to be black."""
        contract = opened[0].source.contract
        black = contract.absent_camera is AbsentCamera.BLACK
        filled = {slot for one in opened for slot in one.pictures}
        slots = [camera.slot for camera in known(contract.cameras, "cameras")]
        return cls(
            tuple(opened),
            np.concatenate([[0], np.cumsum([len(one.drawn) for one in opened])]).astype(np.int64),
            tuple(slot for slot in slots if black or slot in filled),
            black,
            fit,
            contract.memory or None,
        )

    def __call__(self, numbers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Returns the arrays of rows [B], to be made a batch by `as_batch`.

        Raises:
            PioxideError: A row can't be read; says of which source.
        """
        numbers = np.asarray(numbers, np.int64)
        turn, numbers = np.divmod(numbers, self.starts[-1])
        source = np.searchsorted(self.starts, numbers, side="right") - 1
        out: dict[str, NDArray[Any]] = {"source": source.astype(np.int32)}
        shape = (len(numbers),) if self.memory is None else (len(numbers), self.memory.frames)
        for slot in self.slots:
            black = self.fit.black(int(np.prod(shape)))
            out[IMAGE + slot] = black.reshape(*shape, *black.shape[1:])
            out[IMAGE_MASK + slot] = np.full(shape, self.attended, np.bool_)
        for one in np.unique(source).tolist():
            at = np.flatnonzero(source == one)
            opened = self.opened[one]
            rows = opened.drawn[numbers[at] - self.starts[one]]
            for number, part in enumerate((opened.rows.part, opened.rows.question, opened.rows.unadvised)):
                if (kind := turn[at] == number).any():
                    self._fill(out, at[kind], part(rows[kind]))
            for slot, pictures in opened.pictures.items():
                try:
                    out[IMAGE + slot][at], out[IMAGE_MASK + slot][at] = self._seen(opened, pictures, rows)
                except PioxideError as error:
                    error.args = (f"{opened.source.name}: {error}", *error.args[1:])
                    raise
        return out

    def _seen(
        self, opened: Opened, pictures: Pictures, rows: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Returns a camera's images of rows, and which are there: all, but before an episode's beginning."""
        if self.memory is None:
            return pictures.read(rows), np.ones(len(rows), np.bool_)
        before, there = opened.index.history(rows, self.memory.frames, opened.step)
        images = self.fit.black(there.size)
        # Rows of one batch may share frames: each is read once.
        needed, place = np.unique(before[there], return_inverse=True)
        images[there.reshape(-1)] = pictures.read(needed)[place]
        return images.reshape(*there.shape, *images.shape[1:]), there

    def as_batch(self, arrays: dict[str, NDArray[Any]]) -> Batch:
        """Returns the batch of a call's arrays."""
        return Batch(
            images={slot: arrays[IMAGE + slot] for slot in self.slots},
            image_masks={slot: arrays[IMAGE_MASK + slot] for slot in self.slots},
            source=arrays["source"],
            **{name: arrays.get(name) for name in Part._fields},  # type: ignore[arg-type]
        )

    @staticmethod
    def _fill(out: dict[str, NDArray[Any]], at: NDArray[np.int64], part: Part) -> None:
        for name, values in part._asdict().items():
            if values is None:
                continue
            if len(at) == len(out["source"]):
                out[name] = values
                continue
            if name not in out:
                out[name] = np.zeros((len(out["source"]), *values.shape[1:]), values.dtype)
            out[name][at] = values
