"""Worker processes that end with the process that started them, however that ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass

# Seconds between two looks at whether the parent is still there.
LOOK_EVERY = 0.5


@dataclass(frozen=True)
class DieWithParent:
    """What a worker does first: it begins to look whether its parent is still there, and ends when it is not.

    Linux could send a signal instead, but sends it when the *thread* that started the worker ends, and grain
    starts workers from threads of its own.

    Attributes:
        parent: Its process.
    """

    parent: int

    def __call__(self, index: int, count: int) -> None:
        """Runs in the worker, with its number and how many there are, as grain passes them."""
        # A Ctrl-C is the parent's to handle: it ends its workers when it has saved.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._look, name="pioxide-parent-watch", daemon=True).start()

    def _look(self) -> None:
        while os.getppid() == self.parent:
            time.sleep(LOOK_EVERY)
        os._exit(1)
