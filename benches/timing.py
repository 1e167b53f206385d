"""Timing for the benches: contenders take turns on the same work, and the median of the rounds counts."""

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from statistics import median

Run = Callable[[int], object]


def one_thread() -> None:
    """Holds this process to one core and libraries to one thread. To be called before NumPy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def interleaved(contenders: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds a round of each contender, counted in processor time.

    On a quiet machine that is the time on the clock; on a busy one it leaves out what the process waited.

    In every round each contender runs once, so that a busy neighbour disturbs all alike. A contender gets the
    number of the round, to take other inputs each time: some peers remember what they have seen.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    with no_garbage_collection():
        for number in range(rounds):
            for shift in range(len(names)):
                name = names[(number + shift) % len(names)]
                start = time.process_time()
                contenders[name](number)
                taken[name].append(time.process_time() - start)
    return {name: median(times) for name, times in taken.items()}


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    flags = ""
    try:
        with open("/proc/cpuinfo") as file:
            text = file.read()
        cpu = next(
            (line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")),
            cpu,
        )
        family = next(
            (line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("cpu family")), ""
        )
        flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
        cpu += f" (family {family})" if family else ""
    except OSError:
        pass
    vectors = next(
        (name for name in ("avx512f", "avx2", "sse2") if f" {name} " in f"{flags} "), "unknown vectors"
    )
    packages = (
        "numpy",
        "scipy",
        "tokenizers",
        "transformers",
        "sentencepiece",
        "fastokens",
        "pyarrow",
        "pioxide",
    )
    return {
        "cpu": f"{cpu}, {vectors}",
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
    }


def load() -> str:
    """The system's load over the last minute: a figure taken on a busy machine says little."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
