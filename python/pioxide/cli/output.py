"""What every command says besides its results: progress, warnings, log lines, and events for scripts.

`--quiet`, `--verbose`, `--events` and `--json` are understood by every command; `main` takes them off the
arguments and makes of them the one `Output` that is `current` while the command runs.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

# In the help of every command.
COMMON = (
    "Every command also takes --quiet (-q: warnings and errors only), --verbose (-v: log lines, -vv all of "
    "them) and --events (what happens as JSON, a line each, on standard error; where a command has no --json "
    "of its own, that gives the same lines on standard output in place of text)."
)
FLAGS = {"-q": "quiet", "--quiet": "quiet", "--events": "events", "-v": "v", "--verbose": "v", "-vv": "vv"}
# Seconds between two progress events.
EVENT_EVERY = 1.0


class Output:
    """How a command speaks. Safe between threads.

    Attributes:
        quiet: Whether progress and text are left out.
        verbosity: 0 for warnings of the library, 1 for what it does, 2 for all.
        events: Where events go; None where none are asked for.
        text: Whether text is printed on standard output.
        result: What the last event tells of the result.
        ended: Whether that event was written.
    """

    def __init__(
        self, *, quiet: bool = False, verbosity: int = 0, events: TextIO | None = None, text: bool = True
    ) -> None:
        self.quiet = quiet
        self.verbosity = verbosity
        self.events = events
        self.text = text
        self.result: dict[str, Any] = {}
        self.ended = False
        self._lock = threading.Lock()
        self._said = 0.0

    @property
    def speaks(self) -> bool:
        """Returns whether progress is shown to a person."""
        return not self.quiet and self.events is None

    def event(self, kind: str, **values: Any) -> None:
        """Writes one event, where they are asked for."""
        if self.events is None:
            return
        line = json.dumps({"event": kind, "time": round(time.time(), 3), **values}, default=str)
        with self._lock:
            print(line, file=self.events, flush=True)

    def progress(self, what: str, unit: str, done: int, total: int | None) -> None:
        """Writes how far something is, once a second at most, and at its end."""
        now = time.monotonic()
        if self.events is not None and (now - self._said >= EVENT_EVERY or done == total):
            self._said = now
            self.event("progress", what=what, unit=unit, done=done, total=total)

    def stage(self, what: object) -> None:
        """Says what is being done, on standard error."""
        self.event("stage", what=str(what))
        if self.speaks:
            print(f"{what} ...", file=sys.stderr, flush=True)

    def warning(self, code: str, place: str, message: str) -> None:
        """Says on standard error, whatever was asked to be quiet, what is doubtful about a result."""
        self.event("warning", code=code, place=place, message=message)
        if self.events is None:
            print(f"WARNING: {place}: {message}", file=sys.stderr)

    def failed(self, sentence: str, status: int) -> None:
        """Says how a command ended that did not end well."""
        self.ended = True
        self.event("failed", status=status, message=sentence)
        if self.events is not sys.stderr:
            from pioxide.cli import show

            print(f"pioxide: {show.printable(sentence)}", file=sys.stderr)

    @contextmanager
    def active(self, command: str) -> Iterator[None]:
        """Sends text, log lines and events where they should go while the body runs."""
        global current
        before, current = current, self
        handler = _EventHandler(self) if self.events is not None else logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        log = logging.getLogger("pioxide")
        level, propagate = log.level, log.propagate
        if self.verbosity or self.events is not None:
            # Else a command may say itself how its log lines look, and Python shows warnings as they are.
            log.addHandler(handler)
            log.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(self.verbosity, 2)])
            log.propagate = False
        self.event("start", command=command)
        try:
            if self.text:
                yield
            else:
                with redirect_stdout(io.StringIO()):
                    yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)
            log.propagate = propagate
            current = before


class _EventHandler(logging.Handler):
    """Log lines as events."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self.output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one."""
        kind = "warning" if record.levelno >= logging.WARNING else "log"
        self.output.event(kind, message=record.getMessage(), source=record.name)


current = Output()


def split(arguments: Sequence[str], *, own_json: bool) -> tuple[Output, list[str]]:
    """Returns the output that the common options ask for, and the other arguments.

    Args:
        arguments: After the command's name.
        own_json: Whether the command has a `--json` of its own, which is then left to it.
    """
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    found = [FLAGS[one] for one in arguments[:end] if one in FLAGS]
    rest = [one for i, one in enumerate(arguments) if i >= end or one not in FLAGS]
    as_json = not own_json and "--json" in rest
    if as_json:
        rest.remove("--json")
    quiet = "quiet" in found
    document = own_json and "--json" in rest
    events = sys.stdout if as_json else sys.stderr if "events" in found else None
    verbosity = found.count("v") + 2 * found.count("vv")
    helped = "--help" in rest or "-h" in rest
    text = helped or (not as_json and (document or not quiet))
    return Output(quiet=quiet, verbosity=verbosity, events=events, text=text), rest
