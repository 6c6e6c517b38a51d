"""A bundle as a system under evaluation: what it would have answered at the time of each case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twinspire.features.query import Event, Query, Shopper
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
        self._profiles = _profiles(profiles)
        self._length = int(bundle.manifest.config["features"]["history_length"])

    @torch.inference_mode()
    def scores(self, cases: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (B, n_items); `cases` has `query`, `user_id` and `case`."""
        queries = [
            Query(query, self._shopper(user, case))
            for query, user, case in cases.select("query", "user_id", "case").rows()
        ]
        heads = torch.from_numpy(self.bundle.embed(queries))
        return best_head(heads, self._vectors).numpy()

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

    def _shopper(self, user: str | None, case: int) -> Shopper | None:
        if user is None or not self.bundle.encoder.personal:
            return None
        positives = self.positives
        stop = int(positives.stop[case])
        start = max(int(positives.event_offsets[positives.user[case]]), stop - self._length)
        history = [Event(self.bundle.item_ids[item]) for item in positives.event_items[start:stop]]
        return Shopper(user, self._profiles.get(user), history)


def _profiles(table: pl.DataFrame | None) -> dict[str, dict[str, Any]]:
    if table is None:
        return {}
    return {row.pop("user_id"): row for row in table.iter_rows(named=True)}
