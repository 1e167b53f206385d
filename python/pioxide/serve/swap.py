"""Another checkpoint in the place of the one that answers: read, compared and compiled while robots ask."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pioxide.errors import PioxideError

if TYPE_CHECKING:
    from pioxide.policy import Policy
    from pioxide.serve.server import Server

log = logging.getLogger("pioxide.serve")


class Swapper:
    """Reads a server's checkpoint again when it is asked to, in a thread beside the one that answers.

    The old policy answers until the new one is compiled, so both are in memory for a while. A checkpoint that
    can't be read, or that expects or gives something else, is refused, and the old policy goes on.
    """

    def __init__(self, server: Server, read: Callable[[], Policy], warm_up: Callable[[Policy], None]) -> None:
        """Reads nothing yet.

        Args:
            server: Whose policy is replaced.
            read: Reads the checkpoint as it is now.
            warm_up: Compiles it for the batches that will come.
        """
        self._server, self._read, self._warm_up = server, read, warm_up
        self._thread: threading.Thread | None = None
        self._again = False

    @property
    def busy(self) -> bool:
        """Returns whether a checkpoint is being read or compiled."""
        return self._thread is not None

    def ask(self) -> None:
        """Begins a swap, from the server's event loop; one that is under way is followed by another."""
        self._again = True
        if self._thread is None:
            self._begin(asyncio.get_running_loop())

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._again = False
        # A thread that ends with its process: no server waits for a compiler in order to stop.
        self._thread = threading.Thread(target=self._work, args=(loop,), name="pioxide-swap", daemon=True)
        self._thread.start()
        log.info("swap begins")

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        made: Policy | Exception
        try:
            made = self._read()
            self._server.check(made)  # before minutes go into compiling
            self._warm_up(made)
        except Exception as error:
            made = error
        try:
            loop.call_soon_threadsafe(self._end, made, loop)
        except RuntimeError:  # the server has stopped meanwhile
            return

    def _end(self, made: Policy | Exception, loop: asyncio.AbstractEventLoop) -> None:
        self._thread = None
        try:
            if isinstance(made, Exception):
                raise made
            self._server.swap(made)
        except Exception as error:
            self._server.metrics.swaps.labels("refused").inc()
            # What is no error of ours is a fault that somebody has to look into.
            trace = None if isinstance(error, PioxideError) else error
            log.error("swap refused, the old policy goes on reason=%s", error, exc_info=trace)
        if self._again:
            self._begin(loop)
