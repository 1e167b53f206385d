"""What one robot's cameras showed lately: a ring of frames by time, for models that see the past.

Frames are kept at the model's size. Which of them an answer sees follows from the contract's stride in
seconds alone, so a loop may run at another rate than the dataset's, or drop frames.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Memory
from pioxide.errors import InputError

# Frames that are kept in a stride at most; what comes faster replaces the one before.
IN_A_STRIDE = 64
# A frame may be this much of a stride older or younger than it should be.
TOLERANCE = 0.1


class Seen(NamedTuple):
    """What the cameras showed at one moment.

    Attributes:
        at: When, in seconds.
        images: By slot, [S, S, 3]; a camera that was away is left out.
    """

    at: float
    images: Mapping[str, NDArray[Any]]


class History:
    """The frames of one robot's episode that answers may still see. Any thread may use it.

    Attributes:
        memory: What is seen of them.
    """

    def __init__(self, memory: Memory) -> None:
        """Has seen nothing yet."""
        self.memory = memory
        self._gap = memory.stride / IN_A_STRIDE
        self._frames: list[Seen] = []
        self._began: float | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Returns how many frames are kept."""
        return len(self._frames)

    def clear(self) -> None:
        """Forgets all, as when an episode ends."""
        with self._lock:
            self._frames, self._began = [], None

    def begin(self, at: float) -> None:
        """Says when the episode began, where frames of it were shown elsewhere: those are missing here."""
        with self._lock:
            if self._began is None:
                self._began = at

    @property
    def began(self) -> float | None:
        """Returns when the episode began; None before its first frame."""
        return self._began

    @property
    def moments(self) -> list[float]:
        """Returns when the frames that are kept were taken, the oldest first."""
        with self._lock:
            return [one.at for one in self._frames]

    def add(self, seen: Seen) -> None:
        """Keeps a frame. One of the same moment is replaced.

        Raises:
            InputError: It is older than the episode's first.
        """
        with self._lock:
            self._add(seen)

    def look_back(self, seen: Seen) -> list[Seen | None]:
        """Keeps a frame, and returns the T that an answer to it sees, the oldest first and itself last.

        What would lie before the episode's first frame is None. Frames that came after it are not seen.

        Raises:
            InputError: It is older than the episode's first, or no frame is old enough, or one is missing
                where the episode has others before and after.
        """
        with self._lock:
            self._add(seen)
            return [*(self._at(seen.at - age, age) for age in self.memory.ages[:-1]), seen]

    def _add(self, seen: Seen) -> None:
        frames = self._frames
        if self._began is None:
            self._began = seen.at
        if seen.at < self._began:
            raise InputError(
                f"at: {seen.at:.3f} s is before the first frame of the episode, {self._began:.3f} s; call "
                "session.forget() where one begins, and keep to one clock"
            )
        place = bisect_left(frames, seen.at, key=lambda one: one.at)
        if place < len(frames) and frames[place].at == seen.at:
            frames[place] = seen
            return
        if place == len(frames) >= 2 and frames[-1].at - frames[-2].at < self._gap:
            frames[-1] = seen
        else:
            frames.insert(place, seen)
        # An answer may be asked for when later frames have come already, so one stride more is kept.
        oldest = frames[-1].at - self.memory.span - (1 + TOLERANCE) * self.memory.stride
        first = bisect_left(frames, oldest, key=lambda one: one.at)
        del frames[: max(first, len(frames) - IN_A_STRIDE * (self.memory.frames + 1))]

    def _at(self, wanted: float, age: float) -> Seen | None:
        assert self._began is not None, "a frame was added"
        if wanted < self._began - self._gap / 2:
            return None
        frames = self._frames
        place = bisect_left(frames, wanted, key=lambda one: one.at)
        found = min(frames[max(place - 1, 0) : place + 1], key=lambda one: abs(one.at - wanted))
        off, allowed = abs(found.at - wanted), TOLERANCE * self.memory.stride
        if off > allowed:
            raise InputError(
                f"no frame of {age:g} s ago, which this model sees: the nearest is {off:.3g} s off, and "
                f"{allowed:g} s are allowed; show the policy the frames between its "
                "answers too (policy.observe), or begin an episode (session.forget)"
            )
        return found


def moment_of(at: Sequence[float | None] | None, row: int) -> float:
    """Returns when a robot's observation was taken: as is said, or now.

    Raises:
        InputError: What is said is no finite number.
    """
    said: Any = None if at is None else at[row]
    if said is None:
        return time.monotonic()
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        raise InputError(f"at: expected seconds, got {said!r}")
    return float(said)


def seen_of(
    images: Mapping[str, NDArray[Any]], present: Mapping[str, NDArray[np.bool_]], row: int, at: float
) -> Seen:
    """Returns what one of several robots sees, its own copy.

    Args:
        images: By slot, [B, S, S, 3].
        present: By slot, [B] which rows have it.
        row: Which robot.
        at: When.
    """
    return Seen(at, {slot: image[row].copy() for slot, image in images.items() if present[slot][row]})


def films(
    seen: Sequence[Sequence[Seen | None]], images: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
    """Returns what B robots see of the past, by slot: images [B, T, S, S, 3], and which are there [B, T].

    Args:
        seen: By robot, T moments; None for one that there is not.
        images: By slot, [B, S, S, 3] of the newest; where a slot is missing, no robot has it now.
    """
    film: dict[str, NDArray[Any]] = {}
    there: dict[str, NDArray[np.bool_]] = {}
    for slot, newest in images.items():
        shape = (len(seen), len(seen[0]), *newest.shape[1:])
        film[slot] = np.full(shape, 0 if newest.dtype == np.uint8 else -1, newest.dtype)
        there[slot] = np.zeros(film[slot].shape[:2], np.bool_)
        for row, moments in enumerate(seen):
            for back, moment in enumerate(moments):
                if moment is not None and slot in moment.images:
                    film[slot][row, back], there[slot][row, back] = moment.images[slot], True
    return film, there
