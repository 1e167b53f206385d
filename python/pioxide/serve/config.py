"""What a person may choose of a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pioxide.errors import InputError
from pioxide.serve.batcher import BatchConfig
from pioxide.serve.hosts import is_this_machine
from pioxide.serve.keys import Keys
from pioxide.serve.lerobot.offer import ZenohConfig
from pioxide.serve.wire import WireLimits


@dataclass(frozen=True)
class ServeConfig:
    """Where a server listens, whom it lets in, and what it bounds.

    Attributes:
        host: The address to listen on; only this machine by default.
        port: The port; 0 lets the system choose.
        key_file: Keys, one a line; `$PIOXIDE_SERVE_KEYS` holds others. A client sends one as
            `Authorization: Api-Key KEY`.
        without_key: Let everybody in who reaches an address beyond this machine.
        tls_certificate: A PEM file; with it the server speaks wss.
        tls_key: The certificate's private key, where it is in a file of its own.
        batch: How robots share the policy.
        limits: What one message may hold.
        connections: Robots that may be connected.
        idle: Seconds without a request after which a connection is closed.
        message_timeout: Seconds that a message, or a knock at the door, may take from its first bytes to its
            last.
        send_timeout: Seconds after which a client that does not read is let go.
        ping: Seconds between pings, and for an answer to one: a peer that vanished without a word, as by a
            pulled cable, is let go after twice as long; None never asks.
        record: A directory for a log of all requests and answers; see `pioxide replay`.
        record_bytes: Bytes after which that log takes no more.
        rerun: What robots see, are answered and play, for Rerun's viewer: FILE.rrd, or a viewer's address as
            rerun+http://127.0.0.1:9876/proxy.
        zenoh: A door for LeRobot's clients beside this one; None for none.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key_file: Path | None = None
    without_key: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    batch: BatchConfig = field(default_factory=BatchConfig)
    limits: WireLimits = field(default_factory=WireLimits)
    connections: int = 64
    idle: float = 600.0
    message_timeout: float = 10.0
    send_timeout: float = 10.0
    ping: float | None = 20.0
    record: Path | None = None
    record_bytes: int = 50_000_000_000
    rerun: str | None = None
    zenoh: ZenohConfig | None = None

    def __post_init__(self) -> None:
        """Refuses what can't work.

        Raises:
            InputError: A number is out of its range.
        """
        if not 0 <= self.port < 1 << 16 or self.connections < 1 or not self.idle > 0:
            raise InputError(
                f"expected a port of 0 to 65535, one connection or more, and an idle time above 0, got port "
                f"{self.port}, connections {self.connections}, idle {self.idle}"
            )
        times = {
            "message_timeout": self.message_timeout,
            "send_timeout": self.send_timeout,
            "ping": self.ping,
        }
        for name, seconds in times.items():
            if seconds is not None and not seconds > 0:
                raise InputError(f"{name}: expected seconds above 0, got {seconds}")
        door = self.zenoh
        if door is not None and not (door.is_local or door.file is not None or self.without_key):
            raise InputError(
                f"zenoh: {door.listen} is reached from other machines, and LeRobot's protocol knows no keys: "
                "give Zenoh a configuration with TLS (--zenoh-file), or say without_key (--without-key)"
            )
        if self.tls_key is not None and self.tls_certificate is None:
            raise InputError("tls_key: it belongs to a certificate; pass tls_certificate too")

    @property
    def is_local(self) -> bool:
        """Returns whether only this machine reaches the server."""
        return is_this_machine(self.host)

    def keys(self) -> Keys:
        """Reads the keys.

        Raises:
            InputError: There is none, other machines reach the server, and nobody said that this is meant.
        """
        keys = Keys.load(self.key_file)
        if not keys and not self.is_local and not self.without_key:
            raise InputError(
                f"{self.host} is reached from other machines, and there is no key: give one a line in "
                "key_file (--key-file) or in $PIOXIDE_SERVE_KEYS, or say without_key (--without-key)"
            )
        return keys
