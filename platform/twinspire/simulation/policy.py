"""The logging policy: what the shop shows. BM25 with noise among near ties, and slots given to exploration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from twinspire.simulation.arrays import Bools, Doubles, Floats, Ints, gumbel, search
from twinspire.simulation.queries import SENSES

if TYPE_CHECKING:
    from numpy.random import Generator

    from twinspire.simulation.lexical import Lexical
    from twinspire.simulation.truth import Truth

SLOTS = 20
_NOISE = 0.45  # in BM25 points
_EXPLORED = 0.18
_WANTED = 0.7  # share of exploration in the query's own product types; the rest is what sells anywhere
_FILLED = 0.85  # chance that a slot without a match is filled


class Explorer:
    """Draws items by popularity, anywhere or within what a query asks for."""

    def __init__(self, truth: Truth) -> None:
        items = truth.items
        self._truth = truth
        self._by_type, self._type_ends, self._type_offsets = _grouping(
            items.type, items.popularity, truth.targets.shape[1]
        )
        count = int(max(items.brand.max(), truth.queries.brand.max())) + 1
        self._by_brand, self._brand_ends, self._brand_offsets = _grouping(items.brand, items.popularity, count)
        mass = np.bincount(items.type, items.popularity, truth.targets.shape[1])
        self._target_ends = np.cumsum((truth.targets > 0.99) * mass, axis=1)  # (G, T)
        self._all_ends = np.cumsum(items.popularity)

    def wanted(self, rng: Generator, query: Ints) -> Ints:
        """One item for each query (n,): of its types, or of its brand where only that is named."""
        pool = self._truth.queries
        share = pool.share[query].cumsum(axis=1)
        sense = np.minimum((share <= rng.random(len(query))[:, None]).sum(axis=1), SENSES - 1)
        target, brand = pool.target[query, sense], pool.brand[query, sense]
        chosen = self.popular(rng, len(query))
        typed = np.flatnonzero((target > 0) & (self._target_ends[target, -1] > 0))
        if len(typed):
            ends = self._target_ends[target[typed]]
            kind = (ends <= rng.random(len(typed))[:, None] * ends[:, -1:]).sum(axis=1)
            chosen[typed] = _within(rng, kind, self._by_type, self._type_ends, self._type_offsets)
        branded = np.flatnonzero((target == 0) & (brand >= 0))
        if len(branded):
            chosen[branded] = _within(rng, brand[branded], self._by_brand, self._brand_ends, self._brand_offsets)
        return chosen

    def popular(self, rng: Generator, count: int) -> Ints:
        """Items by popularity alone."""
        return search(self._all_ends, rng.random(count) * self._all_ends[-1])


def _grouping(group: Ints, weight: Doubles, count: int) -> tuple[Ints, Doubles, Ints]:
    """Rows sorted by group, the running sum of their weights, and where each group starts."""
    order = np.argsort(group, kind="stable").astype(np.int32)
    offsets = np.searchsorted(group[order], np.arange(count + 1)).astype(np.int32)
    return order, np.cumsum(weight[order]), offsets


def _within(rng: Generator, group: Ints, order: Ints, ends: Doubles, offsets: Ints) -> Ints:
    first, last = offsets[group], offsets[group + 1]
    low = np.where(first > 0, ends[np.maximum(first, 1) - 1], 0.0)
    place = search(ends, low + rng.random(len(group)) * (ends[last - 1] - low))
    chosen: Ints = order[np.clip(place, first, last - 1)]
    return chosen


def _matches(truth: Truth, lexical: Lexical, rng: Generator, query: Ints, day: Floats) -> Ints:
    """The BM25 part of each slate (B, SLOTS), -1 where fewer match."""
    candidates = lexical.items[query]
    score = lexical.scores[query] + np.float32(_NOISE) * gumbel(rng, candidates.shape)
    score[(candidates < 0) | (truth.items.launch_day[candidates] > day[:, None])] = -np.inf
    depth = min(SLOTS, score.shape[1])
    best = np.argpartition(-score, depth - 1, axis=1)[:, :depth] if depth < score.shape[1] else None
    if best is None:
        best = np.broadcast_to(np.arange(depth), (len(query), depth))
    order = np.take_along_axis(best, np.argsort(-np.take_along_axis(score, best, 1), axis=1, kind="stable"), 1)
    shown = np.full((len(query), SLOTS), -1, dtype=np.int32)
    valid = np.isfinite(np.take_along_axis(score, order, 1))
    shown[:, :depth] = np.where(valid, np.take_along_axis(candidates, order, 1), -1)
    return shown


def _without_repeats(slate: Ints) -> Ints:
    """Blank the second showing of an item, and close the gaps."""
    order = np.argsort(slate, axis=1, kind="stable")
    ranked = np.take_along_axis(slate, order, 1)
    repeat: Bools = np.zeros(slate.shape, dtype=bool)
    np.put_along_axis(repeat, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], 1)
    slate = np.where(repeat, -1, slate)
    closed = np.argsort(slate < 0, axis=1, kind="stable")
    return np.take_along_axis(slate, closed, 1)


def slates(truth: Truth, lexical: Lexical, explorer: Explorer, rng: Generator, query: Ints, day: Floats) -> Ints:
    """What is shown for each query (B,) on its day (B,): item rows (B, SLOTS), best first, -1 behind the last."""
    slate = _matches(truth, lexical, rng, query, day)
    unmatched = slate < 0
    explored = np.where(unmatched, rng.random(slate.shape) < _FILLED, rng.random(slate.shape) < _EXPLORED)
    rows, places = np.nonzero(explored)
    found = explorer.wanted(rng, query[rows])
    anywhere = rng.random(len(rows)) >= _WANTED
    found[anywhere] = explorer.popular(rng, int(anywhere.sum()))
    found = np.where(truth.items.launch_day[found] > day[rows], -1, found).astype(np.int32)
    slate[rows, places] = found
    return _without_repeats(slate)
