"""Hybrid retrieval: the towers' inner product, plus what query and item share in words, plus what was clicked before.

score(q, i) = max over heads of q_h . i + lexical * coverage(q, i) + memory * share(q, i) + trend * trend(i)

Candidates are the vector index's best, the items that share most words with the query, and those clicked for it before;
of all of them the score is computed exactly, so that `search` ranks by what `score` gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from twinspire.errors import BundleError
from twinspire.index.filters import FilterIndex
from twinspire.index.lexical import POPULARITY
from twinspire.index.memory import NOTHING
from twinspire.index.postings import MOST_POSTINGS, Postings
from twinspire.index.ranking import rank, rank_batch, score
from twinspire.index.tensors import on_host, stacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from twinspire.index.filters import Filters, Selection
    from twinspire.index.lexical import LexicalIndex, QueryTokens
    from twinspire.index.memory import QueryMemory
    from twinspire.index.tensors import Vectors
    from twinspire.index.variation import Variation
    from twinspire.index.vectors import VectorIndex


# Allowed items that are all compared rather than searched for: about what a search of the index costs.
FEW = 20_000
# From this share of the catalogue on, to search for more and leave some out is cheaper than to search inside the index.
BROAD = 0.2
SPARE = 1.3
WIDER = 3  # times as many candidates within filters: the best of a part of the catalogue stand out less
# How much more of the index than without filters is searched: the K best of a tenth of the catalogue lie about as deep
# as the 10 K best of all. Then more and more, until enough is found.
DEEPER = -0.7  # the power of the allowed share
EFFORTS = (1.0, 4.0, 1e9)


class Fusion(BaseModel):
    """Weights of the parts beside the vectors; part of the bundle's manifest. 0 leaves a part out.

    `measured` says on what they were chosen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lexical: float = 0.0
    memory: float = 0.0
    half_life_days: float = 7.0
    trend: float = 0.0
    trend_days: float = 2.0
    candidates: int = 100
    measured: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether vectors alone decide."""
        return self.lexical == 0 and self.memory == 0 and self.trend == 0


class Asked(NamedTuple):
    """One query as the index needs it: its vectors (H, D), its tokens by stream, what was clicked for it before."""

    vectors: Vectors
    tokens: list[QueryTokens]
    items: NDArray[np.int32]
    shares: NDArray[np.float32]
    within: Selection | None = None  # what the query's filters allow


@dataclass(frozen=True)
class HybridIndex:
    """Vector index, lexical index, query memory and the items' trends (n,), one score.

    With `words_alone` vectors neither rank nor propose, and what shares no word with the query is not found; among
    equals the most clicked come first. Searching is as thread-safe as the vector index.
    """

    vectors: VectorIndex
    item_vectors: NDArray[np.float32]  # (n, D)
    lexical: LexicalIndex | None
    memory: QueryMemory | None
    fusion: Fusion
    trend: NDArray[np.float32] | None = None
    filters: FilterIndex = field(default_factory=lambda: FilterIndex({}, 0))
    words_alone: bool = False

    def varied(self, variation: Variation) -> HybridIndex:
        """The same index with other weights; nothing is copied.

        Errors: BundleError for a part that the bundle does not have.
        """
        own = {name: getattr(self.fusion, name) for name in ("lexical", "memory", "trend")}
        weights = variation.weights(own)
        for name, weight in weights.items():
            if weight and getattr(self, name) is None:
                raise BundleError(
                    f"parameters.{name}: the bundle was written without it; fit with --set retrieval.{name}=WEIGHT, or "
                    "leave it out"
                )
        alone = variation.retrieval == "lexical"
        if alone and not weights["lexical"]:
            raise BundleError("parameters.lexical: words alone need a weight above 0")
        return replace(self, fusion=self.fusion.model_copy(update=weights), words_alone=alone)

    def ask(
        self, texts: Sequence[str], vectors: Vectors, filters: Sequence[Filters | None] | None = None
    ) -> list[Asked]:
        """B queries with their vectors (B, H, D) and what filters each has.

        Errors: RequestError for filters that there cannot be.
        """
        if self.words_alone:
            vectors = np.zeros_like(vectors)
        return [
            Asked(
                each,
                self.lexical.query(text) if self.lexical else [],
                *(self.memory.of(text) if self.memory else NOTHING),
                self.filters.select(given) if given else None,
            )
            for text, each, given in zip(texts, vectors, filters or [None] * len(texts), strict=True)
        ]

    def search(self, asked: Sequence[Asked], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
        """The K best items of B queries: scores, item rows and the best heads, (B, K) each; rows are -1 where short."""
        free = [b for b, each in enumerate(asked) if each.within is None]
        if asked and len(free) == len(asked):
            return self._search_free(asked, k)
        scores, rows, heads = _nothing_found(len(asked), k)
        if free:
            scores[free], rows[free], heads[free] = self._search_free([asked[b] for b in free], k)
        for b, each in enumerate(asked):
            if each.within is not None:
                self._search_within(each, each.within, scores[b], rows[b], heads[b])
        return scores, rows, heads

    def _search_free(
        self, asked: Sequence[Asked], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
        """Of the whole catalogue, in one batch."""
        vectors = stacked([each.vectors for each in asked])
        if self.fusion.is_plain:
            return self.vectors.search(vectors, k)
        wide = k + self.fusion.candidates
        if self.words_alone:
            near = np.full((len(asked), 1), -1)
        else:
            near = self.vectors.candidates(vectors, k, spare=self.fusion.candidates)
        scores, rows, heads = _nothing_found(len(asked), k)
        words, weights = self._words(asked)
        which, postings = -1, _NO_POSTINGS
        if self.lexical is not None and self.fusion.lexical:
            which, postings = self.lexical.words, self.lexical.postings
        own = weights[max(which, 0)]
        rank_batch(
            near, on_host(vectors), self.item_vectors, words, which, own, postings, MOST_POSTINGS, wide,
            *self._known(asked), self._trend, scores, rows, heads,
        )  # fmt: skip
        return scores, rows, heads

    def _search_within(
        self,
        asked: Asked,
        within: Selection,
        scores: NDArray[np.float32],
        rows: NDArray[np.int64],
        heads: NDArray[np.int8],
    ) -> None:
        """Of the items that a query's filters allow: all of them where they are few, else those that any part proposes.

        Fills `scores`, `rows` and `heads` (K,) from the front.
        """
        words, _ = self._words([asked])
        known, shares, _ = self._known([asked])
        every = None if self.words_alone else within.few(FEW)
        near, proposed = (every, NOTHING[0]) if every is not None else self._allowed(asked, within, len(scores))
        if len(known):
            kept = within.allows(known)
            known, shares = known[kept], shares[kept]
        rank(
            near,
            proposed,
            on_host(asked.vectors),
            self.item_vectors,
            words,
            0,
            known,
            shares,
            self._trend,
            scores,
            rows,
            heads,
        )

    def _allowed(self, asked: Asked, within: Selection, k: int) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
        """What the vectors and the words propose, allowed items alone."""
        wide = WIDER * (k + self.fusion.candidates)
        spared = int(SPARE * wide / within.share) if within.share >= BROAD else 0
        proposed = self._allowed_words(asked, within, wide, spared)
        if self.words_alone:
            return np.zeros(0, np.int64), proposed
        if spared:
            near = self.vectors.candidates(asked.vectors[None], spared)[0]
            near = near[within.allows(near)]
            if len(near) >= wide:
                return near, proposed
        try:
            deep = max(within.share, 1e-9) ** DEEPER
            for more in EFFORTS:
                near = self.vectors.candidates(
                    asked.vectors[None], k, spare=wide - k, within=within.bitmap, effort=deep * more
                )[0]
                near = near[near >= 0]
                if len(near) >= wide:
                    break
        except NotImplementedError:  # an index that cannot look at allowed items alone: all of them, then
            near = within.every()
        return near, proposed

    def _allowed_words(self, asked: Asked, within: Selection, wide: int, spared: int) -> NDArray[np.int32]:
        """What the words propose: `wide` allowed items, or of `spared` the allowed ones, where these are enough."""
        if self.lexical is None or not self.fusion.lexical:
            return NOTHING[0]
        if spared:
            found = self.lexical.candidates(asked.tokens, spared)
            kept = found[within.allows(found)]
            if len(kept) >= wide or len(found) < spared:
                return kept
        return self.lexical.candidates(asked.tokens, wide, within.bitmap)

    def scores(self, asked: Asked, rows: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Scores of these items (M,) for one query, and the head that each comes from."""
        scores, heads = np.empty(len(rows), np.float32), np.empty(len(rows), np.int8)
        words, _ = self._words([asked])
        known, shares, _ = self._known([asked])
        rows = rows.astype(np.int64, copy=False)
        vectors = on_host(asked.vectors)
        score(rows, vectors, self.item_vectors, words, 0, known, shares, self._trend, scores, heads, len(rows))
        return scores, heads

    def beside(self, asked: Asked, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """What words, memory and trend add to the inner product with these items, (M,)."""
        added = np.float32(self.fusion.memory) * share_of(asked, rows)
        if self.lexical is not None and self.fusion.lexical:
            added += np.float32(self.fusion.lexical) * self.lexical.coverage(asked.tokens, rows)
        if len(self._trend):
            added += self._trend[rows]
        return added

    @cached_property
    def _trend(self) -> NDArray[np.float32]:
        """Each item's trend (n,) with its weight, and for words alone what orders equals; (0,) where neither counts."""
        trend = NOTHING[1]
        if self.trend is not None and self.fusion.trend:
            trend = np.float32(self.fusion.trend) * self.trend
        if self.words_alone and self.lexical is not None:
            popular = np.float32(self.fusion.lexical) * POPULARITY * self.lexical.popularity
            trend = trend + popular if len(trend) else popular
        return trend

    def _words(self, asked: Sequence[Asked]) -> tuple[Any, list[NDArray[np.float32]]]:
        """The queries' tokens beside the items', by stream, as `ranking.score` takes them, weighed; and their own
        weights."""
        if self.lexical is None or not self.fusion.lexical:
            none = (*NOTHING, np.zeros(len(asked) + 1, np.int64), np.zeros(0, np.int32), np.zeros(1, np.int64))
            return (none, none), [NOTHING[1]]
        weight = np.float32(self.fusion.lexical)
        words, weights = [], []
        for place, stream in enumerate(self.lexical.streams.values()):
            tokens = [each.tokens[place] for each in asked]
            rows, starts = _joined([each.rows for each in tokens])
            own, _ = _joined([each.weights for each in tokens])
            words.append((rows, own * weight, starts, stream.tokens.values, stream.tokens.offsets))
            weights.append(own)
        return tuple(words), weights

    def _known(self, asked: Sequence[Asked]) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
        """Remembered items of all queries, their weighed shares, and where those of each query begin."""
        items, starts = _joined([each.items for each in asked])
        shares, _ = _joined([each.shares for each in asked])
        return items, shares * np.float32(self.fusion.memory), starts


def share_of(asked: Asked, rows: NDArray[np.integer]) -> NDArray[np.float32]:
    """The share that each item (M,) had of the clicks remembered for the query."""
    if not len(asked.items):
        return np.zeros(len(rows), np.float32)
    place = np.minimum(np.searchsorted(asked.items, rows), len(asked.items) - 1)
    return np.where(asked.items[place] == rows, asked.shares[place], np.float32(0))


def _joined(parts: list[Any]) -> tuple[Any, NDArray[np.int64]]:
    """All parts (B,) as one, and where each begins, (B + 1,)."""
    starts = np.array([*accumulate(map(len, parts), initial=0)], np.int64)
    return parts[0] if len(parts) == 1 else np.concatenate(parts), starts


def _nothing_found(batch: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
    """Scores, rows and heads, (B, K) each, of nothing."""
    return (
        np.full((batch, k), -np.inf, np.float32),
        np.full((batch, k), -1, np.int64),
        np.zeros((batch, k), np.int8),
    )


_NO_POSTINGS = Postings(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(1, np.int64))
