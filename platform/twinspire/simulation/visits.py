"""Visits to a shop, page by page: shoppers ask for what they need, act on what is shown, ask anew or leave.

A need is answered once something is clicked; then the next need's turn comes. Where nothing is clicked, some ask anew
in other words for the same thing, and the others leave. What is shown is the shop's doing, so the same visits can be
paid to several shops. All luck is a function of the visit and of what it is about (the item, the place on the page, the
number of the search): a shopper who would click an item here would click it there, so that two shops can be compared on
the very same shoppers (common random numbers).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from twinspire.simulation.arrays import Bools, Doubles, Ints, Longs, search, stream
from twinspire.simulation.behaviour import Choices, Draws, decide
from twinspire.simulation.sessions import MOST_QUERIES, requests_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from twinspire.simulation.truth import Truth

ASKS_ANEW = 0.6  # chance of other words where nothing was clicked
MOST_REPHRASINGS = 2  # of one need


@dataclass(frozen=True)
class Visits:
    """V visits, in any order: who comes, and what they need, as rows of the query pool."""

    number: Longs  # (V,) names the visit; its luck follows from it
    user: Ints  # (V,)
    needs: Ints  # (V, MOST_QUERIES), -1 behind the last

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, rows: slice) -> Visits:
        return Visits(self.number[rows], self.user[rows], self.needs[rows])


def draw_visits(truth: Truth, seed: int, users: Ints, block: int = 0) -> Visits:
    """One visit of each of these shoppers (V,). Another `block` gives other visits of theirs."""
    requests = requests_of(truth, stream(seed, "visits", block), users)
    place = np.arange(len(requests.session)) - np.searchsorted(requests.session, requests.session)
    needs = np.full((len(users), MOST_QUERIES), -1, dtype=np.int32)
    needs[requests.session, place] = requests.query
    return Visits(np.arange(len(users), dtype=np.int64) + (block << 32), users.astype(np.int32), needs)


class Luck:
    """Uniform draws in [0, 1), each a function of the seed and of what it is about: nothing is used up."""

    def __init__(self, seed: int) -> None:
        self._seed = np.uint64(seed)

    def draw(self, what: str, *about: NDArray[np.integer]) -> Doubles:
        """Draws of the shape that the arrays `about` have together."""
        state = _mixed(np.array([self._seed ^ np.uint64(zlib.crc32(what.encode()) << 32)]))
        for part in about:
            state = _mixed(state ^ part.astype(np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        drawn: Doubles = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return drawn


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    state = (state + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class Rephrasing:
    """Other words for what a query mostly means: the wanted type, category or need, or if none is named the brand."""

    def __init__(self, truth: Truth) -> None:
        pool = truth.queries
        target, brand = pool.target[:, 0], pool.brand[:, 0]
        meaning = np.where(target > 0, target, len(truth.targets) + brand)
        self._meaning = np.unique(meaning, return_inverse=True)[1]
        self._order = np.argsort(self._meaning, kind="stable").astype(np.int32)
        self._place = np.argsort(self._order, kind="stable").astype(np.int32)  # of each query in the order
        self._first = np.searchsorted(self._meaning[self._order], np.arange(self._meaning.max() + 2))
        self._ends = np.concatenate([[0.0], np.cumsum(pool.weight[self._order])])

    def other(self, query: Ints, luck: Doubles) -> Ints:
        """Another query of the same meaning for each (B,), by weight; -1 where there is no other."""
        meaning = self._meaning[query]
        first, last = self._first[meaning], self._first[meaning + 1]
        place = self._place[query]
        own = self._ends[place + 1] - self._ends[place]
        point = self._ends[first] + luck * (self._ends[last] - self._ends[first] - own)
        point = np.where(point >= self._ends[place], point + own, point)  # past the query's own stretch
        found = np.clip(search(self._ends[1:], point), first, last - 1)
        found = np.where(
            found == place, np.where(place + 1 < last, place + 1, place - 1), found
        )  # a last digit's doing
        return np.where(last - first > 1, self._order[found], -1).astype(np.int32)


@dataclass(frozen=True)
class Searches:
    """S searches: of which visit (its row), how many of it came before, what was typed, what was done with the page."""

    visit: Longs
    order: Ints
    query: Ints
    results: Ints
    clicks: Ints
    carts: Ints
    purchases: Ints
    value: Doubles  # prices of what was bought
    rephrased: Bools  # nothing was clicked, and other words came next

    @classmethod
    def joined(cls, parts: list[Searches]) -> Searches:
        """One behind the other."""
        names = cls.__dataclass_fields__
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class Shop(Protocol):
    """What shoppers see of a shop."""

    def pages(self, user: Ints, query: Ints) -> Ints:
        """What these shoppers (B,) are shown for these queries (B,): item rows (B, P), -1 behind the last."""
        ...

    def hear(self, user: Ints, query: Ints, page: Ints, done: Choices) -> None:
        """What they did with those pages."""
        ...


def play(truth: Truth, visits: Visits, shop: Shop, seed: int) -> Searches:
    """Pay all visits to the shop, one search of each at a time, till all have left."""
    return Searches.joined(list(_rounds(truth, visits, shop, Luck(seed))))


def _rounds(truth: Truth, visits: Visits, shop: Shop, luck: Luck) -> Iterator[Searches]:
    rephrasing = Rephrasing(truth)
    here = np.arange(len(visits))  # rows of the visits that go on
    need = np.zeros(len(visits), dtype=np.int32)
    tries = np.zeros(len(visits), dtype=np.int32)
    typed = visits.needs[:, 0].copy()
    order = 0
    while len(here):
        user, query, number = visits.user[here], typed[here], visits.number[here]
        page = shop.pages(user, query)
        wanted = visits.needs[here, need[here]]
        done = decide(_draws(luck, number, order, page), page, truth.utilities(user, wanted, page))
        shop.hear(user, query, page, done)
        answered = done.clicked.any(axis=1)
        anew = ~answered & (tries[here] < MOST_REPHRASINGS)
        anew &= luck.draw("anew", number, np.full(len(here), order)) < ASKS_ANEW
        other = rephrasing.other(query, luck.draw("words", number, np.full(len(here), order)))
        anew &= other >= 0
        bought = done.bought
        yield Searches(
            visit=here,
            order=np.full(len(here), order, dtype=np.int32),
            query=query,
            results=(page >= 0).sum(axis=1).astype(np.int32),
            clicks=done.clicked.sum(axis=1).astype(np.int32),
            carts=done.carted.sum(axis=1).astype(np.int32),
            purchases=bought.sum(axis=1).astype(np.int32),
            value=(truth.items.price[page] * bought).sum(axis=1),
            rephrased=anew,
        )
        following = np.minimum(need[here] + 1, MOST_QUERIES - 1)
        upcoming = np.where(need[here] + 1 < MOST_QUERIES, visits.needs[here, following], -1)
        goes_on = anew | (answered & (upcoming >= 0))
        typed[here] = np.where(anew, other, upcoming)
        need[here] += answered
        tries[here] = np.where(anew, tries[here] + 1, 0)
        here = here[goes_on]
        order += 1


def _draws(luck: Luck, number: Longs, order: int, page: Ints) -> Draws:
    """By visit and item what is done with the item; by visit, search and place whether the shopper reads on."""
    visit = number[:, None]
    place = np.arange(page.shape[1])[None, :] + order * page.shape[1]
    return Draws(
        luck.draw("click", visit, page).astype(np.float32),
        luck.draw("stay", visit, place),
        luck.draw("cart", visit, page),
        luck.draw("buy", visit, page),
    )
