"""How workers get the sources: their arrays lie in memory that all workers map, however many there are.

The memory has no name in any file system, so nothing is left behind when a process is killed. Where there is
no such memory (it is Linux's), each worker gets a copy.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Any

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from pioxide.data.loader.assemble import Assembler

# Arrays begin at multiples of it, so that they are aligned for any number.
ALIGN = 64


class Shared:
    """An assembler that goes to workers without a copy of its arrays. Close it when none starts any more."""

    def __init__(self, assembler: Assembler) -> None:
        """Starts; nothing is shared before it is first pickled."""
        self.assembler = assembler
        self._handle: int | None = None
        self._packed: tuple[bytes, tuple[tuple[int, int], ...]] | None = None

    def __call__(self, numbers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """See `Assembler`."""
        return self.assembler(numbers)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Tells a worker where the arrays are."""
        if not hasattr(os, "memfd_create") or not os.path.isdir("/proc/self/fd"):
            return Shared, (self.assembler,)
        if self._packed is None or self._handle is None:
            self._pack()
        return _attached, (os.getpid(), self._handle, self._packed)

    def close(self) -> None:
        """Lets the memory go; workers that have it keep it."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = self._packed = None

    def _pack(self) -> None:
        buffers: list[Any] = []
        content = cloudpickle.dumps(self.assembler, protocol=5, buffer_callback=buffers.append)
        handle = os.memfd_create("pioxide-loader", os.MFD_CLOEXEC)
        places: list[tuple[int, int]] = []
        end = 0
        for buffer in buffers:
            raw = buffer.raw()
            start = -(-end // ALIGN) * ALIGN
            _write(handle, raw, start)
            end = start + raw.nbytes
            places.append((start, end))
            raw.release()
        self._handle, self._packed = handle, (content, tuple(places))


def _write(handle: int, content: memoryview, start: int) -> None:
    done = 0
    while done < content.nbytes:  # one call writes 2 GiB at most
        done += os.pwrite(handle, content[done : done + (1 << 30)], start + done)


def _attached(process: int, handle: int, packed: tuple[bytes, Sequence[tuple[int, int]]]) -> Shared:
    """What a worker makes of it: an assembler whose arrays are the parent's, read only."""
    content, places = packed
    with open(f"/proc/{process}/fd/{handle}", "rb") as file:
        size = os.fstat(file.fileno()).st_size
        shared = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    return Shared(cloudpickle.loads(content, buffers=[shared[start:end] for start, end in places]))
