"""The shop that shoppers see, as in the paper's 6.3: retrieval proposes, one ranking shared by all arms decides.

Candidates are what the shop's own inverted index finds (BM25, the same in every arm) and what the arm's retrieval adds.
All of them go through the same ranking, a model that was learnt from the log and knows the shopper's profile: nothing
of the truth. So an arm differs by its candidates alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from twinspire.features.query import Query, Shopper
from twinspire.simulation.lexical import rank_pool

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.bundle import Bundle
    from twinspire.simulation import Choices, Truth
    from twinspire.simulation.arrays import Ints

OWN = 100  # candidates of the inverted index
CLICKED = 10  # at the most, those that were clicked for the very same query before
PAGE = 20
_AT_ONCE = 512


class Catalogue:
    """The market's tables as the shop needs them: ids and texts by row, and BM25 for each query."""

    def __init__(self, market: Path, truth: Truth) -> None:
        items = pl.read_parquet(market / "items.parquet", columns=["item_id", "title"])
        users = pl.read_parquet(market / "users.parquet", columns=["user_id"])
        self.item_ids: list[str] = items["item_id"].to_list()
        self.item_rows = {item: row for row, item in enumerate(self.item_ids)}
        self.user_ids: list[str] = users["user_id"].to_list()
        self.prices = truth.items.price
        self.texts = truth.queries.text
        clicks = _clicks(market, items["item_id"], pl.Series(self.texts))
        popularity = (np.bincount(clicks["item"], clicks["len"], len(items)) + 1).astype(np.float64)
        found = rank_pool(items["title"], pl.Series(self.texts), popularity, min(OWN, len(items))).items
        self.found = np.concatenate([found, _remembered(clicks, len(self.texts))], axis=1)  # (Q, OWN + CLICKED)

    def query(self, user: int, query: int) -> Query:
        """A shopper's query as a bundle takes it."""
        return Query(self.texts[query], Shopper(self.user_ids[user]))


def _clicks(market: Path, items: pl.Series, texts: pl.Series) -> pl.DataFrame:
    """How often (len) each item was clicked for each query in the log, as rows of both."""
    log = pl.scan_parquet(market / "interactions" / "*.parquet").filter(pl.col("event") == "click")
    counted = log.group_by("query", "item_id").len().collect()
    item = pl.DataFrame({"item_id": items, "item": np.arange(len(items))})
    text = pl.DataFrame({"query": texts, "text": np.arange(len(texts))})
    return counted.join(item, on="item_id").join(text, on="query").select("text", "item", "len")


def _remembered(clicks: pl.DataFrame, queries: int) -> Ints:
    """The items that were clicked most for each query, (Q, CLICKED); -1 behind the last."""
    best = clicks.sort("text", "len", "item", descending=[False, True, False])
    best = best.with_columns(pl.int_range(pl.len()).over("text").alias("place")).filter(pl.col("place") < CLICKED)
    found = np.full((queries, CLICKED), -1, dtype=np.int32)
    found[best["text"].to_numpy(), best["place"].to_numpy()] = best["item"].to_numpy()
    return found


class Ranking:
    """The shop's own candidates and its one ranking; without `own`, the ranking of the arm's candidates alone."""

    def __init__(self, catalogue: Catalogue, model: Bundle, *, own: bool = True) -> None:
        self.catalogue, self._model, self._own = catalogue, model, own

    def page(self, user: Ints, query: Ints, added: Ints) -> Ints:
        """Of the shop's own candidates and `added` (B, K) the best PAGE for each, (B, PAGE); -1 behind the last."""
        pages = np.full((len(query), PAGE), -1, dtype=np.int32)
        together = np.concatenate([self.catalogue.found[query], added], axis=1) if self._own else added
        for start in range(0, len(query), _AT_ONCE):
            block = range(start, min(start + _AT_ONCE, len(query)))
            asked = self._model.ask([self.catalogue.query(user[row], query[row]) for row in block])
            for row, one in zip(block, asked, strict=True):
                candidates = np.unique(together[row])
                candidates = candidates[candidates >= 0]
                scores, _ = self._model.index.scores(one, candidates)
                best = candidates[np.argsort(-scores, kind="stable")[:PAGE]]
                pages[row, : len(best)] = best
        return pages


class Retrieval(Protocol):
    """What an arm adds."""

    def add(self, user: Ints, query: Ints) -> Ints:
        """Candidates (B, K) for shoppers (B,) and their queries (B,); -1 where short."""
        ...


class InProcess:
    """A bundle's K best, without a server; asked once a text where the shopper does not matter."""

    def __init__(self, catalogue: Catalogue, bundle: Bundle, k: int, *, personal: bool) -> None:
        self._catalogue, self._bundle, self._k, self._personal = catalogue, bundle, k, personal
        self._known = np.zeros(0 if personal else len(catalogue.texts), dtype=bool)
        self._kept = np.full((len(self._known), k), -1, dtype=np.int32)

    def add(self, user: Ints, query: Ints) -> Ints:
        """As `Retrieval` has it."""
        if self._personal:
            return self._search(user, query)
        new = np.unique(query[~self._known[query]])
        self._kept[new] = self._search(np.zeros(len(new), dtype=np.int32), new)
        self._known[new] = True
        return self._kept[query]

    def _search(self, user: Ints, query: Ints) -> Ints:
        found = np.full((len(query), self._k), -1, dtype=np.int32)
        for start in range(0, len(query), _AT_ONCE):
            block = slice(start, start + _AT_ONCE)
            pairs = zip(user[block], query[block], strict=True)
            found[block] = self._bundle.search([self._catalogue.query(*pair) for pair in pairs], self._k).items
        return found


class Offline:
    """A shop over one arm's retrieval in this process."""

    def __init__(self, ranking: Ranking, retrieval: Retrieval) -> None:
        self._ranking, self._retrieval = ranking, retrieval

    def pages(self, user: Ints, query: Ints) -> Ints:
        """What the ranking makes of its own candidates and the arm's."""
        return self._ranking.page(user, query, self._retrieval.add(user, query))

    def hear(self, user: Ints, query: Ints, page: Ints, done: Choices) -> None:
        """Nobody writes it down."""
