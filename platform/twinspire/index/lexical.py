"""Which tokens a query and an item share: the lexical half of hybrid retrieval.

Coverage is the share of the query's tokens that the item's text has, each token by its inverse document frequency, the
mean of it over words (with pairs of neighbours) and character trigrams. It lies in [0, 1] for every query, so that it
can be added to a cosine; BM25 has another scale for each query.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twinspire.compiled import compiled
from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.features.dictionaries import Dictionaries
    from twinspire.index.filters import Selection

# Read for one query at the most, the rarest tokens first. Of a million items 200,000 find what differs in 0.3 of the
# first thousand proposals, and take four times as long.
MOST_POSTINGS = 30_000
POPULARITY = np.float32(1e-3)  # of the highest weight: among items with the same tokens the most clicked come first
_BUCKETS = 1024  # in which weights are counted, to find the largest


class QueryTokens(NamedTuple):
    """The distinct tokens of one query in one stream: sorted `rows` (T,), and their `weights` (T,), which over all
    streams add up to 1, less those of tokens that are in no vocabulary."""

    rows: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Stream:
    """One text stream of the catalogue: the distinct tokens of each item, sorted, and each token's idf (V,)."""

    tokens: Ragged
    idf: NDArray[np.float32]

    @classmethod
    def of(cls, bags: Ragged, vocabulary: int) -> Stream:
        """From the items' bags (n,) of vocabulary rows."""
        values = bags.values.astype(np.int32, copy=True)
        offsets = np.zeros(len(bags) + 1, np.int64)
        length = _distinct(values, bags.offsets, offsets)
        frequency = np.bincount(values[:length], minlength=vocabulary)
        idf = np.log1p((len(bags) - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        return cls(Ragged(values[:length].copy(), offsets), idf)

    def inverted(self, order: NDArray[np.int64]) -> Ragged:
        """The items of each token, (V,), in the order that `order` (n,) lists them."""
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        owner = np.repeat(np.arange(len(self.tokens), dtype=np.int32), self.tokens.lengths)
        sequence = np.lexsort((rank[owner], self.tokens.values))
        counts = np.bincount(self.tokens.values, minlength=len(self.idf))
        return Ragged.from_lengths(owner[sequence], counts)


class LexicalIndex:
    """The catalogue's tokens. Immutable but for scratch memory of each thread: may be shared between threads."""

    def __init__(
        self,
        dictionaries: Dictionaries,
        streams: Mapping[str, Stream],
        clicks: NDArray[np.integer],
        postings: Ragged | None = None,
    ) -> None:
        """`clicks` (n,) of each item break ties; `postings` (V,) are the items of each word, made where not given."""
        self.dictionaries, self.streams = dictionaries, dict(streams)
        self.size = len(clicks)
        self._highest = np.float32(np.log1p(self.size))
        self.popularity = (np.log1p(clicks) / max(np.log1p(clicks.max(initial=0)), 1e-9)).astype(np.float32)
        if postings is None:
            postings = self.streams["words"].inverted(np.argsort(-self.popularity, kind="stable"))
        self._postings = postings
        self._local = threading.local()

    @classmethod
    def build(
        cls, dictionaries: Dictionaries, items: Mapping[str, Ragged], clicks: NDArray[np.integer]
    ) -> LexicalIndex:
        """From the text bags of the items, `words` and `grams`, (n,) each."""
        streams = {
            name: Stream.of(items[name], vocabulary.size) for name, vocabulary in dictionaries.vocabularies.items()
        }
        return cls(dictionaries, streams, clicks)

    def query(self, text: str) -> list[QueryTokens]:
        """The tokens of a query, by stream."""
        tokens = self.dictionaries.tokeniser.encode_one(text)
        hashes = [getattr(tokens, name).values for name in self.streams]
        # A script without trigrams, or a query of one sign, has one stream alone.
        share = np.float32(1 / max(sum(1 for values in hashes if len(values)), 1))
        return [
            QueryTokens(*_weigh(values, self.dictionaries.vocabularies[name].remap, stream.idf, self._highest, share))
            for values, (name, stream) in zip(hashes, self.streams.items(), strict=True)
        ]

    def coverage(self, query: list[QueryTokens], rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Coverage of a query by these items, (M,) in [0, 1]."""
        total = np.zeros(len(rows), np.float32)
        for tokens, stream in zip(query, self.streams.values(), strict=True):
            if len(tokens.rows):
                cover(tokens.rows, tokens.weights, stream.tokens.values, stream.tokens.offsets, rows, total)
        return total

    def candidates(self, query: list[QueryTokens], count: int, allowed: Selection | None = None) -> NDArray[np.int32]:
        """Up to `count` items, of those `allowed`, that share most with the query's words; among equals the most
        clicked."""
        words = query[self.words]
        if not len(words.rows):
            return np.zeros(0, np.int32)
        slate, touched = self.scratch()
        number = accumulate(words.rows, words.weights, *self.postings, slate, touched)
        found = touched[:number]
        kept = found if allowed is None else found[allowed.allows(found)]
        best: NDArray[np.int32] = proposals(kept, slate, self.popularity, count)
        if allowed is not None:
            slate[found] = 0
        return best

    @property
    def words(self) -> int:
        """The place of the words among the streams: they propose items."""
        return list(self.streams).index("words")

    @property
    def postings(self) -> tuple[Any, Any, int]:
        """What `accumulate` reads: the items of each word, where those of each begin, and how many are read for a
        query."""
        return self._postings.values, self._postings.offsets, MOST_POSTINGS

    def scratch(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """This thread's memory for `accumulate`: zeros for each item, (n,), and room for the touched ones."""
        if not hasattr(self._local, "scores"):
            self._local.scores = np.zeros(self.size, np.float32)
            self._local.touched = np.empty(self.size, np.int32)
        return self._local.scores, self._local.touched

    def save(self, folder: Path) -> None:
        """Write each stream's tokens and idf, and the words' postings, into a new folder."""
        folder.mkdir()
        self._postings.save(folder / "postings")
        for name, stream in self.streams.items():
            stream.tokens.save(folder / name)
            np.save(folder / f"{name}.idf.npy", stream.idf, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, dictionaries: Dictionaries, clicks: NDArray[np.integer]) -> LexicalIndex:
        """Read what `save` wrote, memory-mapped."""
        streams = {
            name: Stream(Ragged.load(folder / name), np.load(folder / f"{name}.idf.npy", allow_pickle=False))
            for name in dictionaries.vocabularies
        }
        return cls(dictionaries, streams, clicks, Ragged.load(folder / "postings"))


@compiled
def _distinct(values: Any, offsets: Any, out_offsets: Any) -> Any:
    """Sort each bag in place and leave out repeats, moving the rest to the front; gives their number."""
    at = 0
    for i in range(len(offsets) - 1):
        bag = np.sort(values[offsets[i] : offsets[i + 1]])
        for j in range(len(bag)):
            if j == 0 or bag[j] != bag[j - 1]:
                values[at] = bag[j]
                at += 1
        out_offsets[i + 1] = at
    return at


@compiled
def _weigh(hashes: Any, remap: Any, idf: Any, highest: Any, share: Any) -> Any:
    """The distinct known tokens of a query, sorted, and their weights: of all tokens' idf, unknown ones' the highest,
    their part times `share`."""
    rows, number = np.empty(len(hashes), np.int32), 0
    total, last = np.float32(0), -1
    for value in np.sort(hashes):
        if value == last:
            continue
        last = value
        row = remap[value] if value < len(remap) else 0
        total += min(idf[row], highest) if row else highest
        if row:
            rows[number] = row
            number += 1
    rows = np.sort(rows[:number])
    weights = np.empty(number, np.float32)
    for place in range(number):
        weights[place] = share * min(idf[rows[place]], highest) / total
    return rows, weights


@compiled
def cover(wanted: Any, weights: Any, values: Any, offsets: Any, rows: Any, total: Any) -> None:
    """Add the weights of the `wanted` tokens (sorted) that each item of `rows` has."""
    if len(wanted) == 0:
        return
    # All items' tokens are asked of memory before any is looked at, so that their waits go side by side.
    first = np.empty(len(rows), np.int64)
    for m in range(len(rows)):
        first[m] = offsets[rows[m]]
    seen = 0
    for m in range(len(rows)):
        seen |= values[first[m]] if first[m] < len(values) else 0
    if seen < 0:  # never: or the compiler would leave the loop out
        total[0] += 1
    for m in range(len(rows)):
        at, end = first[m], offsets[rows[m] + 1]
        for t in range(len(wanted)):
            token = wanted[t]
            while at < end and values[at] < token:
                at += 1
            if at == end:
                break
            if values[at] == token:
                total[m] += weights[t]


@compiled
def accumulate(tokens: Any, weights: Any, items: Any, offsets: Any, budget: int, slate: Any, touched: Any) -> Any:
    """Add each token's weight to its items' places on the slate (n,), the heaviest tokens first, until `budget`
    postings are read. Gives the number of items that are not zero any more; they are the first of `touched`."""
    number, left = 0, budget
    for t in np.argsort(-weights):
        first, last = offsets[tokens[t]], offsets[tokens[t] + 1]
        last = min(last, first + left)
        left -= last - first
        for place in range(first, last):
            item = items[place]
            if slate[item] == 0:
                touched[number] = item
                number += 1
            slate[item] += weights[t]
    return number


@compiled
def proposals(touched: Any, slate: Any, popularity: Any, count: Any) -> Any:
    """Of the touched items the `count` with the most on the slate, of nearly equal ones the most clicked; the slate is
    cleared of all of them. `popularity` (n,) is at most 1."""
    number = len(touched)
    values, highest = np.empty(number, np.float32), np.float32(0)
    for place in range(number):
        values[place] = slate[touched[place]]
        slate[touched[place]] = 0
        highest = max(highest, values[place])
    if number <= count:
        return touched.copy()
    # The middle of a bucket is where equals are expected, at the highest too.
    scale, half = np.float32((_BUCKETS - 2) / highest), np.float32(0.5)
    held = np.zeros(_BUCKETS, np.int64)
    for place in range(number):
        held[int(values[place] * scale + half)] += 1
    last, above = _BUCKETS - 1, 0
    while above + held[last] < count:
        above += held[last]
        last -= 1
    # All of the buckets above, and of this one the best.
    best, at = np.empty(count, touched.dtype), 0
    inside, keys, among = np.empty(held[last], touched.dtype), np.empty(held[last], np.float32), 0
    for place in range(number):
        bucket = int(values[place] * scale + half)
        if bucket > last:
            best[at] = touched[place]
            at += 1
        elif bucket == last:
            inside[among] = touched[place]
            keys[among] = -values[place] - POPULARITY * highest * popularity[touched[place]]
            among += 1
    for place in np.argpartition(keys, count - above - 1)[: count - above]:
        best[at] = inside[place]
        at += 1
    return best
