"""The batch endpoint: searches a second of requests that hold 256 each, over a few connections."""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import orjson

if TYPE_CHECKING:
    from pathlib import Path

SEARCHES = 256
CONNECTIONS = 2  # while one is answered, the other's request is read


def requests(bodies: Path) -> list[bytes]:
    """The single requests of the file, in batches."""
    singles = [orjson.loads(line) for line in bodies.read_bytes().splitlines()]
    whole = range(0, len(singles) - SEARCHES + 1, SEARCHES)
    return [orjson.dumps({"searches": singles[first : first + SEARCHES]}) for first in whole]


def load(url: str, bodies: Path, seconds: float) -> float:
    """Searches answered a second. Raises RuntimeError where a request is not answered with 200."""
    batches = requests(bodies)
    until = time.perf_counter() + seconds
    answered, failed = [0] * CONNECTIONS, []

    def ask(number: int) -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=60)
        at = number
        while time.perf_counter() < until:
            connection.request("POST", "/v1/search:batch", batches[at % len(batches)], JSON)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failed.append(answer.status)
                break
            answered[number] += SEARCHES
            at += CONNECTIONS
        connection.close()

    started = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(f"a batch was answered {failed[0]}")
    return sum(answered) / (time.perf_counter() - started)


JSON = {"content-type": "application/json"}
