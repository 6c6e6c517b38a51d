"""Who comes, and what they type: sessions of one to five queries that follow from the shopper's taste."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twinspire.simulation.arrays import Doubles, Floats, Ints, Longs, gumbel, search

if TYPE_CHECKING:
    from numpy.random import Generator

    from twinspire.simulation.truth import Truth

MOST_QUERIES = 5
_MORE = 0.38  # chance of one more query in the session
_SAME_CATEGORY = 0.7
_CANDIDATES = 4  # texts thought of before one is typed
_PAUSE = 75.0  # mean seconds between queries of a session


@dataclass(frozen=True)
class Requests:
    """B queries of S sessions, in the order of sessions."""

    session: Ints  # (B,) 0 .. S - 1
    user: Ints  # (B,)
    query: Ints  # (B,) rows of the pool
    offset: Doubles  # (B,) seconds after the session's start


def _typed(truth: Truth, rng: Generator, users: Ints, categories: Ints) -> Ints:
    """The text each shopper types for a category: of a few candidates, one that suits brand, purse and gender."""
    pool = truth.queries
    first, last = pool.entry_offsets[categories], pool.entry_offsets[categories + 1]
    low = np.where(first > 0, pool.entry_ends[np.maximum(first, 1) - 1], 0.0)[:, None]
    high = pool.entry_ends[last - 1][:, None]
    point = low + rng.random((len(users), _CANDIDATES)) * (high - low)
    entry = np.minimum(search(pool.entry_ends, point.ravel()).reshape(point.shape), last[:, None] - 1)
    query = pool.entry_query[entry]  # (B, candidates)
    who, user = truth.shoppers, users[:, None]
    fit: Floats = gumbel(rng, query.shape)
    brand = pool.brand[query, 0]
    loyal = (who.loyal_brand[users][:, None, :] == brand[:, :, None]).any(axis=2) & (brand >= 0)
    fit += 1.5 * loyal
    tier = pool.tier[query, 0]
    fit += np.where(tier < 0, 0.0, np.where(tier == who.power[user], 0.7, -0.9)).astype(np.float32)
    audience = pool.audience[query, 0]
    other = np.where(who.gender[user] == 0, audience == 2, audience == 1)  # somebody else's things: now and then a gift
    fit -= np.float32(2.0) * other
    fit -= np.float32(1.5) * ((audience == 3) & ~who.parent[user])
    typed: Ints = query[np.arange(len(users)), fit.argmax(axis=1)]
    return typed


def draw_requests(truth: Truth, rng: Generator, sessions: int) -> Requests:
    """Draw `sessions` sessions: shoppers by activity, categories by demand and liking, texts by weight and taste."""
    ends = np.cumsum(truth.shoppers.activity)
    return requests_of(truth, rng, search(ends, rng.random(sessions) * ends[-1]))


def requests_of(truth: Truth, rng: Generator, user_of: Ints) -> Requests:
    """A session of each of these shoppers (S,)."""
    sessions = len(user_of)
    length = 1 + np.cumprod(rng.random((sessions, MOST_QUERIES - 1)) < _MORE, axis=1).sum(axis=1)
    session = np.repeat(np.arange(sessions, dtype=np.int32), length)
    user = user_of[session]
    starts: Longs = np.cumsum(length) - length
    liking = np.log(truth.demand).astype(np.float32) + truth.shoppers.affinity[user]
    category = (liking + gumbel(rng, liking.shape)).argmax(axis=1).astype(np.int32)
    same = rng.random(len(user)) < _SAME_CATEGORY
    same[starts] = False
    category = np.where(same, category[starts][session], category)
    pause = rng.exponential(_PAUSE, len(user)) + 8.0
    pause[starts] = 0.0
    total = np.cumsum(pause)
    return Requests(session, user, _typed(truth, rng, user, category), total - total[starts][session])
