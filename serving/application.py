"""The ASGI application: which path does what, who may, and that every refusal is a problem+json.

It is a table of endpoints and a dictionary look-up, no framework: on the hot path a framework's routing costs
more than the search.
The OpenAPI document is made from the same table and models that answer the requests.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.routing import Match

from serving.gate import ADMIN, Gate
from serving.headers import ANSWER
from serving.logs import RequestLog
from serving.problems import CONTENT_TYPE, Refusal
from serving.request import Readers, Reply, Request
from twinspire.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import BaseModel

    from serving.gate import Access
    from serving.request import Receive, Scope, Send

    Handler = Callable[["Request"], Awaitable["Reply"]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path, a method, what it does, and the models of what it takes and gives. `access` says who may."""

    method: str
    path: str
    handle: Handler
    summary: str
    access: Access = "search"
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    content_type: str = "application/json"
    parameters: tuple[dict[str, Any], ...] = ()
    refusals: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.path.startswith(ADMIN) and self.access != "admin":
            raise ValueError(f"{self.path}: what stands under {ADMIN} is for admin keys")

    @property
    def methods(self) -> tuple[str, ...]:
        """As Starlette's routes name it; Ray Serve reads it to label its metrics."""
        return (self.method,)

    def matches(self, scope: Scope) -> tuple[Match, dict[str, Any]]:
        """As Starlette's routes do; Ray Serve calls it to label its metrics with the path."""
        return (Match.FULL if scope["path"] == self.path else Match.NONE), {}


class Application:
    """Serves `endpoints` over ASGI to those whom `gate` admits; counts what it refuses (by status) and what fails.

    `names_requests` says whether replies get an x-request-id header here; Ray Serve adds one itself.
    """

    def __init__(
        self,
        endpoints: list[Endpoint],
        *,
        gate: Gate | None = None,
        log: RequestLog | None = None,
        readers: Readers | None = None,
        names_requests: bool = True,
    ) -> None:
        self.routes = endpoints
        self.gate = gate or Gate()
        self.refusals: Counter[int] = Counter()
        self.failed = 0
        self._log = log or RequestLog()
        self._readers = readers or Readers()
        self._names_requests = names_requests
        self._table: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            self._table.setdefault(endpoint.path, {})[endpoint.method] = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "http":
            await self._http(scope, receive, send, self._names_requests)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": "no websockets here"})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request that comes past Ray Serve."""
        await self._http(scope, receive, send, names_request=True)

    def shed(self, request_id: str, path: str, waited_s: float) -> None:
        """Count and log a search that who stands in front of this application refuses with 503."""
        self.refusals[503] += 1
        took_ms = round(waited_s * 1000, 3)
        self._log.write(request_id=request_id, method="POST", path=path[:200], status=503, took_ms=took_ms)

    async def _http(self, scope: Scope, receive: Receive, send: Send, names_request: bool) -> None:
        started = time.perf_counter()
        request = Request(scope, receive, self._readers)
        problem: Refusal | None = None
        try:
            endpoint = self._find(scope, request)
            request.caller = self.gate.admit(endpoint.access, request)
            reply = await endpoint.handle(request)
        except Exception as error:
            problem = self._problem(error, scope)
            reply = await _refuse(problem, request)
        # The list is made anew each time: what wraps this application may add to it.
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            *reply.headers,
        ]
        if names_request:
            headers.append((b"x-request-id", request.id.encode()))
        took = time.perf_counter() - started
        if problem is not None or took > self._log.slow_s:
            self._note(scope, request, reply, problem, took)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else reply.body
        await send({"type": "http.response.body", "body": body})

    def _find(self, scope: Scope, request: Request) -> Endpoint:
        path, method = scope["path"], scope["method"]
        methods = self._table.get(path, {})
        endpoint = methods.get("GET" if method == "HEAD" else method)
        if endpoint is not None:
            return endpoint
        if path.startswith(ADMIN):  # who may not administer does not learn what there is
            request.caller = self.gate.admit("admin", request)
        if not methods:
            raise Refusal(404, "there is nothing at this path; /docs lists what there is", "path")
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
        raise Refusal(405, f"this path takes {allowed}", "method", headers=[(b"allow", allowed.encode())])

    def _problem(self, error: Exception, scope: Scope) -> Refusal:
        """What the caller is told of an error; counted."""
        if isinstance(error, RequestError):
            error = Refusal(422, str(error), error.field)
        if isinstance(error, Refusal):
            self.refusals[error.status] += 1
            return error
        self.failed += 1
        logger.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
        return Refusal(500, "a defect of the server; its log has the details")

    def _note(self, scope: Scope, request: Request, reply: Reply, problem: Refusal | None, took: float) -> None:
        self._log.write(
            request_id=request.id,
            method=scope["method"],
            path=scope["path"][:200].encode(errors="replace").decode(),
            status=reply.status,
            key=request.caller,
            took_ms=round(took * 1000, 3),
            arm=reply.arm,
            field=problem and problem.field and problem.field[:200],
        )


async def _refuse(problem: Refusal, request: Request) -> Reply:
    close = () if await request.drop_rest() else ((b"connection", b"close"),)
    return Reply(problem.body(), problem.status, CONTENT_TYPE, (*ANSWER, *problem.headers, *close))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
