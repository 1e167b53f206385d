"""Several hosts that train together: each runs the same command, and finds the others before it computes."""

from __future__ import annotations

import jax

from pioxide.errors import InputError


def join_hosts(coordinator: str | None, hosts: int | None, host: int | None) -> None:
    """Waits for the other hosts. Does nothing where nothing is said; needs to come before any computation.

    Args:
        coordinator: HOST:PORT of host 0, which all reach. None takes it from what started the processes:
            SLURM, Open MPI or Kubernetes, as JAX finds it.
        hosts: How many processes there are; None likewise.
        host: Which of them this is, from 0; None likewise.

    Raises:
        InputError: A number that can't be, or something is not said and nothing tells it.
    """
    if coordinator is None and hosts is None and host is None:
        return
    if hosts is not None and hosts < 1:
        raise InputError(f"hosts: expected 1 or more, got {hosts}")
    if host is not None and not 0 <= host < (hosts or host + 1):
        raise InputError(f"host: expected 0 to {(hosts or 1) - 1}, got {host}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise InputError(f"coordinator: expected HOST:PORT, got {coordinator!r}")
    try:
        jax.distributed.initialize(coordinator, hosts, host)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the hosts did not find one another ({error}); say --coordinator HOST:PORT, --hosts N and "
            "--host I on each, or start them by SLURM or Open MPI"
        ) from error
