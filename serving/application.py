"""The ASGI application: which path does what, the limits, and that every refusal is a problem+json.

It is a table of endpoints and a dictionary look-up, no framework: on the hot path a framework's routing costs
more than the search.
The OpenAPI document is made from the same table and models that answer the requests.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.routing import Match

from serving.problems import CONTENT_TYPE, Refusal
from twinspire.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from pydantic import BaseModel

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Handler = Callable[["Request"], Awaitable["Reply"]]

MAX_BODY = 1 << 20  # bytes; the longest history allowed is a fraction of it
MAX_DROPPED = 1 << 24  # bytes of a refused request that are read all the same
JSON = b"application/json"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Reply:
    """What goes back."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Request:
    """One HTTP request, read as far as a handler asks."""

    __slots__ = ("_headers", "_receive", "_scope", "_unread")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._unread = True
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # of several of a name, the first

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name (lower case)."""
        return self._headers.get(name)

    @property
    def query_string(self) -> bytes:
        """What stands after the question mark."""
        return bytes(self._scope.get("query_string", b""))

    async def json_body(self) -> bytes:
        """The body of at most MAX_BODY bytes; refuses with 415 what is not JSON, with 413 what is larger."""
        kind = self.header(b"content-type")
        if kind not in (None, JSON) and kind.split(b";")[0].strip().lower() != JSON:
            raise Refusal(415, "send the body as content-type: application/json", "content-type")
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() != b"identity":
            raise Refusal(415, "send the body without content-encoding", "content-encoding")
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > MAX_BODY:
            raise _too_large()
        body = await self._read()
        if self._unread:
            parts = [body]
            size = len(body)
            while self._unread:
                parts.append(await self._read())
                size += len(parts[-1])
                if size > MAX_BODY:
                    raise _too_large()
            body = b"".join(parts)
        if len(body) > MAX_BODY:
            raise _too_large()
        return body

    async def drop_rest(self) -> bool:
        """Read what is left of the body, at most MAX_DROPPED bytes; True where nothing is left.

        A proxy closes the connection of a request that was answered before its end, and the caller's next request on it
        is lost.
        """
        dropped = 0
        while self._unread and dropped < MAX_DROPPED:
            dropped += len(await self._read())
        return not self._unread

    async def _read(self) -> bytes:
        message = await self._receive()
        self._unread = message.get("more_body", False)
        return message.get("body", b"")  # type: ignore[no-any-return]


def _too_large() -> Refusal:
    return Refusal(413, f"the body is larger than {MAX_BODY} bytes", "body")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path, a method, what it does, and the models of what it takes and gives."""

    method: str
    path: str
    handle: Handler
    summary: str
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    content_type: str = "application/json"
    parameters: tuple[dict[str, Any], ...] = ()
    refusals: tuple[int, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """As Starlette's routes name it; Ray Serve reads it to label its metrics."""
        return (self.method,)

    def matches(self, scope: Scope) -> tuple[Match, dict[str, Any]]:
        """As Starlette's routes do; Ray Serve calls it to label its metrics with the path."""
        return (Match.FULL if scope["path"] == self.path else Match.NONE), {}


class Application:
    """Serves `endpoints` over ASGI and counts what it refuses and what fails."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.routes = endpoints
        self.refused = self.failed = 0
        self._table: dict[str, dict[str, Handler]] = {}
        for endpoint in endpoints:
            self._table.setdefault(endpoint.path, {})[endpoint.method] = endpoint.handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": "no websockets here"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            reply = await self._find(scope)(request)
        except Refusal as refusal:
            self.refused += 1
            close = [] if await request.drop_rest() else [(b"connection", b"close")]
            reply = Reply(refusal.body(), refusal.status, CONTENT_TYPE, [*refusal.headers, *close])
        except RequestError as error:
            self.refused += 1
            reply = Reply(Refusal(422, str(error), error.field).body(), 422, CONTENT_TYPE)
        except Exception:
            self.failed += 1
            logger.exception("%s %s failed", scope["method"], scope["path"])
            defect = Refusal(500, "a defect of the server; its log has the details")
            reply = Reply(defect.body(), 500, CONTENT_TYPE)
        # The list is made anew each time: what wraps this application may add to it.
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else reply.body
        await send({"type": "http.response.body", "body": body})

    def _find(self, scope: Scope) -> Handler:
        methods = self._table.get(scope["path"])
        if methods is None:
            raise Refusal(404, "there is nothing at this path; /docs lists what there is", "path")
        method = scope["method"]
        handle = methods.get("GET" if method == "HEAD" else method)
        if handle is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise Refusal(405, f"this path takes {allowed}", "method", headers=[(b"allow", allowed.encode())])
        return handle


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
