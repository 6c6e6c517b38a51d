"""A sentence encoder as a system under evaluation: cosine of query and title, nothing learnt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from twinspire.evaluation.baselines import best_rows, distinct_queries
from twinspire.progress import Progress
from twinspire.teacher.encoder import encode_texts
from twinspire.text import normalise

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from twinspire.features.query import Query

_PAIRS_AT_ONCE = 1 << 16


class EncoderSystem:
    """An encoder over one catalogue: its titles' vectors are made once, queries as they come."""

    name = "encoder"

    def __init__(self, encoder: Any, titles: pl.Series, *, show_progress: bool = False) -> None:
        """`encoder` is what `load_encoder` gave, `titles` (n_items,) the catalogue by row."""
        self._encoder = encoder
        texts = titles.fill_null("").to_list()
        with Progress(disable=not show_progress, transient=True) as progress:
            task = progress.add_task("encoding titles", total=len(texts))
            self._items = encode_texts(encoder, texts, documents=True, advance=partial(progress.advance, task))

    def scores(self, cases: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (B, n_items) of the cases' queries."""
        distinct, row = distinct_queries(cases["query"])
        table: NDArray[np.float32] = self._queries(distinct) @ self._items.T
        return table[row]

    def pair_scores(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (P,) of pairs of `query` and `item` (row in the items table)."""
        distinct, row = distinct_queries(pairs["query"])
        queries, items = self._queries(distinct), pairs["item"].to_numpy()
        result = np.empty(len(pairs), np.float32)
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            result[part] = (queries[row[part]] * self._items[items[part]]).sum(axis=1)
        return result

    def best(self, query: Query, k: int) -> NDArray[np.integer]:
        """Rows of the `k` best items of one query, best first, by comparison with all of them."""
        return best_rows(self._items @ self._queries([normalise(query.text)])[0], k)

    def _queries(self, texts: list[str]) -> NDArray[np.float32]:
        return encode_texts(self._encoder, texts, documents=False)
