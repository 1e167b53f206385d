"""Keeps two runs out of one token directory in an object store, which has no locks: leases that are renewed.

A lease is an object that was made where there was none. Its holder renews it while it runs, and removes it
at the end; one that is not renewed any more is dead, and the next run makes a lease of the next number. Of
several who do so at once the store lets one. Were a holder only slow, both would make the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from pioxide.errors import FormatError, OutputError
from pioxide.fetch.store import Store
from pioxide.files import parse_json

log = logging.getLogger(__name__)

LEASES = ".leases"
WHOLE = "all"
# Seconds between renewals, and without one until a holder on another machine is taken for dead.
RENEWED, PATIENCE = 10.0, 45.0


class _Lease(NamedTuple):
    name: str
    number: int

    @property
    def object(self) -> str:
        return f"{LEASES}/{self.name}-{self.number:05d}"


@contextmanager
def leased(store: Store, name: str, *, wait: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Holds the whole of a token directory (`WHOLE`), or a part of it beside other parts.

    Args:
        store: Where it is.
        name: `WHOLE`, or the part's.
        wait: Passes time while it is seen whether another holder is alive.

    Raises:
        OutputError: Another run holds it, or the store does not keep two apart.
    """
    held = [lease for lease in _leases(store) if _excludes(name, lease.name)]
    _refuse_living(store, held, wait)
    number = max((lease.number for lease in held if lease.name == name), default=0) + 1
    mine = _Lease(name, number)
    if not store.create(mine.object, _said(0)):
        raise OutputError(f"another run is writing to {store.address}; wait for it, or stop it")
    try:
        if store.create(mine.object, _said(0)):
            raise OutputError(
                f"{store.address}: this store writes over an object that should be made only where there is "
                "none, so nothing would keep two runs apart; write to a directory here, and copy it there"
            )
        # Whoever began in the meantime sees this lease, or is seen here.
        new = [one for one in _leases(store) if _excludes(name, one.name) and one not in (mine, *held)]
        _refuse_living(store, new, wait)
        store.remove(lease.object for lease in held)
        with _renewed(store, mine):
            yield
    finally:
        with suppress(OutputError):
            store.remove([mine.object])


def _excludes(one: str, other: str) -> bool:
    return one == other or WHOLE in (one, other)


def _leases(store: Store) -> list[_Lease]:
    found = (re.fullmatch(rf"{re.escape(LEASES)}/(.+)-(\d+)", name) for name in store.sizes())
    return [_Lease(one[1], int(one[2])) for one in found if one]


def _refuse_living(store: Store, leases: list[_Lease], wait: Callable[[float], None]) -> None:
    """Raise if one of these is renewed; where its holder was on this machine, its process tells at once."""
    said = _read(store, leases)
    said = {lease: content for lease, content in said.items() if not _dead_here(content)}
    if not said:
        return
    for lease, content in said.items():
        if content.get("machine") == _machine() != "":
            raise _held(store, content)
        log.warning(
            "%s: %s began to write %s and did not end; looking for %d seconds whether it still does",
            store.address, content.get("owner"), lease.name, PATIENCE,
        )  # fmt: skip
    wait(PATIENCE)
    for lease, content in _read(store, list(said)).items():
        if content != said[lease]:
            raise _held(store, content)


def _held(store: Store, content: dict[str, Any]) -> OutputError:
    who = content.get("owner", "unknown")
    return OutputError(f"another run is writing to {store.address} ({who}); wait for it, or stop it")


def _read(store: Store, leases: list[_Lease]) -> dict[_Lease, dict[str, Any]]:
    found = store.read(lease.object for lease in leases)
    said: dict[_Lease, dict[str, Any]] = {}
    for lease in leases:
        if lease.object in found:
            with suppress(FormatError):
                content = parse_json(found[lease.object], lease.object)
                said[lease] = content if isinstance(content, dict) else {}
    return said


@contextmanager
def _renewed(store: Store, lease: _Lease) -> Iterator[None]:
    done = threading.Event()

    def renew() -> None:
        beat = 0
        while not done.wait(RENEWED):
            beat += 1
            try:
                store.write(lease.object, _said(beat))
            except OutputError as error:
                log.warning("%s; trying again", error)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _said(beat: int) -> bytes:
    owner = f"process {os.getpid()} on {platform.node()}"
    process = os.getpid()
    said = {"owner": owner, "machine": _machine(), "process": process, "began": _began(process), "beat": beat}
    return json.dumps(said).encode()


def _dead_here(content: dict[str, Any]) -> bool:
    """Whether a holder was a process of this machine that has ended; False where nobody knows."""
    here = content.get("machine") == _machine() != ""
    return here and content.get("began") != _began(content.get("process"))


def _began(process: object) -> str:
    """When a process of this machine began, in ticks since the machine did; "" where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _machine() -> str:
    """What tells this machine, since its start, and this container from others; "" where nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
