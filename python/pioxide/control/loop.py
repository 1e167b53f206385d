"""A control loop at a fixed rate around a `Runner`, on a clock that comes in as an argument."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pioxide.control.runner import Runner
from pioxide.errors import InputError


class Clock(Protocol):
    """Time, so that a test can bring its own."""

    def now(self) -> float:
        """Seconds."""
        ...

    def sleep_until(self, when: float) -> None:
        """Returns at `when`, or at once if that has passed."""
        ...


class WallClock:
    """Time as it passes."""

    def now(self) -> float:
        """See `Clock.now`."""
        return time.perf_counter()

    def sleep_until(self, when: float) -> None:
        """See `Clock.sleep_until`."""
        time.sleep(max(0.0, when - time.perf_counter()))


class LoopReport(NamedTuple):
    """What became of a loop's ticks.

    Attributes:
        ticks: Ticks that were begun.
        missed: Ticks that began late by more than a tenth of a period, or were left out.
        worst: The latest beginning, in seconds.
    """

    ticks: int
    missed: int
    worst: float


def run_loop(
    runner: Runner,
    observe: Callable[[], Mapping[str, Any]],
    act: Callable[[NDArray[np.float64]], None],
    *,
    hz: float,
    seconds: float,
    clock: Clock,
) -> LoopReport:
    """Runs a fixed-rate control loop: observe, step, act. Ends after `seconds`, or when the runner says stop.

    A tick's time is a multiple of the period from the start, so lateness does not add up. Ticks that a late
    one ran over are left out, not made up for: two actions in quick succession would be a jump for the robot,
    whatever limits each of them keeps.

    Raises:
        InputError: `hz` or `seconds` is no finite number above 0, or the clock gives no finite time.
    """
    if not (0 < hz < math.inf and 0 < seconds < math.inf):
        raise InputError(f"expected finite hz and seconds above 0, got {hz} and {seconds}")
    start, period = _time(clock), 1 / hz
    end = round(seconds * hz)
    tick = begun = missed = 0
    worst, moving = 0.0, False
    while tick < end:
        due = start + tick * period
        clock.sleep_until(due)
        began = _time(clock)
        begun, worst = begun + 1, max(worst, began - due)
        action, _ = runner.step(observe(), began)
        if action is not None:
            moving = True
            act(action)
        elif moving:
            end = tick + 1
        # The next is at least half a period from this one's beginning, or from its end if it took too long.
        ended = _time(clock)
        last = ended if ended > due + period else began
        following = min(max(tick + 1, math.ceil((last - start) / period + 0.5)), end)
        missed += (began - due > period / 10) + following - tick - 1
        tick = following
    return LoopReport(begun, missed, worst)


def _time(clock: Clock) -> float:
    now = clock.now()
    if not math.isfinite(now):
        raise InputError(f"clock: expected seconds, got {now}")
    return now
