"""Searches that a replica has no time for are refused as they come from their socket.

Under too much load, what is not answered has to be cheap. Handed on to Ray Serve, a refusal would cost half as much as
an answer, and at twice the load that a replica carries it would have no time for answers. Here it is one read and one
write.

How long a search has waited is what the kernel knows: when it got what the connection was sent. Where the event loop
and not the search is the limit, requests wait there, unread.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.headers import ANSWER
from serving.limits import overloaded
from serving.problems import CONTENT_TYPE
from serving.request import ARRIVED, FIT_ID

if TYPE_CHECKING:
    from serving.application import Application
    from serving.service import Service

_SEARCH = b"POST /v1/search"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})\r\n", re.IGNORECASE)
_ID = re.compile(rb"\r\nx-request-id: *(%s)\r\n" % FIT_ID.pattern, re.IGNORECASE)
_LAST_DATA = struct.Struct("=52xI")  # of Linux's tcp_info: tcpi_last_data_recv, milliseconds


class CrowdProtocol(HttpToolsProtocol):
    """uvicorn's connection, but for searches in a crowd.

    `replica` is what the replica of this process answers with; None in a process that is none.
    """

    replica: ClassVar[tuple[Application, Service] | None] = None
    _between = True  # nothing of a request is read whose end is not

    def data_received(self, data: bytes) -> None:
        """Refuse a search that has waited too long, or would; hand everything else on."""
        if self.replica is None or not data.startswith(_SEARCH) or not self._free:
            super().data_received(data)
            return
        app, service = self.replica
        waited = waited_s(self.transport.get_extra_info("socket"))
        if service.full(waited) and _is_whole(data):
            given = _ID.search(data)
            request_id = given[1] if given else uuid4().hex.encode()
            app.shed(request_id.decode(), waited)
            self.transport.write(_REFUSAL % request_id)
            self.on_response_complete()
            return
        arrived = time.perf_counter() - waited
        super().data_received(data)
        if self.scope is not None:
            self.scope[ARRIVED] = arrived  # type: ignore[literal-required]

    @property
    def _free(self) -> bool:
        """Whether what comes now is a request's beginning, and is answered next."""
        return self._between and (self.cycle is None or self.cycle.response_complete)

    def on_message_begin(self) -> None:
        """The parser has seen a request's first byte."""
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The parser has seen its last."""
        self._between = True
        super().on_message_complete()


def waited_s(sock: socket.socket) -> float:
    """Seconds since the kernel got the last of what a connection was sent; 0 where it does not tell."""
    try:
        return float(_LAST_DATA.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA.size))[0]) / 1000
    except (AttributeError, OSError, struct.error):  # another system, or not TCP
        return 0.0


def _is_whole(data: bytes) -> bool:
    """Whether `data` is one request from its first byte to its last."""
    end = data.find(b"\r\n\r\n")
    length = _LENGTH.search(data, 0, end + 2)
    return end > 0 and length is not None and len(data) == end + 4 + int(length[1])


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
