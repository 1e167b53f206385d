"""How far a job is: a bar where a person watches, a plain line now and then where a log file does."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

# Seconds between lines in a log.
LINE_EVERY = 10.0


class FrameProgress:
    """Frames done, frames a second and time left, on standard error. Safe between threads."""

    def __init__(self, what: str) -> None:
        from rich.console import Console

        self.what = what
        self.console = Console(stderr=True)
        self.bar = None
        self.lock = threading.Lock()
        self.total = self.done = self.before = 0
        self.began = self.said = time.monotonic()

    def __enter__(self) -> FrameProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return time.monotonic() - self.began

    @property
    def made(self) -> int:
        """Frames done in this run."""
        return self.done - self.before

    def begin(self, total: int, done: int) -> None:
        """`total` frames to make, `done` of them by an earlier run."""
        self.total, self.done, self.before = total, done, done
        self.began = self.said = time.monotonic()
        if done:
            self.console.print(f"{done:,} of {total:,} frames are there already", highlight=False)
        if self.console.is_terminal:
            self._show_bar()

    def advance(self, frames: int) -> None:
        """Some more frames are done."""
        with self.lock:
            self.done += frames
            if self.bar is not None:
                self.bar.update(self.task, completed=self.done, rate=self._rate())
            elif time.monotonic() - self.said > LINE_EVERY:
                self.said = time.monotonic()
                self._line()

    def _show_bar(self) -> None:
        from rich import progress

        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.completed:,}/{task.total:,} frames"),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task(self.what, total=self.total, completed=self.done, rate="")
        self.bar.start()

    def _rate(self) -> str:
        return f"{self.made / max(self.seconds, 1e-3):,.0f} frames/s"

    def _line(self) -> None:
        left = self.seconds * (self.total - self.done) / max(self.made, 1)
        print(
            f"{self.what}: {self.done:,} of {self.total:,} frames ({self.done / self.total:.0%}), "
            f"{self._rate()}, {left:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def say_file(name: str, done: int, total: int) -> None:
    """Say on standard error which file is being brought."""
    print(f"{name} ({done + 1} of {total}) ...", file=sys.stderr, flush=True)


class BytesProgress:
    """A bar of bytes done, on standard error, where a person watches; nothing in a log file."""

    def __init__(self, what: str, total: int | None = None) -> None:
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[at]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(what, total=total, at="")

    def __enter__(self) -> BytesProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, total: int, done: int) -> None:
        """`total` bytes, `done` of them before."""
        self.bar.update(self.task, total=total, completed=done)

    def advance(self, count: int, /) -> None:
        """Some bytes are done."""
        self.bar.update(self.task, advance=count)

    def tensor(self, name: str, count: int) -> None:
        """Some bytes of the tensor `name` are done."""
        self.bar.update(self.task, advance=count, at=name)
