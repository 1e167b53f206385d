"""How far a command is: a bar where a person watches, a plain line now and then where a log file does.

Nothing with `--quiet`, and events with `--events`; see `output`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from pioxide.cli import output

# Seconds between lines in a log.
LINE_EVERY = 10.0


class FrameProgress:
    """Frames done, or other things, their rate and the time left, on standard error. Safe between threads."""

    unit = "frames"

    def __init__(self, what: str, unit: str | None = None) -> None:
        from rich.console import Console

        self.what = what
        self.unit = unit or self.unit
        self.console = Console(stderr=True)
        self.bar = None
        self.lock = threading.Lock()
        self.total = self.done = self.before = 0
        self.began = self.said = time.monotonic()

    def __enter__(self) -> Self:
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
        """Done in this run."""
        return self.done - self.before

    def begin(self, total: int, done: int) -> None:
        """`total` to do, `done` of them by an earlier run."""
        self.total, self.done, self.before = total, done, done
        self.began = self.said = time.monotonic()
        output.current.progress(self.what, self.unit, done, total)
        if not output.current.speaks:
            return
        if done:
            self.console.print(f"{done:,} of {total:,} {self.unit} are there already", highlight=False)
        if self.console.is_terminal:
            self._show_bar()

    def advance(self, count: int, /) -> None:
        """Some more are done."""
        self._advance(count, "")

    def tensor(self, name: str, count: int) -> None:
        """Some more of `name` are done."""
        self._advance(count, name)

    def _advance(self, count: int, at: str) -> None:
        with self.lock:
            self.done += count
            output.current.progress(self.what, self.unit, self.done, self.total)
            if self.bar is not None:
                self.bar.update(self.task, completed=self.done, rate=self._rate(), at=at)
            elif output.current.speaks and time.monotonic() - self.said > LINE_EVERY:
                self.said = time.monotonic()
                self._line()

    def _show_bar(self) -> None:
        from rich import progress

        counted = (
            [progress.DownloadColumn(), progress.TransferSpeedColumn()]
            if self.unit == "bytes"
            else [
                progress.TextColumn("{task.completed:,}/{task.total:,} " + self.unit),
                progress.TextColumn("{task.fields[rate]}"),
            ]
        )
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            *counted,
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[at]}"),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task(self.what, total=self.total, completed=self.done, rate="", at="")
        self.bar.start()

    def _rate(self) -> str:
        return f"{self.made / max(self.seconds, 1e-3):,.0f} {self.unit}/s"

    def _line(self) -> None:
        left = self.seconds * (self.total - self.done) / max(self.made, 1)
        share = self.done / max(self.total, 1)
        print(
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit} ({share:.0%}), "
            f"{self._rate()}, {left:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )


class BytesProgress(FrameProgress):
    """The same of bytes."""

    unit = "bytes"

    def __init__(self, what: str, total: int | None = None) -> None:
        super().__init__(what)
        if total is not None:
            self.begin(total, 0)


class DatasetProgress(FrameProgress):
    """The same of datasets, each named when it is done."""

    unit = "datasets"

    def one(self, name: object) -> None:
        """One more is done."""
        self._advance(1, "")
        if output.current.speaks and self.bar is None:
            print(f"{self.done:,} of {self.total:,}: {name}", file=sys.stderr, flush=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows a person that a command is at work whose length isn't known, with the time since it began."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    output.current.event("stage", what=what)
    if not (output.current.speaks and console.is_terminal):
        yield
        return
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TimeElapsedColumn())
    with progress.Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


def say_file(name: str, done: int, total: int) -> None:
    """Says on standard error which file is being brought."""
    output.current.stage(f"{name} ({done + 1} of {total})")
