"""Which items share most with a query's words, found without looking at all that share any.

The items of each word stand in one order, the most clicked first, so that a query's words are read side by side, block
by block, and of equals the first found is the best. Once enough is found, words whose weights together would not bring
an item among the best propose no more (MaxScore, Turtle and Flood 1995); once no word does, the search is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twinspire.compiled import compiled
from twinspire.index.rerank import largest
from twinspire.ragged import Ragged, load_array

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MOST_POSTINGS = 100_000  # read for one query at the most
EVERY = np.zeros(0, np.uint8)  # in place of a bitmap
_BLOCK = 2048  # items whose weights are added up at a time, in the processor's nearest memory
_NEARLY = np.float32(1 + 1e-6)  # the same weights, added up in another order


class Postings(NamedTuple):
    """`order` (n,) are the items, the most clicked first; those that have token v stand in it at the slice
    `offsets[v]:offsets[v + 1]` of `places`, sorted."""

    order: NDArray[np.int32]
    places: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, tokens: Ragged, vocabulary: int, clicks: NDArray[np.integer]) -> Postings:
        """From the distinct tokens of each item (n,), rows of a vocabulary, and its clicks (n,)."""
        order = np.argsort(-clicks.astype(np.int64), kind="stable").astype(np.int32)
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        places = np.repeat(place, tokens.lengths)
        inverted = Ragged.from_lengths(
            places[np.lexsort((places, tokens.values))], np.bincount(tokens.values, minlength=vocabulary)
        )
        return cls(order, inverted.values, inverted.offsets)

    def save(self, stem: Path) -> None:
        """Write the arrays."""
        Ragged(self.places, self.offsets).save(stem)
        np.save(f"{stem}.order.npy", self.order, allow_pickle=False)

    @classmethod
    def load(cls, stem: Path) -> Postings:
        """Memory-map what `save` wrote."""
        places = Ragged.load(stem)
        return cls(load_array(f"{stem}.order.npy"), places.values, places.offsets)


@compiled
def propose(tokens: Any, weights: Any, postings: Any, most: Any, allowed: Any, count: Any) -> Any:
    """Up to `count` items with the highest sum of the weights of the tokens that they have, of equals the most clicked.

    Of all lists at most `most` postings are read, those of the heaviest tokens first. Where `allowed`, a bitmap of
    items, is not empty, others are left out.
    """
    order, places, offsets = postings
    at, ends, heavy = _lists(tokens, weights, offsets, most)
    slate = np.zeros(_BLOCK, np.float32)
    touched, hopeful = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    values, found, number = np.empty(2 * count + _BLOCK, np.float32), np.empty(2 * count + _BLOCK, np.int32), 0
    least = np.float32(0)  # what an item must have more than
    while True:
        proposing = _proposing(at, ends, heavy, least)
        first = len(order)
        for t in range(proposing):
            if at[t] < ends[t]:
                first = min(first, places[at[t]])
        if first == len(order):
            break
        new = 0
        for t in range(len(heavy)):
            place, end, weight = at[t], ends[t], heavy[t]
            if t >= proposing:
                place = _seek(places, place, end, first)
            while place < end and places[place] < first + _BLOCK:
                here = places[place] - first
                if slate[here] == 0 and t < proposing:
                    touched[new] = here
                    new += 1
                if slate[here] > 0 or t < proposing:
                    slate[here] += weight
                place += 1
            at[t] = place
        some = 0
        for place in touched[:new]:
            if slate[place] > least:
                hopeful[some] = place
                some += 1
        for place in np.sort(hopeful[:some]):
            item = order[first + place]
            if len(allowed) == 0 or (allowed[item >> 3] >> (item & 7)) & 1:
                values[number], found[number] = slate[place], item
                number += 1
        for place in touched[:new]:
            slate[place] = 0
        if number >= 2 * count:
            kept = largest(values[:number], count)
            values[:count], found[:count], number = values[kept], found[kept], count
            least = values[:count].min()
    return found[largest(values[:number], count)]


@compiled
def _lists(tokens: Any, weights: Any, offsets: Any, most: Any) -> Any:
    """Where the postings of each token begin and end (T,), and its weight, the heaviest first; of all at most `most`
    are read, those of the heaviest first."""
    sequence = np.argsort(-weights)
    at, ends = np.empty(len(tokens), np.int64), np.empty(len(tokens), np.int64)
    for t in range(len(tokens)):
        token = tokens[sequence[t]]
        at[t] = offsets[token]
        ends[t] = min(offsets[token + 1], at[t] + most)
        most -= ends[t] - at[t]
    return at, ends, weights[sequence]


@compiled
def _proposing(at: Any, ends: Any, heavy: Any, least: Any) -> Any:
    """How many of the lists, the heaviest, still bring items with more than `least`: the others together do not."""
    number, rest = len(heavy), np.float32(0)
    while number > 0:
        if at[number - 1] < ends[number - 1]:
            rest += heavy[number - 1]
        if rest > least * _NEARLY:
            break
        number -= 1
    return number


@compiled
def _seek(values: Any, at: Any, end: Any, wanted: Any) -> Any:
    """The first place from `at` on, before `end`, where the sorted values are at least `wanted`: steps that double."""
    step = 1
    while at + step < end and values[at + step] < wanted:
        at += step
        step *= 2
    last = min(at + step, end)
    while at < last:
        middle = (at + last) // 2
        if values[middle] < wanted:
            at = middle + 1
        else:
            last = middle
    return at
