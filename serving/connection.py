"""The connections of a replica: searches go past Ray Serve to the application, and those that are too many nowhere.

Serve's own handling would take a quarter of the event loop's time. Of what it does, a search needs that it is counted:
by the requests at work Serve starts and ends replicas, and lets one end when none is left.

Under too much load, what is not answered has to be cheap, or nothing is left for answers: a refusal is one read and
one write. How long a search has waited is what the kernel knows: when it got what the connection was sent. Where the
event loop and not the search is the limit, requests wait there, unread.
"""

from __future__ import annotations

import logging
import re
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.headers import ANSWER
from serving.limits import overloaded
from serving.problems import CONTENT_TYPE
from serving.request import ARRIVED, FIT_ID

if TYPE_CHECKING:
    import asyncio

    from ray.serve._private.replica import Replica
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from serving.application import Application
    from serving.request import Receive, Scope, Send
    from serving.service import Service

SEARCHES = {"/v1/search", "/v1/search:batch"}

TICK_S = 0.01  # the kernel's clock goes by ticks of 1 to 10 milliseconds: what seems that old may be new

logger = logging.getLogger(__name__)

_SEARCH = b"POST /v1/search"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})\r\n", re.IGNORECASE)
_ID = re.compile(rb"\r\nx-request-id: *(%s)\r\n" % FIT_ID.pattern, re.IGNORECASE)
_PLAIN = re.compile(rb"POST [!-~]+ HTTP/1\.1\r\n")
_OWN_WISH = re.compile(rb"\r\nconnection:", re.IGNORECASE)  # how the connection goes on, closing it for one
_LAST_DATA = struct.Struct("=52xI")  # of Linux's tcp_info: tcpi_last_data_recv, milliseconds


class Counts:
    """What Ray Serve counts of the requests to its replica: those at work, and how long each took.

    Not its counts by HTTP status, which record each latency once more, in the event loop: our own metrics have them.
    """

    def __init__(self, replica: Replica) -> None:
        from ray.serve._private.common import RequestMetadata, RequestProtocol

        manager = replica._metrics_manager
        self._begun, self._ended = manager.inc_num_ongoing_requests, manager.dec_num_ongoing_requests
        self._took = manager.record_request_metrics
        self._metadata = RequestMetadata("", "", _request_protocol=RequestProtocol.HTTP, is_direct_ingress=True)

    @classmethod
    def of(cls, app: Any) -> Counts | None:
        """Of the replica that a stack of middlewares ends at.

        None where it ends at something else, at a replica whose requests belong to another event loop than its
        connections, or at a Serve that is built otherwise.
        """
        while not hasattr(app, "__self__"):
            app = getattr(app, "app", None) or getattr(app, "_app", None)
            if app is None:
                return None
        try:
            from ray.serve._private.replica import Replica

            replica = app.__self__
            if not isinstance(replica, Replica) or replica._user_callable_wrapper._run_user_code_in_separate_thread:
                return None
            return cls(replica)
        except (ImportError, AttributeError, TypeError):
            logger.exception("this Ray Serve is built otherwise; searches go through its own handling")
            return None

    def begin(self) -> None:
        """One more is at work."""
        self._begun(self._metadata)

    def end(self, path: str, took_s: float) -> None:
        """It is done."""
        self._ended(self._metadata)
        self._took(route=path, latency_ms=1000 * took_s, is_error=False)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, but for searches.

    `replica` is what the replica of this process answers with; None in a process that is none. `counts` are Serve's of
    it; without them, and under a route prefix, searches go through Serve as all else does.
    """

    replica: ClassVar[tuple[Application, Service] | None] = None
    counts: ClassVar[Counts | None] = None
    _between = True  # nothing of a request is read whose end is not
    _socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """There is a connection."""
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")  # made anew each time: 4 microseconds

    def data_received(self, data: bytes) -> None:
        """Refuse a search that has waited too long, or would; hand everything else on."""
        if self.replica is None or not data.startswith(_SEARCH) or not self._free:
            super().data_received(data)
            return
        app, service = self.replica
        waited = waited_s(self._socket)
        if service.full(waited) and (head := whole_head(data)):
            given = _ID.search(head)
            request_id = given[1] if given else uuid4().hex.encode()
            app.shed(request_id.decode(), head.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1"), waited)
            self.transport.write(_REFUSAL % request_id)
            self.on_response_complete()
            return
        arrived = time.perf_counter() - waited
        super().data_received(data)
        if self.scope is not None:
            self.scope[ARRIVED] = arrived  # type: ignore[literal-required]

    @property
    def _free(self) -> bool:
        """Whether what comes now is a request's beginning and is answered next, and the caller reads its answers."""
        return self._between and (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Let the application itself answer a search."""
        if self.replica is not None and self.counts is not None and cycle.scope["path"] in SEARCHES:
            app = partial(_counted, self.replica[0].answer, self.counts)
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        """The parser has seen a request's first byte."""
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The parser has seen its last."""
        self._between = True
        super().on_message_complete()


async def _counted(answer: Any, counts: Counts, scope: Scope, receive: Receive, send: Send) -> None:
    started = time.perf_counter()
    counts.begin()
    try:
        await answer(scope, receive, send)
    finally:
        counts.end(scope["path"], time.perf_counter() - started)


def waited_s(sock: socket.socket | None) -> float:
    """Seconds since the kernel got the last of what a connection was sent; 0 below TICK_S, and where it is silent."""
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size)  # type: ignore[union-attr]
        waited = float(_LAST_DATA.unpack(told)[0]) / 1000
    except (AttributeError, OSError, struct.error):  # another system, or not TCP
        return 0.0
    return waited if waited > TICK_S else 0.0


def whole_head(data: bytes) -> bytes:
    """The head of `data` where this is one request from its first byte to its last, on a connection that stays.

    Empty for everything else, which uvicorn knows how to end.
    """
    end = data.find(b"\r\n\r\n")
    head = data[: end + 2]
    length = _LENGTH.search(head)
    if length is None or len(data) != end + 4 + int(length[1]) or _PLAIN.match(head) is None or _OWN_WISH.search(head):
        return b""
    return head


def _refusal() -> bytes:
    """The whole answer, with a place for the request's id."""
    refusal = overloaded()
    body = refusal.body()
    headers = [
        (b"content-type", CONTENT_TYPE),
        (b"content-length", b"%d" % len(body)),
        *ANSWER,
        *refusal.headers,
        (b"x-request-id", b"%s"),
    ]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return STATUS_LINE[refusal.status] + lines + b"\r\n" + body


_REFUSAL = _refusal()
