"""Visits over HTTP: searches go to a server that runs an experiment, and what shoppers do goes back to it.

Shoppers come in waves; in a wave each has one search in flight at most, so the server hears of a page's clicks before
the shopper's next search. The client only knows the arm because the answers say it.
"""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import local
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import orjson

from twinspire.simulation import Searches, play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.table4.shop import Ranking
    from twinspire.simulation import Choices, Truth, Visits
    from twinspire.simulation.arrays import Bools, Ints

WAVE = 256  # shoppers at a time and connection: a batch of searches
CONNECTIONS = 2  # while one wave's pages are ranked here, the other's are searched there
MOST_EVENTS = 1000  # of one request
PACED = 2048  # searches that tell how fast the machine is
JSON = {"content-type": "application/json"}
EVENTS = ("click", "cart", "purchase")


class Connection:
    """One kept-alive connection. Errors: RuntimeError for any answer but the one wanted."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=120)

    def post(self, path: str, body: dict[str, Any], wanted: int) -> Any:
        """The answer's JSON."""
        self._http.request("POST", path, orjson.dumps(body), JSON)
        answer = self._http.getresponse()
        text = answer.read()
        if answer.status != wanted:
            raise RuntimeError(f"POST {path} was answered {answer.status}: {text[:300].decode(errors='replace')}")
        return orjson.loads(text)

    def close(self) -> None:
        """Hang up."""
        self._http.close()


class Live:
    """A shop whose retrieval is a server's: of the arm that the experiment gives each shopper, or of none."""

    def __init__(self, ranking: Ranking, connection: Connection, experiment: str | None, k: int) -> None:
        self._ranking, self._connection, self._experiment, self._k = ranking, connection, experiment, k
        self._told = 0
        self.arms: dict[int, str] = {}  # by shopper

    def pages(self, user: Ints, query: Ints) -> Ints:
        """One batch of searches, and what the ranking makes of the answers.

        Errors: RuntimeError for a shopper who is given no arm, or another one than before.
        """
        catalogue = self._ranking.catalogue
        searches = [
            {"query": catalogue.texts[text], "user": {"user_id": catalogue.user_ids[who]}}
            for who, text in zip(user, query, strict=True)
        ]
        results = self._connection.post("/v1/search:batch", {"k": self._k, "searches": searches}, 200)["results"]
        added = np.full((len(query), self._k), -1, dtype=np.int32)
        for row, (who, result) in enumerate(zip(user.tolist(), results, strict=True)):
            if self._experiment is not None:
                self._assigned(who, result["experiments"].get(self._experiment))
            found = [catalogue.item_rows[item["item_id"]] for item in result["items"]]
            added[row, : len(found)] = found
        return self._ranking.page(user, query, added)

    def _assigned(self, user: int, arm: str | None) -> None:
        who = self._ranking.catalogue.user_ids[user]
        if arm is None:
            raise RuntimeError(f"{who} came after the experiment's end: the machine has become slower than it was")
        if self.arms.setdefault(user, arm) != arm:
            raise RuntimeError(f"{who} was given {arm} after {self.arms[user]}")

    def hear(self, user: Ints, query: Ints, page: Ints, done: Choices) -> None:
        """Tell the server."""
        events = list(self._events(user, query, page, done))
        for start in range(0, len(events), MOST_EVENTS):
            self._connection.post("/v1/feedback", {"events": events[start : start + MOST_EVENTS]}, 202)

    def _events(self, user: Ints, query: Ints, page: Ints, done: Choices) -> Iterator[dict[str, Any]]:
        catalogue = self._ranking.catalogue
        for row, place in zip(*np.nonzero(done.clicked), strict=True):
            who, item = user[row], page[row, place]
            self._told += 1
            happened: tuple[bool | Bools, ...] = (True, done.carted[row, place], done.bought[row, place])
            for event, yes in zip(EVENTS, happened, strict=True):
                if yes:
                    yield {
                        "event": event,
                        "event_id": f"{self._experiment}:{catalogue.user_ids[who]}:{self._told}:{event}",
                        "item_id": catalogue.item_ids[item],
                        "query": catalogue.texts[query[row]],
                        "user_id": catalogue.user_ids[who],
                        "position": int(place) + 1,
                        **({"value": float(catalogue.prices[item])} if event == "purchase" else {}),
                    }


def pace(visits: Visits, ranking: Ranking, url: str, k: int) -> float:
    """Searches a second over one connection, ranking included, of the first searches of some visits; nothing of them is
    kept while no experiment runs."""
    connection = Connection(url)
    shop = Live(ranking, connection, None, k)
    shop.pages(visits.user[:WAVE], visits.needs[:WAVE, 0])  # the first are slower
    some = range(WAVE, min(PACED, len(visits)), WAVE)
    started = time.perf_counter()
    for start in some:
        shop.pages(visits.user[start : start + WAVE], visits.needs[start : start + WAVE, 0])
    taken = time.perf_counter() - started
    connection.close()
    return len(some) * WAVE / taken if len(some) else 1.0


@dataclass(frozen=True)
class Played:
    """What the client knows of an experiment: all searches, and each visit's arm (V,)."""

    searches: Searches
    arms: list[str]


def send(
    truth: Truth,
    visits: Visits,
    ranking: Ranking,
    url: str,
    experiment: str,
    k: int,
    seed: int,
    progress: Callable[[int], None] = lambda shoppers: None,
) -> Played:
    """Pay all visits over HTTP, over CONNECTIONS connections. `progress` hears of shoppers who have left.

    Errors: RuntimeError where the server does not answer as it should.
    """
    mine = local()
    opened: list[Connection] = []
    arms: dict[int, str] = {}

    def wave(start: int) -> Searches:
        if not hasattr(mine, "connection"):
            mine.connection = Connection(url)
            opened.append(mine.connection)
        some = visits[slice(start, start + WAVE)]
        shop = Live(ranking, mine.connection, experiment, k)
        done = play(truth, some, shop, seed)
        arms.update(shop.arms)
        progress(len(some))
        return replace(done, visit=done.visit + start)

    try:
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            parts = list(threads.map(wave, range(0, len(visits), WAVE)))
    finally:
        for connection in opened:
            connection.close()
    return Played(Searches.joined(parts), [arms[user] for user in visits.user.tolist()])
