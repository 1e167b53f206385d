"""What a peer may take of the server: connections, time for a message, memory for what it does not read.

Sits between the sockets and `Server`, which sees whole messages only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.protocol import Event, State

# Bytes that wait for a peer that does not read. Answers are tens of kilobytes, and few of them wait at once;
# a flood of pings makes pongs that nothing else counts.
_UNREAD = 8 << 20
# Beyond the robots: those who knock, browsers, health checks.
_SPARE = 64


@dataclass
class Bounds:
    """What all connections of one server share.

    Attributes:
        connections: Robots that may be connected.
        message_timeout: Seconds that a message may take from its first bytes to its last.
        bitten: Told which bound ended a connection, and whose it was.
        open: Connections that are open, whatever they do.
    """

    connections: int
    message_timeout: float
    bitten: Callable[[str, ServerConnection], None]
    open: set[ServerConnection] = field(default_factory=set[ServerConnection])


class BoundedConnection(ServerConnection):
    """A connection that ends when its peer sends too slowly, reads too little, or is one too many."""

    bounds: Bounds

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Prepares as websockets does."""
        super().__init__(*arguments, **named)
        self._late: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._events = 0
        self._begun = False  # a message of several frames is under way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes it, where there is room."""
        super().connection_made(transport)
        if len(self.bounds.open) >= self.bounds.connections + _SPARE:
            self.bounds.bitten("connections", self)
            self.transport.abort()
        self.bounds.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets it."""
        self.bounds.open.discard(self)
        self._on_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Sees to it that a message that has begun comes to its end."""
        self._events = 0
        super().data_received(data)
        if self.transport.get_write_buffer_size() > _UNREAD:
            self.bounds.bitten("slow_reader", self)
            self.transport.abort()
        elif self.state is State.OPEN and (self._begun or not self._events):
            # Bytes that completed nothing are a part of something.
            if self._late is None:
                self._late = self.loop.call_later(self.bounds.message_timeout, self._too_late)
        else:
            self._on_time()

    def process_event(self, event: Event) -> None:
        """Notes what is whole."""
        self._events += 1
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self._begun = not event.fin
        super().process_event(event)

    def _on_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self.bounds.bitten("slow_sender", self)
        reason = f"a message took longer than {self.bounds.message_timeout:g} s"
        self._ending = self.loop.create_task(self.close(CloseCode.POLICY_VIOLATION, reason))


def bounded(bounds: Bounds) -> type[ServerConnection]:
    """Returns the kind of connection that keeps these bounds, for `websockets.asyncio.server.serve`."""
    return type("BoundedConnection", (BoundedConnection,), {"bounds": bounds})
