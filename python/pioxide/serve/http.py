"""What a server answers to plain HTTP: health, metrics, the contract, the page that people look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from pioxide.serve.describe import document
from pioxide.serve.hosts import is_this_machine
from pioxide.serve.status import page

if TYPE_CHECKING:
    from pioxide.policy import Policy
    from pioxide.serve.config import ServeConfig
    from pioxide.serve.keys import Keys
    from pioxide.serve.metrics import Metrics

# The page runs its own script and asks its own server, and nothing else.
_PAGE_POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; frame-ancestors 'none'"
}


class Site(Protocol):
    """What a server says of itself; see `Server`, which is one."""

    config: ServeConfig
    keys: Keys
    metrics: Metrics
    is_closing: bool

    @property
    def policy(self) -> Policy:
        """Returns what answers now."""
        ...

    @property
    def has_room(self) -> bool:
        """Returns whether one more robot is taken."""
        ...

    def status(self) -> dict[str, Any]:
        """Returns what the page shows, as JSON values."""
        ...


def respond(server: Site, request: Request) -> Response | None:
    """Answers plain HTTP, and says who may open a WebSocket; None lets the handshake go on."""
    path = request.path.partition("?")[0]
    if server.config.is_local and not _names_this_machine(request.headers.get("Host", "")):
        # A page elsewhere whose name was made to lead here.
        return _response(HTTPStatus.FORBIDDEN, b"this server is for this machine\n")
    if path == "/healthz":
        return _response(HTTPStatus.OK, b"OK\n")
    if path == "/readyz":
        ready = not server.is_closing
        return _response(
            HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE,
            b"ready\n" if ready else b"closing\n",
        )
    if not server.keys.admit(request.headers.get("Authorization")):
        return _response(
            HTTPStatus.UNAUTHORIZED,
            b"send Authorization: Api-Key KEY, or in a browser the key as password\n",
            more={"WWW-Authenticate": 'Basic realm="pioxide"'},
        )
    if path == "/metrics":
        return _response(HTTPStatus.OK, server.metrics.text(), "text/plain; version=0.0.4")
    if path == "/v1/metadata":
        said = json.dumps(document(server.policy, server.config.limits), ensure_ascii=False, indent=2)
        return _response(HTTPStatus.OK, said.encode() + b"\n", "application/json")
    if path == "/v1/status":
        return _response(HTTPStatus.OK, json.dumps(server.status()).encode(), "application/json")
    if "upgrade" not in request.headers.get("Connection", "").lower():
        if path == "/":
            return _response(HTTPStatus.OK, page(), "text/html; charset=utf-8", more=_PAGE_POLICY)
        return _response(HTTPStatus.NOT_FOUND, b"there is /, /healthz, /readyz, /metrics, /v1/metadata\n")
    if not server.has_room:
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, b"no more robots are taken\n")
    return None


def _response(
    status: HTTPStatus,
    body: bytes,
    kind: str = "text/plain; charset=utf-8",
    more: Mapping[str, str] | None = None,
) -> Response:
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            **(more or {}),
        }
    )
    return Response(status.value, status.phrase, headers, body)


def _names_this_machine(host: str) -> bool:
    """Returns whether a request's Host is a name of this machine alone."""
    name = urlsplit(f"//{host}").hostname or ""
    return is_this_machine(name)
