"""Several hosts that train together: each runs the same command, and finds the others before it computes."""

from __future__ import annotations

import os
from typing import NamedTuple

import jax

from pioxide.errors import InputError


class Launcher(NamedTuple):
    """What starts a command many times, and the variables that tell each process of it.

    Attributes:
        name: What people call it.
        hosts: Variable of how many processes there are.
        host: Variable of which of them this is, from 0.
    """

    name: str
    hosts: str
    host: str


# Which JAX does not know: Open MPI since 5, MPICH and what comes of it.
LAUNCHERS = (
    Launcher("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    Launcher("MPICH", "PMI_SIZE", "PMI_RANK"),
)


def join_hosts(coordinator: str | None, hosts: int | None, host: int | None) -> None:
    """Waits for the other hosts. Does nothing where nothing is said; needs to come before any computation.

    Args:
        coordinator: HOST:PORT of host 0, which all reach. None takes it from what started the processes, as
            JAX finds it: SLURM and Kubernetes tell it, MPI does not.
        hosts: How many processes there are. None takes it from what started them.
        host: Which of them this is, from 0; None likewise.

    Raises:
        InputError: A number that can't be, or is not what started the processes says; or something is not
            said and nothing tells it.
    """
    if coordinator is None and hosts is None and host is None:
        return
    if hosts is not None and hosts < 1:
        raise InputError(f"hosts: expected 1 or more, got {hosts}")
    if host is not None and not 0 <= host < (hosts or host + 1):
        raise InputError(f"host: expected 0 to {(hosts or 1) - 1}, got {host}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise InputError(f"coordinator: expected HOST:PORT, got {coordinator!r}")
    if coordinator is not None:
        hosts, host = _as_launched(hosts, host)
    try:
        jax.distributed.initialize(coordinator, hosts, host)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the hosts did not find one another ({error}); say --coordinator HOST:PORT, --hosts N and "
            "--host I on each, or start them by SLURM, or by MPI with --coordinator HOST:PORT"
        ) from error


def _as_launched(hosts: int | None, host: int | None) -> tuple[int | None, int | None]:
    """Returns both numbers, from the launcher where they are not said.

    Raises:
        InputError: What is said is not what the launcher says.
    """
    for launcher in LAUNCHERS:
        told = os.environ.get(launcher.hosts, ""), os.environ.get(launcher.host, "")
        if not (told[0].isdecimal() and told[1].isdecimal()) or told[0] == "1":
            continue  # one process that was started alone is nobody's host yet
        for name, said, number in (("hosts", hosts, told[0]), ("host", host, told[1])):
            if said is not None and said != int(number):
                raise InputError(f"{name}: {launcher.name} says {number}, got {said}")
        return int(told[0]), int(told[1])
    return hosts, host
