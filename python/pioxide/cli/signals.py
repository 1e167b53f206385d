"""Signals and broken outputs while a command runs: nothing stays half-written, the exit status says why."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO

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


class Patient:
    """A standard stream whose reader may go: what is written from then on is dropped, and the work goes on.

    A job that makes something for hours does not end because the window with its log, or a `head`, has gone.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, as the stream does."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            drop(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flushes, as the stream does."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            drop(self._stream)


@contextmanager
def patient_streams() -> Iterator[None]:
    """Lets standard output and standard error break, or be closed from the beginning, while the body runs."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for name, stream in (("stdout", before[0]), ("stderr", before[1])):
            if stream is None:  # closed by the shell (`>&-`)
                setattr(sys, name, nowhere)
            elif stream is getattr(sys, f"__{name}__"):
                setattr(sys, name, Patient(stream))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def drop(stream: Any) -> None:
    """Lets nobody write to a standard stream that has gone; Python itself does so when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
