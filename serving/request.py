"""One HTTP request as a handler sees it, its body read within limits of size and time; and the reply."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from serving.headers import ANSWER
from serving.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from serving.headers import Headers

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 1 << 20  # bytes; the longest history allowed is a fraction of it
MAX_DROPPED = 1 << 24  # bytes of a refused request that are read all the same
READ_WITHIN_S = 10.0  # for the whole body
JSON = b"application/json"
ARRIVED = "twinspire.arrived"  # in a scope, where it is known: when the kernel had it, on time.perf_counter()
FIT_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")  # stands in JSON and in a header as it is


@dataclass(slots=True)
class Reply:
    """What goes back."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Headers = ANSWER
    arm: str = ""  # for the log


class Readers:
    """The requests whose body is being read; those that take longer than `within` seconds are ended.

    One timer looks at all of them once a second: a timer for each would cost a request ten microseconds.
    """

    def __init__(self, within: float = READ_WITHIN_S, every: float = 1.0) -> None:
        self.within, self._every = within, every
        self._reading: dict[Request, tuple[asyncio.Task[Any] | None, float]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that the timer runs in

    def begin(self, request: Request) -> None:
        """`request` is read from now on, in this task."""
        self._reading[request] = asyncio.current_task(), time.monotonic()
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
            self._loop.call_later(self._every, self._look)

    def end(self, request: Request) -> None:
        """`request` is read, or given up."""
        self._reading.pop(request, None)

    def _look(self) -> None:
        oldest = time.monotonic() - self.within
        for request, (task, since) in list(self._reading.items()):
            if since < oldest:
                del self._reading[request]
                request.late = True
                if task is not None:
                    task.cancel()
        if self._reading and self._loop is not None:
            self._loop.call_later(self._every, self._look)
        else:
            self._loop = None


class Request:
    """One HTTP request, read as far as a handler asks. `caller` is the name of its key; `late`, that it was ended."""

    __slots__ = ("_headers", "_id", "_readers", "_receive", "_scope", "_unread", "caller", "late")

    def __init__(self, scope: Scope, receive: Receive, readers: Readers) -> None:
        self._scope, self._receive, self._readers = scope, receive, readers
        self._unread = True
        self._id: str | None = None
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # of several of a name, the first
        self.caller = ""
        self.late = False

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name (lower case)."""
        return self._headers.get(name)

    @property
    def id(self) -> str:
        """The caller's or the proxy's x-request-id where it is fit to stand in JSON as it is, else a new one."""
        if self._id is None:
            given = self._headers.get(b"x-request-id")
            self._id = given.decode() if given and FIT_ID.fullmatch(given) else uuid4().hex
        return self._id

    @property
    def arrived(self) -> float:
        """When it came, on time.perf_counter(); now, where that is not known."""
        return float(self._scope.get(ARRIVED) or time.perf_counter())

    @property
    def query_string(self) -> bytes:
        """What stands after the question mark."""
        return bytes(self._scope.get("query_string", b""))

    async def json_body(self, limit: int = MAX_BODY) -> bytes:
        """The body, of at most `limit` bytes; refuses what is not JSON (415), larger (413) or late (408)."""
        kind = self.header(b"content-type")
        if kind not in (None, JSON) and kind.split(b";")[0].strip().lower() != JSON:
            raise Refusal(415, "send the body as content-type: application/json", "content-type")
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() != b"identity":
            raise Refusal(415, "send the body without content-encoding", "content-encoding")
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > limit:
            raise _too_large(limit)
        self._readers.begin(self)
        try:
            body = await self._read()
            if self._unread:
                body = await self._join(body, limit)
        except asyncio.CancelledError:
            if not self._resume():
                raise
            raise Refusal(408, f"the body did not come within {self._readers.within:g} seconds", "body") from None
        finally:
            self._readers.end(self)
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def drop_rest(self) -> bool:
        """Read what is left of the body, at most MAX_DROPPED bytes; True where nothing is left.

        A proxy closes the connection of a request that was answered before its end, and the caller's next request on it
        is lost.
        """
        if self.late:
            return False
        dropped = 0
        self._readers.begin(self)
        try:
            while self._unread and dropped < MAX_DROPPED:
                dropped += len(await self._read())
        except asyncio.CancelledError:
            if not self._resume():
                raise
        finally:
            self._readers.end(self)
        return not self._unread

    async def _join(self, first: bytes, limit: int) -> bytes:
        parts, size = [first], len(first)
        while self._unread:
            parts.append(await self._read())
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
        return b"".join(parts)

    async def _read(self) -> bytes:
        message = await self._receive()
        self._unread = message.get("more_body", False)
        return message.get("body", b"")  # type: ignore[no-any-return]

    def _resume(self) -> bool:
        """In a cancelled task: whether `Readers` cancelled it, and so it may go on."""
        task = asyncio.current_task()
        if self.late and task is not None:
            task.uncancel()
        return self.late


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body is larger than {limit} bytes", "body")
