"""Which hosts are this machine: who listens there is asked for no key."""

from __future__ import annotations

import ipaddress


def is_this_machine(host: str) -> bool:
    """Returns whether only this machine reaches a host: a name, or an address without brackets."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
