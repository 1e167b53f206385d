"""A server as a process: it listens until a signal ends it, and reads its checkpoint again at another."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from pioxide.serve.server import Server


def run(
    server: Server, ready: Callable[[], None] | None = None, on_hangup: Callable[[], None] | None = None
) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        server: Not yet started.
        ready: Called once it listens.
        on_hangup: Called at each SIGHUP; without it one ends the process, as it ends any. A terminal that
            goes away sends one too: that ends the server, unless it was started under nohup.
    """

    async def main() -> None:
        await server.start()
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, asked.set)
        if on_hangup is not None:
            stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            loop.add_signal_handler(signal.SIGHUP, _Hangup(on_hangup, (lambda: None) if stays else asked.set))
        if ready is not None:
            ready()
        await asked.wait()
        await server.stop()

    asyncio.run(main())


class _Hangup:
    """A SIGHUP: somebody's wish, or the end of the terminal that the process was started from."""

    def __init__(self, wished: Callable[[], None], ended: Callable[[], None]) -> None:
        self._wished, self._ended, self._terminal = wished, ended, _has_terminal()

    def __call__(self) -> None:
        had, self._terminal = self._terminal, _has_terminal()
        (self._ended if had and not self._terminal else self._wished)()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
