"""Signals and broken outputs while a command runs: nothing stays half-written, the exit status says why."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Sent by a person, by a scheduler that takes the machine back, and by a terminal that was closed.
CAUGHT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped:
    """Which signal has come, if one has.

    It is raised as KeyboardInterrupt, so that whatever cleans up after Ctrl-C does so for all of them. Where
    it comes while a module is being imported, the import may fail with another error: `signal` tells.

    Attributes:
        signal: its number, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def status(self) -> int:
        """Returns 128 and the signal's number, as a shell does; 130 for an interrupt of another origin."""
        return 128 + (self.signal or signal.SIGINT)

    @property
    def sentence(self) -> str:
        """What happened, in a word."""
        return "interrupted" if self.signal in (None, signal.SIGINT) else "terminated"

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.signal = number
        raise KeyboardInterrupt


@contextmanager
def watched() -> Iterator[Stopped]:
    """Turns signals into KeyboardInterrupt while the body runs, where this is the main thread."""
    stopped = Stopped()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in CAUGHT:
            # One that was ignored (nohup) stays so.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, stopped.handle)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def drop_output() -> None:
    """Lets nobody write to a standard output that has gone; Python itself does so when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
