"""A bundle as a system under evaluation: what it would have answered at the time of each case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twinspire.features.query import Query, Shopper
from twinspire.model import best_head

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from twinspire.bundle import Bundle
    from twinspire.features.log import Positives

_QUERIES_AT_ONCE = 1024


class ModelSystem:
    """Scores of a bundle by exact search. Shoppers' histories end before the case's own search.

    `positives` is the log that the cases' column `case` points into, over the bundle's items by row; `profiles` has
    `user_id` and any profile columns.
    """

    def __init__(
        self, bundle: Bundle, positives: Positives, profiles: pl.DataFrame | None, name: str = "model"
    ) -> None:
        self.bundle, self.positives, self.name = bundle, positives, name
        self._vectors = torch.from_numpy(np.array(bundle.item_vectors))
        self._items = np.arange(len(self._vectors))
        self._profiles = _profiles(profiles)
        self._remembered = bundle.encoder.dictionaries.config.remembered

    @torch.inference_mode()
    def scores(self, cases: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (B, n_items); `cases` has `query` and `case`."""
        shoppers = self._shoppers(cases["case"].to_numpy())
        queries = [Query(text, shopper) for text, shopper in zip(cases["query"], shoppers, strict=True)]
        asked = self.bundle.ask(queries)
        heads = torch.from_numpy(np.stack([one.vectors for one in asked]))
        scores = best_head(heads, self._vectors).numpy()
        beside: dict[str, NDArray[np.float32]] = {}  # what does not depend on the shopper, of each query once
        for row, (query, one) in enumerate(zip(cases["query"], asked, strict=True)):
            if query not in beside:
                beside[query] = self.bundle.index.beside(one, self._items)
            scores[row] += beside[query]
        return scores

    def pair_scores(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (P,) of `query` and `item`, for nobody in particular."""
        items = pairs["item"].to_numpy()
        texts = pairs["query"].to_list()
        parts = [
            self.bundle.score(
                [Query(text) for text in texts[start : start + _QUERIES_AT_ONCE]],
                items[start : start + _QUERIES_AT_ONCE],
            )
            for start in range(0, len(texts), _QUERIES_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def best(self, query: Query, k: int) -> NDArray[np.integer]:
        """Rows of the `k` best items of one query, best first, by the bundle's own search."""
        rows: NDArray[np.int32] = self.bundle.search([query], k).items[0]
        return rows[rows >= 0]

    def _shoppers(self, cases: NDArray[np.integer]) -> list[Shopper | None]:
        """Who asked, and what they had done before they did."""
        users = self.positives.user[cases]
        if not self.bundle.encoder.personal:
            return [None] * len(users)
        events = self.positives.events.last_of_each_kind(users, self.positives.stop[cases], self._remembered)
        columns = zip(events.items.tolist(), events.kinds.tolist(), events.times.tolist(), strict=True)
        history = [self.bundle.event(*event) for event in columns]
        shoppers: list[Shopper | None] = []
        for user, start, stop in zip(users.tolist(), events.offsets, events.offsets[1:], strict=False):
            user_id = self.positives.user_ids[user] if user >= 0 else None
            shoppers.append(Shopper(user_id, self._profiles.get(user_id), history[start:stop]) if user_id else None)
        return shoppers


def _profiles(table: pl.DataFrame | None) -> dict[str, dict[str, Any]]:
    if table is None:
        return {}
    return {row.pop("user_id"): row for row in table.iter_rows(named=True)}
