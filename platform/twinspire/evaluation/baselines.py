"""Systems to beat: BM25 over titles, the most clicked items, and what was clicked for the same query (6.2.2)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import bm25s
import numpy as np

from twinspire.text import normalise, normalise_column
from twinspire.text.words import words

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from twinspire.evaluation.clicks import TrainingClicks
    from twinspire.features.query import Query


class QueryOnly:
    """A system whose scores depend on the normalised query alone: each is scored once a call."""

    name: str

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def query_scores(self, query: str) -> NDArray[np.float32]:
        """Scores (n_items,) of one normalised query."""
        raise NotImplementedError

    def best(self, query: Query, k: int) -> NDArray[np.integer]:
        """Rows of the `k` best items of one query, best first; all of them where there are fewer."""
        return best_rows(self.query_scores(normalise(query.text)), k)

    def scores(self, cases: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (B, n_items) of the cases' queries."""
        distinct, row = distinct_queries(cases["query"])
        table = np.empty((len(distinct), self.n_items), np.float32)
        for i, query in enumerate(distinct):
            table[i] = self.query_scores(query)
        return table[row]

    def pair_scores(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (P,) of pairs of `query` and `item` (row in the items table)."""
        distinct, row = distinct_queries(pairs["query"])
        items = pairs["item"].to_numpy()
        order = np.argsort(row, kind="stable")
        result = np.empty(len(pairs), np.float32)
        bounds = np.searchsorted(row[order], np.arange(len(distinct) + 1))
        for i, query in enumerate(distinct):
            rows = order[bounds[i] : bounds[i + 1]]
            result[rows] = self.query_scores(query)[items[rows]]
        return result


class Popularity(QueryOnly):
    """Training clicks of the item, whatever the query."""

    name = "popularity"

    def __init__(self, training: TrainingClicks) -> None:
        super().__init__(len(training.items))
        self._clicks = training.items.astype(np.float32)

    def query_scores(self, query: str) -> NDArray[np.float32]:
        """Scores (n_items,), the same for every query."""
        return self._clicks


class BM25(QueryOnly):
    """BM25 over titles, in Lucene's variant: k1 = 1.5, b = 0.75, no stemming, no stop words.

    With `bigrams` two neighbouring words are a term too, and a title is as long as it has terms (BM2.5-u&b of 6.2.2).
    """

    def __init__(self, titles: pl.Series, *, bigrams: bool = False) -> None:
        super().__init__(len(titles))
        self.name, self._bigrams = "bm25-u&b" if bigrams else "bm25", bigrams
        corpus = [self._terms(title) for title in titles.fill_null("")]
        self._index: bm25s.BM25 | None = None
        if any(corpus):
            self._index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
            self._index.index(corpus, show_progress=False)

    def query_scores(self, query: str) -> NDArray[np.float32]:
        """Scores (n_items,); zeros where no word of the query is in any title."""
        terms = self._terms(query)
        if self._index is None or not terms:
            return np.zeros(self.n_items, np.float32)
        return np.asarray(self._index.get_scores(terms), np.float32)

    def best(self, query: Query, k: int) -> NDArray[np.integer]:
        """Rows of the `k` best items by the engine's own retrieval, in this thread."""
        terms = self._terms(query.text)
        k = min(k, self.n_items)
        if self._index is None or not terms:
            return np.arange(k)
        found = self._index.retrieve([terms], k=k, return_as="documents", show_progress=False, n_threads=0)
        return np.asarray(found[0], np.int64)

    def _terms(self, text: str) -> list[str]:
        unigrams = words(text)
        if not self._bigrams:
            return unigrams
        return unigrams + [f"{first} {second}" for first, second in pairwise(unigrams)]


class QueryMemory(QueryOnly):
    """The items most clicked for the same query in training; then by BM25, then by popularity."""

    name = "query memory"

    def __init__(self, training: TrainingClicks, bm25: BM25) -> None:
        super().__init__(bm25.n_items)
        self._bm25 = bm25
        grouped = training.pairs.group_by("query").agg("item", "clicks")
        self._memory = {query: (items, clicks) for query, items, clicks in grouped.iter_rows()}
        # In [0, 1), one step a distinct number of clicks: the order of items that neither memory nor BM25
        # finds.
        _, step = np.unique(training.items, return_inverse=True)
        self._popularity = (step / (step.max(initial=0) + 1)).astype(np.float32)
        self._step = step

    def query_scores(self, query: str) -> NDArray[np.float32]:
        """Scores (n_items,): below 1 by popularity, above it by place in the order of all three."""
        lexical = self._bm25.query_scores(query)
        remembered = np.zeros(self.n_items, np.int64)
        if query in self._memory:
            items, clicks = self._memory[query]
            remembered[items] = clicks
        found = np.flatnonzero((lexical > 0) | (remembered > 0))
        keys = np.stack([self._step[found], lexical[found], remembered[found]])
        order = np.lexsort(keys)
        ordered = keys[:, order]
        rises = np.concatenate([[0], (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)])[: len(order)]
        scores: NDArray[np.float32] = self._popularity.copy()
        scores[found[order]] = 1 + np.cumsum(rises)
        return scores


def baselines(titles: pl.Series, training: TrainingClicks) -> list[QueryOnly]:
    """BM25 without and with bigrams, query memory and popularity over one catalogue; titles by row."""
    bm25 = BM25(titles)
    return [bm25, BM25(titles, bigrams=True), QueryMemory(training, bm25), Popularity(training)]


def best_rows(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Rows of the `k` highest of `scores` (n,), best first; all of them where there are fewer."""
    if k >= len(scores):
        return np.argsort(-scores)
    found = np.argpartition(-scores, k)[:k]
    return found[np.argsort(-scores[found])]


def distinct_queries(queries: pl.Series) -> tuple[list[str], NDArray[np.intp]]:
    """The distinct normalised queries (U,) and each row's place among them (B,)."""
    normal = normalise_column(queries).alias("query").to_frame()
    distinct = normal.unique(maintain_order=True).with_row_index("row")
    row = normal.join(distinct, on="query", how="left", maintain_order="left")["row"]
    return distinct["query"].to_list(), row.to_numpy().astype(np.intp)
