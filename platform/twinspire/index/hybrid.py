"""Hybrid retrieval: the towers' inner product, plus what query and item share in words, plus what was clicked before.

score(q, i) = max over heads of q_h . i + lexical * coverage(q, i) + memory * share(q, i) + trend * trend(i)

Candidates are the vector index's best, the items that share most words with the query, and those clicked for it before;
of all of them the score is computed exactly, so that `search` ranks by what `score` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from pydantic import BaseModel, ConfigDict

from twinspire.index.lexical import cover
from twinspire.index.memory import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from twinspire.index.lexical import LexicalIndex, QueryTokens
    from twinspire.index.memory import QueryMemory
    from twinspire.index.vectors import VectorIndex


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

    vectors: NDArray[np.float32]
    tokens: list[QueryTokens]
    items: NDArray[np.int32]
    shares: NDArray[np.float32]


@dataclass(frozen=True)
class HybridIndex:
    """Vector index, lexical index, query memory and the items' trends (n,), one score.

    Searching is as thread-safe as the vector index.
    """

    vectors: VectorIndex
    item_vectors: NDArray[np.float32]  # (n, D)
    lexical: LexicalIndex | None
    memory: QueryMemory | None
    fusion: Fusion
    trend: NDArray[np.float32] | None = None

    def ask(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> list[Asked]:
        """B queries with their vectors (B, H, D)."""
        return [
            Asked(
                each,
                self.lexical.query(text) if self.lexical else [],
                *(self.memory.of(text) if self.memory else NOTHING),
            )
            for text, each in zip(texts, vectors, strict=True)
        ]

    def search(self, asked: Sequence[Asked], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
        """The K best items of B queries: scores, item rows and the best heads, (B, K) each; rows are -1 where short."""
        if not len(asked):
            return np.zeros((0, k), np.float32), np.zeros((0, k), np.int64), np.zeros((0, k), np.int8)
        vectors = np.stack([each.vectors for each in asked])
        if self.fusion.is_plain:
            return self.vectors.search(vectors, k)
        _, near, _ = self.vectors.search(vectors, k + self.fusion.candidates)
        scores = np.full((len(asked), k), -np.inf, np.float32)
        rows, heads = np.full((len(asked), k), -1, np.int64), np.zeros((len(asked), k), np.int8)
        for b, each in enumerate(asked):
            proposed = self._proposed(each, k)
            _rank(near[b], proposed, *self._parts(each), scores[b], rows[b], heads[b])
        return scores, rows, heads

    def scores(self, asked: Asked, rows: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Scores of these items (M,) for one query, and the head that each comes from."""
        scores, heads = np.empty(len(rows), np.float32), np.empty(len(rows), np.int8)
        _score(rows.astype(np.int64, copy=False), *self._parts(asked), scores, heads)
        return scores, heads

    def beside(self, asked: Asked, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """What words, memory and trend add to the inner product with these items, (M,)."""
        added = np.float32(self.fusion.memory) * share_of(asked, rows)
        if self.lexical is not None and self.fusion.lexical:
            added += np.float32(self.fusion.lexical) * self.lexical.coverage(asked.tokens, rows)
        if len(self._trend):
            added += self._trend[rows]
        return added

    def _proposed(self, asked: Asked, k: int) -> NDArray[np.int32]:
        """What words propose; memory's items are candidates in any case."""
        if self.lexical is None or not self.fusion.lexical:
            return NOTHING[0]
        return self.lexical.candidates(asked.tokens, k + self.fusion.candidates)

    @cached_property
    def _trend(self) -> NDArray[np.float32]:
        """Each item's trend (n,) with its weight; (0,) where it does not count."""
        if self.trend is None or not self.fusion.trend:
            return NOTHING[1]
        return np.float32(self.fusion.trend) * self.trend

    def _parts(self, asked: Asked) -> tuple[Any, ...]:
        """What the compiled loops need of one query and of the index, weights applied."""
        lexical, memory = self.lexical, np.float32(self.fusion.memory)
        words: tuple[Any, ...] = _NO_WORDS
        if lexical is not None and self.fusion.lexical:
            weight = np.float32(self.fusion.lexical)
            words = tuple(
                (tokens.rows, tokens.weights * weight, stream.tokens.values, stream.tokens.offsets)
                for tokens, stream in zip(asked.tokens, lexical.streams.values(), strict=True)
            )
        return asked.vectors, self.item_vectors, words, asked.items, asked.shares * memory, self._trend


def share_of(asked: Asked, rows: NDArray[np.integer]) -> NDArray[np.float32]:
    """The share that each item (M,) had of the clicks remembered for the query."""
    if not len(asked.items):
        return np.zeros(len(rows), np.float32)
    place = np.minimum(np.searchsorted(asked.items, rows), len(asked.items) - 1)
    return np.where(asked.items[place] == rows, asked.shares[place], np.float32(0))


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def products(queries: Any, items: Any, rows: Any, scores: Any, heads: Any) -> None:
    """The largest inner product over heads of queries (H, D) with the items' vectors at `rows` (M,), and its head."""
    for m in range(len(rows)):
        item = items[rows[m]]
        for h in range(queries.shape[0]):
            product = np.float32(0)
            for d in range(queries.shape[1]):
                product += queries[h, d] * item[d]
            if h == 0 or product > scores[m]:
                scores[m], heads[m] = product, h


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rank(
    near: Any,
    proposed: Any,
    queries: Any,
    items: Any,
    words: Any,
    known: Any,
    shares: Any,
    trend: Any,
    scores: Any,
    rows: Any,
    heads: Any,
) -> None:
    """The best of all candidates, as many as `scores`, `rows` and `heads` (K,) hold; what is left over stays."""
    every = np.empty(len(near) + len(proposed) + len(known), np.int64)
    every[: len(near)] = near
    every[len(near) : len(near) + len(proposed)] = proposed
    every[len(near) + len(proposed) :] = known
    every.sort()
    number = 0
    for place in range(len(every)):
        if every[place] >= 0 and (number == 0 or every[place] != every[number - 1]):
            every[number] = every[place]
            number += 1
    found = every[:number]
    fused, best = np.empty(number, np.float32), np.empty(number, np.int8)
    _score(found, queries, items, words, known, shares, trend, fused, best)
    order = np.argsort(-fused, kind="mergesort")
    for place in range(min(number, len(scores))):
        at = order[place]
        scores[place], rows[place], heads[place] = fused[at], found[at], best[at]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _score(
    rows: Any, queries: Any, items: Any, words: Any, known: Any, shares: Any, trend: Any, scores: Any, heads: Any
) -> None:
    """Fused scores of items (M,) and the heads of the largest inner product, into `scores` and `heads`."""
    products(queries, items, rows, scores, heads)
    for wanted, weights, values, offsets in words:
        if len(wanted):
            cover(wanted, weights, values, offsets, rows, scores)
    for m in range(len(rows)):
        place = np.searchsorted(known, rows[m])
        if place < len(known) and known[place] == rows[m]:
            scores[m] += shares[place]
        if len(trend):
            scores[m] += trend[rows[m]]


_NO_WORDS = ((*NOTHING, np.zeros(0, np.int32), np.zeros(1, np.int64)),) * 2
