"""What stands around every replica's HTTP server, before Ray Serve's own handling of a request.

Ray Serve watches each request for a caller who hangs up, with two asyncio tasks a request. A search takes less
time than that, so it is switched off for searches through the header that Serve has for it. In use where
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names `serving.edge.middlewares`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware

if TYPE_CHECKING:
    from serving.application import Receive, Scope, Send

_UNWATCHED = (b"x-request-disconnect-disabled", b"?1")


class Unwatched:
    """ASGI middleware: searches are answered whether or not the caller still listens."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Mark a search and pass everything on."""
        if scope.get("path") == "/v1/search":
            scope["headers"] = [*scope["headers"], _UNWATCHED]
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """The import path that Ray Serve calls."""
    return [Middleware(Unwatched)]
