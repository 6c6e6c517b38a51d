"""The click log: blocks of sessions turned into rows in the order of time, written as part files of a fixed length.

Memory holds one block of sessions and at most one part file, however long the log is. A block's rows may reach past the
start of the next block's sessions; those wait, so that the table as a whole is in the order of time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.simulation.arrays import Bools, Doubles, Longs, stream
from twinspire.simulation.behaviour import act
from twinspire.simulation.catalogue import DAYS
from twinspire.simulation.policy import Explorer, slates
from twinspire.simulation.sessions import draw_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from twinspire.simulation.lexical import Lexical
    from twinspire.simulation.truth import Truth

EVENTS = ("impression", "click", "cart", "purchase")
START = np.datetime64("2025-03-01T00:00:00", "us").astype(np.int64)
BLOCK_SESSIONS = 4096
PART_ROWS = 250_000
_SECOND, _DAY = 1_000_000, 86_400_000_000
_GUEST_SHARE = 0.06  # sessions without sign-in
_HOURS = np.array([2, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 7, 8, 7, 6, 6, 6, 7, 8, 9, 10, 9, 7, 4], dtype=float)


@dataclass
class Counts:
    """What the log holds; filled while it is written."""

    rows: int = 0
    events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENTS, 0))
    sessions: int = 0
    requests: int = 0
    no_shared_word: int = 0
    revenue: float = 0.0
    typed: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))
    bought_by: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))


@dataclass(frozen=True)
class Tables:
    """The text columns that rows point into."""

    item_ids: pl.Series
    user_ids: pl.Series
    queries: pl.Series


class LogWriter:
    """Draws and writes the interactions of one market."""

    def __init__(self, truth: Truth, lexical: Lexical, tables: Tables, seed: int) -> None:
        self._truth, self._lexical, self._tables, self._seed = truth, lexical, tables, seed
        self._explorer = Explorer(truth)
        self.counts = Counts(
            typed=np.zeros(len(tables.queries), dtype=bool),
            bought_by=np.zeros(len(tables.user_ids), dtype=bool),
        )

    def write(self, folder: Path, rows: int, progress: Callable[[int], None]) -> None:
        """Write exactly `rows` interactions as part files; `progress` hears how many rows came since its last call."""
        folder.mkdir(parents=True)
        held: list[pl.DataFrame] = []
        held_rows, part, missing = 0, 0, rows
        for frame in self._ordered(rows):
            taken = frame.head(missing)
            missing -= len(taken)
            self._count(taken)
            progress(len(taken))
            held.append(taken)
            held_rows += len(taken)
            while held_rows >= PART_ROWS or (missing == 0 and held_rows):
                merged = pl.concat(held)
                self._spell(merged.head(PART_ROWS)).write_parquet(folder / f"part-{part:05d}.parquet", statistics=True)
                part += 1
                rest = merged.slice(PART_ROWS)
                held, held_rows = [rest], len(rest)
            if missing == 0:
                return

    def _ordered(self, rows: int) -> Iterator[pl.DataFrame]:
        """Blocks of rows in the order of time, without end."""
        per_session = self._pilot()
        clock = _Clock(max(rows / per_session, 1.0))
        waiting: pl.DataFrame | None = None
        block = 0
        while True:
            frame = self._block(block, clock)
            block += 1
            frame = frame if waiting is None else pl.concat([waiting, frame])
            frame = frame.sort("timestamp", "session", "request", "event", "position")
            ready = frame["timestamp"] < clock.start(block * BLOCK_SESSIONS)
            waiting = frame.filter(~ready)
            yield frame.filter(ready)

    def _pilot(self) -> float:
        """Rows that a session makes, from a block that is thrown away: sets the pace of the log."""
        return len(self._block(0, _Clock(10.0 * BLOCK_SESSIONS), "pilot")) / BLOCK_SESSIONS

    def _block(self, block: int, clock: _Clock, name: str = "log") -> pl.DataFrame:
        """The rows of one block of sessions, as numbers."""
        rng = stream(self._seed, name, block)
        requests = draw_requests(self._truth, rng, BLOCK_SESSIONS)
        first = block * BLOCK_SESSIONS
        started = clock.times(first + np.sort(rng.random(BLOCK_SESSIONS)) * BLOCK_SESSIONS)
        asked = started[requests.session] + (requests.offset * _SECOND).astype(np.int64)
        day = ((asked - START) / _DAY).astype(np.float32)
        slate = slates(self._truth, self._lexical, self._explorer, rng, requests.query, day)
        utility = self._truth.utilities(requests.user, requests.query, slate, day)
        actions = act(rng, slate, utility)
        guest = rng.random(BLOCK_SESSIONS) < _GUEST_SHARE
        frames = []
        moments = (None, actions.click_delay, actions.cart_delay, actions.buy_delay)
        happened = (actions.loaded, actions.clicked, actions.carted, actions.bought)
        for event, (mask, delay) in enumerate(zip(happened, moments, strict=True)):
            row, place = np.nonzero(mask)
            late = 0 if delay is None else (delay[row, place] * _SECOND).astype(np.int64)
            session = requests.session[row]
            frames.append(
                pl.DataFrame(
                    {
                        "timestamp": asked[row] + late,
                        "session": first + session.astype(np.int64),
                        "request": row.astype(np.int32),
                        "event": np.full(len(row), event, dtype=np.int8),
                        "position": (place + 1).astype(np.int32),
                        "query": requests.query[row],
                        "item": slate[row, place],
                        "user": requests.user[row],
                        "guest": guest[session],
                    }
                )
            )
        return pl.concat(frames)

    def _count(self, frame: pl.DataFrame) -> None:
        counts = self.counts
        counts.rows += len(frame)
        by_event = np.bincount(frame["event"].to_numpy(), minlength=len(EVENTS))
        for name, number in zip(EVENTS, by_event, strict=True):
            counts.events[name] += int(number)
        top = frame.filter((pl.col("event") == 0) & (pl.col("position") == 1))
        counts.requests += len(top)
        counts.sessions = max(counts.sessions, int(frame["session"].to_numpy().max(initial=-1)) + 1)
        counts.typed[frame["query"].to_numpy()] = True
        clicks = frame.filter(pl.col("event") == 1)
        shared = self._lexical.shares_word(clicks["query"].to_numpy(), clicks["item"].to_numpy())
        counts.no_shared_word += int((~shared).sum())
        bought = frame.filter(pl.col("event") == 3)
        counts.revenue += float(self._truth.items.price[bought["item"].to_numpy()].sum())
        counts.bought_by[bought["user"].to_numpy()] = True

    def _spell(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of numbers as the interactions table; `price` is what a cart or purchase was worth."""
        prices = pl.Series(self._truth.items.price[frame["item"].to_numpy()])
        session = pl.lit("s") + pl.col("session").cast(pl.String).str.zfill(9)
        return frame.with_columns(
            self._tables.user_ids[frame["user"].to_numpy()].alias("user_id"),
            self._tables.queries[frame["query"].to_numpy()].alias("text"),
            self._tables.item_ids[frame["item"].to_numpy()].alias("item_id"),
            pl.Series(list(EVENTS))[frame["event"].to_numpy()].alias("happened"),
            prices.alias("price"),
        ).select(
            pl.col("timestamp").cast(pl.Datetime("us", "UTC")),
            pl.col("text").alias("query"),
            "item_id",
            pl.when("guest").then(None).otherwise("user_id").alias("user_id"),
            session.alias("session_id"),
            pl.col("happened").alias("event"),
            "position",
            pl.when(pl.col("event") >= 2).then("price").otherwise(None).alias("price"),
        )


class _Clock:
    """Maps the running number of a session to its time, with the day's rise and fall, over DAYS days."""

    def __init__(self, sessions: float) -> None:
        self._sessions = sessions
        self._hours = np.concatenate([[0.0], np.cumsum(np.tile(_HOURS / _HOURS.sum(), int(DAYS)))]) / DAYS

    def times(self, numbers: Doubles) -> Longs:
        """Times in microseconds since 1970; past the last day the pace goes on evenly."""
        share = numbers / self._sessions
        hours = np.interp(np.minimum(share, 1.0), self._hours, np.arange(len(self._hours)))
        hours += np.maximum(share - 1.0, 0.0) * DAYS * 24
        times: Longs = START + (hours * 3600 * _SECOND).astype(np.int64)
        return times

    def start(self, number: int) -> int:
        """No session from this number on starts before this time."""
        return int(self.times(np.array([float(number)]))[0])
