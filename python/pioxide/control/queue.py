"""The actions still to be played: one chunk, a place in it, and what to do when it runs dry.

A control loop takes one action a tick; a policy brings whole chunks, late. Time is counted in actions
consumed, never by a wall clock, so a jittery loop neither repeats nor skips an action.

Rust, C and C++ have a queue of their own (`rust/core/src/control/queue.rs`). It allocates nothing in the
loop, and for that is told D and the longest chunk before, and leaves locking to its caller. This one takes
chunks as they come, from any thread. What they share is little, and both are held to the same recorded calls
(`tests/golden/control`).
"""

from __future__ import annotations

import enum
import math
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.codec.arrays import floats
from pioxide.errors import InputError


class OnEmpty(enum.Enum):
    """What the loop gets when no action is left.

    Attributes:
        HOLD: The last action again.
        STOP: Nothing: the loop is told to stop.
        SLOW: The rest of the chunk at half speed as soon as it is shorter than the usual delay, then the last
            action.
    """

    HOLD = "hold"
    STOP = "stop"
    SLOW = "slow"


class Snapshot(NamedTuple):
    """Where the queue stood at one moment, taken whole.

    Attributes:
        consumed: Actions consumed since the start; fractions where the queue plays slowly.
        leftover: [n, D] what is left of the current chunk, the next action first, in the robot's units.
    """

    consumed: float
    leftover: NDArray[np.float64]


class Taken(NamedTuple):
    """One tick's action [D] (None: stop), and whether it is a fresh one or the queue had run dry."""

    action: NDArray[np.float64] | None
    dry: bool


@dataclass
class ActionQueue:
    """A chunk and the place in it. Every method is atomic; any thread may call any of them.

    >>> import numpy as np
    >>> queue = ActionQueue(OnEmpty.HOLD)
    >>> queue.put(np.array([[0.1], [0.2], [0.3]]), since=0.0)  # the delay: actions consumed since then
    0.0
    >>> queue.take().action, queue.remaining()
    (array([0.1]), 2)

    Attributes:
        on_empty: What to do when it runs dry.
        slow_below: With `OnEmpty.SLOW`, which needs it: play at half speed once at most so many actions are
            left.
        replaced: Chunks that took over from one before.
        late: Chunks that came so late that nothing of them was left, and were dropped.
        outdated: Chunks whose observation was older than the current chunk's, and were dropped.
        dry_ticks: Ticks without a fresh action.
    """

    on_empty: OnEmpty
    slow_below: int = 0
    replaced: int = field(default=0, init=False)
    late: int = field(default=0, init=False)
    outdated: int = field(default=0, init=False)
    dry_ticks: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """An empty queue.

        Raises:
            InputError: `on_empty` is no `OnEmpty`, or SLOW comes without `slow_below`.
        """
        if not isinstance(self.on_empty, OnEmpty):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"on_empty: expected one of {[str(o) for o in OnEmpty]}, got {self.on_empty!r}")
        if self.on_empty is OnEmpty.SLOW and not self.slow_below >= 1:
            raise InputError(f"slow_below: OnEmpty.SLOW needs at least 1 action, got {self.slow_below}")
        self._lock = threading.Lock()
        self._chunk: NDArray[np.float64] | None = None
        self._start = 0.0  # the place in consumed actions at which row 0 of the chunk was due
        self._consumed = 0.0
        self._last: NDArray[np.float64] | None = None

    def snapshot(self) -> Snapshot:
        """Returns where the queue stands: to be taken with the observation that goes to the policy."""
        with self._lock:
            if self._chunk is None:
                return Snapshot(self._consumed, np.zeros((0, 0)))
            # A chunk half way between two rows has its next whole row as the first that is left.
            at = min(int(np.ceil(self._consumed - self._start)), len(self._chunk))
            return Snapshot(self._consumed, self._chunk[at:].copy())

    def put(self, actions: NDArray[np.floating], since: float) -> float | None:
        """Lets a new chunk take over at the place that the robot has reached meanwhile.

        Args:
            actions: [H, D] in the robot's units; row 0 belongs to the observation.
            since: `Snapshot.consumed` of the moment when the observation was taken.

        Returns:
            The delay: actions consumed since then. None when the chunk was dropped.

        Raises:
            InputError: The chunk is empty, not [H, D], not finite, or of another D than the one before, or
                `since` is NaN.
        """
        actions = floats(actions, "expected a chunk [H, D]")
        if actions.ndim != 2 or 0 in actions.shape:
            raise InputError(f"expected a chunk [H, D], got shape {actions.shape}")
        if not np.isfinite(actions).all():
            row, dim = np.argwhere(~np.isfinite(actions))[0]
            raise InputError(
                f"the chunk is {actions[row, dim]} at step {row}, dimension {dim}; it is not played"
            )
        if math.isnan(since):
            raise InputError("since: expected a place in the queue, got nan")
        with self._lock:
            if self._chunk is not None and actions.shape[1] != self._chunk.shape[1]:
                raise InputError(
                    f"expected actions of {self._chunk.shape[1]} numbers like the last chunk's, "
                    f"got shape {actions.shape}"
                )
            delay = self._consumed - since
            if delay < 0 or since < self._start:
                self.outdated += 1
                return None
            if delay >= len(actions):
                self.late += 1
                return None
            self.replaced += self._chunk is not None
            self._chunk, self._start = actions, since
            return delay

    def take(self) -> Taken:
        """Returns the next action to play."""
        with self._lock:
            chunk = self._chunk
            if chunk is None:
                self.dry_ticks += 1
                return Taken(None, True)
            at = self._consumed - self._start
            if at >= len(chunk):
                self.dry_ticks += 1
                held = None if self.on_empty is OnEmpty.STOP or self._last is None else self._last.copy()
                return Taken(held, True)
            row = int(at)
            following = min(row + 1, len(chunk) - 1)
            # No difference of two rows: it could overflow.
            action = (1 - (at - row)) * chunk[row] + (at - row) * chunk[following]
            slow = self.on_empty is OnEmpty.SLOW and len(chunk) - at <= self.slow_below
            self._consumed += 0.5 if slow else 1.0
            self._last = action
            return Taken(action.copy(), False)

    def remaining(self) -> int:
        """Returns whole actions left in the current chunk."""
        with self._lock:
            if self._chunk is None:
                return 0
            return max(0, int(np.floor(len(self._chunk) - (self._consumed - self._start))))

    def clear(self) -> None:
        """Forgets chunk and last action, as between episodes; a chunk on its way is dropped as outdated."""
        with self._lock:
            self._chunk = self._last = None
            self._consumed = np.floor(self._consumed) + 1.0
            self._start = self._consumed
