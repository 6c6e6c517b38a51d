"""One JSON line for each request that is refused, fails or is slow; none for the others."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW_MS = 1000.0
MOST_A_SECOND = 50  # lines; under an overload the log must not become the load

logger = logging.getLogger("serving.requests")


class RequestLog:
    """Writes lines to the logger `serving.requests`. A line past MOST_A_SECOND is counted, and the next one says so.

    A line has what the request was and how it ended, and never a key, a body or a query string.
    """

    def __init__(self, slow_ms: float = SLOW_MS, clock: Callable[[], float] = time.monotonic) -> None:
        self.slow_s = slow_ms / 1000
        self._clock = clock
        self._second, self._lines, self._left_out = 0, 0, 0

    def write(self, **told: Any) -> None:
        """Log one request; values that are None or empty are left out."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= MOST_A_SECOND:
            self._left_out += 1
            return
        self._lines += 1
        line = {"time": datetime.now(UTC)} | {name: value for name, value in told.items() if value not in (None, "")}
        if self._left_out:
            line["left_out"], self._left_out = self._left_out, 0
        logger.warning("%s", orjson.dumps(line).decode())


def keep(folder: str | None) -> None:
    """Write the lines to a file of this process's own in `folder`, made with the first line; without it, to stderr.

    It is the process's own, which Ray keeps among its logs: in its place in Python, Serve has put something else.
    """
    handler: logging.Handler
    if folder is None:
        handler = logging.StreamHandler(sys.__stderr__)
    else:
        Path(folder).mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        handler = logging.FileHandler(Path(folder) / f"requests-{stamp}-{uuid4().hex[:8]}.jsonl", delay=True)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
