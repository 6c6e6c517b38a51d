"""An open-loop client: requests are sent when they are due, whether or not earlier ones were answered.

A closed loop (wrk) waits for a slow server and so sends it less; here a request's time runs from the moment that it was
due, on a connection or waiting for one. Arrivals are a Poisson process. One process, so that a server under test keeps
what else the machine has: `python -m benchmarks.over_http.open_loop URL BODIES RATE SECONDS CONNECTIONS` prints one
JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS = 1024  # at most; a request that waits for one of them here is timed too
DRAIN_S = 10.0


@dataclass
class Seen:
    """What came back: when each request was due (seconds), its milliseconds, and answers by status (0: none)."""

    due: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)

    def summary(self, seconds: float) -> dict[str, Any]:
        """Rate answered with 200, until the last answer, percentiles of these, and answers by status."""
        good = np.array([ms for ms, status in zip(self.ms, self.status, strict=True) if status == 200])
        until = max([seconds, *(due + ms / 1000 for due, ms in zip(self.due, self.ms, strict=True))])
        quantiles = {f"p{q}_ms": round(float(np.percentile(good, q)), 3) if len(good) else None for q in (50, 99)}
        return {
            "asked a second": round(len(self.due) / seconds, 1),
            "answered a second": round(len(good) / until, 1),
            **quantiles,
            "status": {str(status): count for status, count in sorted(Counter(self.status).items())},
        }


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request at a time on it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._buffer = b""
        self.due = 0.0
        self.busy = False
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """There is a connection."""
        self.transport = transport

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at `due` seconds."""
        self.busy, self.due = True, due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read on; an answer is whole when its content-length is there. HAProxy's own errors have none, and end it.

        To a connection that never got a request HAProxy says 408 before it closes it: no answer to anything.
        """
        if not self.busy:
            self._client.withdraw(self)
            self.transport.close()
            return
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().find(b"content-length:", 0, head)
        length = int(self._buffer[at + 15 : self._buffer.index(b"\r\n", at)]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        status = int(self._buffer[9:12])
        closing = at < 0 or b"connection: close" in self._buffer[:head].lower()
        self._buffer = b""
        self.busy = False
        if closing:  # nothing more may go out on it
            self.transport.close()
        self._client.answered(self, status, free=not closing)

    def connection_lost(self, error: Exception | None) -> None:
        """There is none any more."""
        self._client.lost(self)


class Client:
    """Sends the bodies in turn at `rate` a second for so many seconds, over at most so many connections."""

    def __init__(
        self,
        url: str,
        bodies: Sequence[bytes],
        rate: float,
        seconds: float,
        connections: int = CONNECTIONS,
        seed: int = 0,
    ) -> None:
        self._most = connections
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        self._requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))
        self._due = np.cumsum(gaps)
        self._idle: deque[Connection] = deque()
        self._connections: set[Connection] = set()
        self._open = 0
        self._waiting: deque[tuple[bytes, float]] = deque()
        self.seen = Seen()
        self._start = 0.0
        self._left = len(self._due)
        self._done = asyncio.Event()

    async def run(self) -> Seen:
        """Send all, and wait for the answers, DRAIN_S at most."""
        loop = asyncio.get_running_loop()
        self._start = time.perf_counter()
        for number, due in enumerate(self._due):
            ahead = due - (time.perf_counter() - self._start)
            if ahead > 0:
                await asyncio.sleep(ahead)
            elif number % 64 == 0:
                await asyncio.sleep(0)
            self._send(self._requests[number % len(self._requests)], float(due), loop)
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._done.wait()
        except TimeoutError:
            for _ in range(self._left):
                self._note(0, 0.0)
        for connection in self._connections:
            connection.transport.close()
        while self._connections:
            await asyncio.sleep(0.01)
        return self.seen

    def _send(self, request: bytes, due: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._idle:
            self._idle.pop().send(request, due)
        else:
            self._waiting.append((request, due))
            self._open_more(loop)

    def _open_more(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._open < self._most:
            self._open += 1
            loop.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), *self._address)
        except OSError:
            self._open -= 1
            if self._waiting:
                self._note(0, self._waiting.popleft()[1])
            return
        self._connections.add(connection)
        self._free(connection)

    def _free(self, connection: Connection) -> None:
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def answered(self, connection: Connection, status: int, *, free: bool) -> None:
        """Note an answer and, where it is free for it, give the connection its next request."""
        self._note(status, connection.due)
        if free:
            self._free(connection)

    def withdraw(self, connection: Connection) -> None:
        """Give an idle connection no request any more."""
        if connection in self._idle:
            self._idle.remove(connection)

    def lost(self, connection: Connection) -> None:
        """Note a connection that ended, and the request on it."""
        self._open -= 1
        self._connections.discard(connection)
        self.withdraw(connection)
        if connection.busy:
            self._note(0, connection.due)
        if self._waiting:
            self._open_more(asyncio.get_running_loop())

    def _note(self, status: int, due: float) -> None:
        self.seen.due.append(due)
        self.seen.ms.append((time.perf_counter() - self._start - due) * 1000)
        self.seen.status.append(status)
        self._left -= 1
        if not self._left:
            self._done.set()


def measure(url: str, bodies: Sequence[bytes], rate: float, seconds: float, connections: int = CONNECTIONS) -> Seen:
    """Run a client to its end in this thread."""

    async def go() -> Seen:
        return await Client(url, bodies, rate, seconds, connections).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(go())


if __name__ == "__main__":
    url, path, rate, seconds, connections = sys.argv[1:6]
    lines = Path(path).read_bytes().splitlines()
    seen = measure(url, lines, float(rate), float(seconds), int(connections))
    print(json.dumps(seen.summary(float(seconds))))
