"""What a replica does not take on: too many requests of one caller, a full queue, a deadline that has passed."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from serving.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAIT_MS = 500.0  # a search that would wait longer is refused: its caller does better to ask another replica
LONGEST_DEADLINE_MS = 3_600_000.0
NEVER = math.inf


class RateLimiter:
    """A token bucket for each name: `rate` requests a second, and as many at once after a second of silence.

    What costs more than there is takes the bucket below zero, and the next request waits until that is paid back, so
    that a batch of any size passes and the mean rate holds. Names come from the key ring, so they are few.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._most = max(rate, 1.0)
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when

    def take(self, name: str, cost: float = 1.0) -> float:
        """Take `cost` tokens where there is one; 0.0 where they were taken, else the seconds until there is one."""
        now = self._clock()
        tokens, then = self._buckets.get(name, (self._most, now))
        tokens = min(self._most, tokens + (now - then) * self._rate)
        if tokens < 1.0:
            self._buckets[name] = tokens, now
            return (1.0 - tokens) / self._rate
        self._buckets[name] = tokens - cost, now
        return 0.0

    def charge(self, name: str, cost: float) -> None:
        """Take `cost` tokens in any case, for a request that has passed and turns out to be large."""
        tokens, then = self._buckets.get(name, (self._most, self._clock()))
        self._buckets[name] = tokens - cost, then


def too_many(wait: float) -> Refusal:
    """429: come back in `wait` seconds."""
    return Refusal(
        429,
        "this key, or where there are no keys this server, is over its rate; see retry-after",
        headers=[(b"retry-after", b"%d" % max(1, math.ceil(wait)))],
    )


def overloaded() -> Refusal:
    """503: the searches that wait take too long already."""
    return Refusal(503, "too many searches wait; try again in a second", headers=[(b"retry-after", b"1")])


def deadline_passed() -> Refusal:
    """504: nobody waits for this search any more."""
    return Refusal(504, "the deadline passed before the search began", "x-deadline-ms")


def deadline(header: bytes | None, since: float) -> float:
    """When a caller has gone who sent `x-deadline-ms` at `since`; NEVER without it. Both on time.perf_counter().

    Refuses with 422 what is not a number of milliseconds above 0.
    """
    if header is None:
        return NEVER
    try:
        wait = float(header)
    except ValueError:
        wait = math.nan
    if not 0 < wait <= LONGEST_DEADLINE_MS:
        detail = f"x-deadline-ms: must be milliseconds, above 0 and at most {LONGEST_DEADLINE_MS:.0f}"
        raise Refusal(422, detail, "x-deadline-ms")
    return since + wait / 1000
