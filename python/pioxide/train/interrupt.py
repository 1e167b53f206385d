"""Ctrl-C and SIGTERM while a state is on the devices: noted, and obeyed once it is saved.

An exception in the middle of an update would leave neither the old state, which is donated, nor the new one.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

CAUGHT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupt:
    """Notes a first signal; a second one is obeyed at once.

    Attributes:
        wanted: Whether one has come.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def wanted(self) -> bool:
        """Returns whether the run shall end."""
        return self.number is not None

    def obey(self) -> None:
        """Does what the signal would have done; where only another host got one, ends this one, too.

        Raises:
            KeyboardInterrupt: Unless somebody else handled it otherwise before.
        """
        if self.number is not None:
            self._pass_on(self.number, None)
        raise KeyboardInterrupt

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        else:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self._pass_on(number, frame)
        self.number = number

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
