"""A cluster of Ray: connected to or started, asked for results, told to stop; for whatever runs on Ray."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pioxide.data import cores
from pioxide.errors import InputError, OutputError, PioxideError

log = logging.getLogger(__name__)

# How often a task is begun again because its worker or its node died.
RETRIES = 20
# Seconds between looks at what is finished; until a warning that nothing was; for tasks to stop after Ctrl-C.
LOOK_EVERY, QUIET, STOPPING = 1.0, 60.0, 10.0


def imported() -> Any:
    """Returns the module `ray`.

    Raises:
        InputError: It is not installed.
    """
    # Ray reports the use of it to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise InputError(f'engine ray: pip install "pioxide[ray]" ({error})') from None


@contextmanager
def connected(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    """Connects to a cluster, or starts one, and lets go of it; Ctrl-C and SIGTERM stay who heard them.

    Raises:
        InputError: There is no such cluster.
    """
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"address": address or "local"}
    if address is None:
        options |= {"num_cpus": workers or cores(), "include_dashboard": False}
    main = threading.current_thread() is threading.main_thread()
    heard = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"engine ray: can't reach {address or 'a local cluster'} ({error})") from error
        if main:
            for number, handler in heard.items():
                signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


def task(ray: Any, function: Any) -> Any:
    """Returns a function as one that a core of any node runs, and again where it died on the way."""
    return ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(function)


def result(ray: Any, ref: Any, what: str) -> Any:
    """Returns what came of a task; a `PioxideError` among it is raised.

    Raises:
        OutputError: Its worker died again and again; says that of `what`.
    """
    try:
        found = ray.get(ref)
    except ray.exceptions.RayTaskError as error:  # a fault of ours, with its own traceback
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise OutputError(f"{what}: Ray gave it up ({str(error).strip().splitlines()[0]})") from error
    if isinstance(found, PioxideError):
        raise found
    return found


def warn(ray: Any, running: int, what: str) -> None:
    """Says that nothing was finished for a while."""
    there, free = (found().get("CPU", 0) for found in (ray.cluster_resources, ray.available_resources))
    log.warning(
        "no %s was finished for %d seconds; %d are asked for, %d of the cluster's %d cores are free",
        what, QUIET, running, free, there,
    )  # fmt: skip


def stop(ray: Any, refs: Sequence[Any]) -> list[Any]:
    """Lets workers drop what they are at; returns what came of those that had finished."""
    for ref in refs:
        ray.cancel(ref, force=False)
    ready, stuck = ray.wait(refs, num_returns=len(refs), timeout=STOPPING) if refs else ([], [])
    finished = []
    for ref in ready:
        with suppress(ray.exceptions.RayError):
            finished.append(ray.get(ref))
    for ref in stuck:
        ray.cancel(ref, force=True)
    return finished
