"""What stands around every replica's HTTP server, before Ray Serve's own handling of a request.

Ray Serve reads headers before it calls the application, and fails with a 500 of its own on some that are not text;
those are taken out here, and so is a request id that is not fit to stand in a log: Serve then makes one. It also
watches each request for a caller who hangs up, with two asyncio tasks a request. A search takes less time than that,
so it is switched off for searches through the header that Serve has for it. In use where
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names `serving.edge.middlewares`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware

from serving.request import FIT_ID

if TYPE_CHECKING:
    from serving.request import Receive, Scope, Send

_UNWATCHED = (b"x-request-disconnect-disabled", b"?1")
_SERVES_OWN = {b"x-request-timeout-seconds", b"x-request-disconnect-disabled"}  # not for callers to set


class Edge:
    """ASGI middleware: harmless headers only, and searches are answered whether or not the caller still listens."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Mend the headers and pass everything on."""
        if scope["type"] == "http":
            headers = [
                (name, value)
                for name, value in scope["headers"]
                if value.isascii()
                and name.isascii()
                and name not in _SERVES_OWN
                and (name != b"x-request-id" or FIT_ID.fullmatch(value))
            ]
            if scope["path"].startswith("/v1/search"):
                headers.append(_UNWATCHED)
            scope["headers"] = headers
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """The import path that Ray Serve calls."""
    return [Middleware(Edge)]
