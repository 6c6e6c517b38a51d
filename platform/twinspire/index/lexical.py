"""Which tokens a query and an item share: the lexical half of hybrid retrieval.

Coverage is the share of the query's tokens that the item's text has, each token by its inverse document frequency, the
mean of it over words (with pairs of neighbours) and character trigrams. It lies in [0, 1] for every query, so that it
can be added to a cosine; BM25 has another scale for each query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twinspire.compiled import compiled
from twinspire.index.postings import EVERY, MOST_POSTINGS, Postings, propose
from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.features.dictionaries import Dictionaries

POPULARITY = np.float32(1e-3)  # of the highest weight: among items with the same tokens the most clicked come first
POSTINGS = "postings"


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


class LexicalIndex:
    """The catalogue's tokens. Immutable: may be shared between threads."""

    def __init__(
        self,
        dictionaries: Dictionaries,
        streams: Mapping[str, Stream],
        clicks: NDArray[np.integer],
        postings: Postings | None = None,
    ) -> None:
        """`clicks` (n,) of each item break ties; `postings` are made where not given."""
        self.dictionaries, self.streams = dictionaries, dict(streams)
        self.size = len(clicks)
        self._highest = np.float32(np.log1p(self.size))
        self.popularity = (np.log1p(clicks) / max(np.log1p(clicks.max(initial=0)), 1e-9)).astype(np.float32)
        words = self.streams["words"]
        self.postings = postings or Postings.of(words.tokens, len(words.idf), clicks)

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

    def candidates(
        self, query: list[QueryTokens], count: int, allowed: NDArray[np.uint8] | None = None
    ) -> NDArray[np.int32]:
        """Up to `count` items that share most with the query's words; among equals the most clicked.

        `allowed` is a bitmap (ceil(n / 8),) of the items that may be found, lowest bit first.
        """
        words = query[self.words]
        found: NDArray[np.int32] = propose(
            words.rows, words.weights, self.postings, MOST_POSTINGS, EVERY if allowed is None else allowed, count
        )
        return found

    @property
    def words(self) -> int:
        """The place of the words among the streams: they propose items."""
        return list(self.streams).index("words")

    def save(self, folder: Path) -> None:
        """Write each stream's tokens and idf, and the words' postings, into a new folder."""
        folder.mkdir()
        self.postings.save(folder / POSTINGS)
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
        there = (folder / f"{POSTINGS}.order.npy").exists()  # not in bundles before format 5
        return cls(dictionaries, streams, clicks, Postings.load(folder / POSTINGS) if there else None)


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
