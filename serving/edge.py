"""What stands around every replica's HTTP server, before Ray Serve's own handling of a request.

Ray Serve reads headers before it calls the application, and fails with a 500 of its own on some that are not text;
those are taken out here, and so is a request id that is not fit to stand in a log: Serve then makes one. Connections
are `Connection`s, which take searches past Serve's handling, and new ones are taken in many at a time.

In use where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names `serving.edge.middlewares`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.middleware import Middleware

from serving.connection import Connection, Counts
from serving.request import FIT_ID

if TYPE_CHECKING:
    from socket import socket

    from serving.request import Receive, Scope, Send

ACCEPTORS = 32
BACKLOG = 16_384  # connections that wait to be accepted; the kernel allows net.core.somaxconn of them (4096)

_startup = uvicorn.Server.startup
_SERVES_OWN = {b"x-request-timeout-seconds", b"x-request-disconnect-disabled"}  # not for callers to set


class Edge:
    """ASGI middleware: harmless headers only."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Mend the headers and pass everything on."""
        if scope["type"] == "http":
            scope["headers"] = [
                (name, value)
                for name, value in scope["headers"]
                if value.isascii()
                and name.isascii()
                and name not in _SERVES_OWN
                and (name != b"x-request-id" or FIT_ID.fullmatch(value))
            ]
        await self._app(scope, receive, send)


async def _listen(server: uvicorn.Server, sockets: list[socket] | None = None) -> None:
    """In place of uvicorn's `startup`: `Connection`s, taken from ACCEPTORS duplicates of each socket.

    libuv accepts one connection a turn of the event loop for each socket that listens. Under load a turn takes
    milliseconds, so of some hundred connections that HAProxy opens at once, the last would wait for seconds.
    """
    server.config.backlog = BACKLOG
    server.config.http_protocol_class = Connection
    Connection.counts = Counts.of(server.config.loaded_app)
    await _startup(server, sockets and [sock.dup() for sock in sockets for _ in range(ACCEPTORS)])


def middlewares() -> list[Middleware]:
    """The import path that Ray Serve calls, before it starts a server."""
    uvicorn.Server.startup = _listen  # type: ignore[method-assign, assignment]
    return [Middleware(Edge)]
