"""Ends a job at a chosen call to the disk: with the power gone, or with a full disk."""

import errno
import os
from collections.abc import Callable

import pytest

from pioxide import files


class PowerCut(BaseException):
    """The process is gone at this point: nothing after it runs, no cleaning up either."""


class Script:
    """Counts what touches the disk and lets one such call fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int, failure: Callable[[], BaseException]):
        self.calls, self.fail_at, self.failure, self.dead = 0, fail_at, failure, False
        real_write = files.HashingFile.write
        monkeypatch.setattr(files.HashingFile, "write", self._counted(real_write))
        for name in ("fsync", "link", "replace"):
            monkeypatch.setattr(files.os, name, self._counted(getattr(os, name)))
        real_remove = files._remove
        # Whoever has no power removes nothing.
        monkeypatch.setattr(files, "_remove", lambda path: None if self.dead else real_remove(path))

    def _counted(self, real: Callable) -> Callable:
        def call(*args, **kwargs):
            if self.dead:
                raise PowerCut
            self.calls += 1
            if self.calls == self.fail_at:
                failure = self.failure()
                self.dead = isinstance(failure, PowerCut)
                raise failure
            return real(*args, **kwargs)

        return call


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")
