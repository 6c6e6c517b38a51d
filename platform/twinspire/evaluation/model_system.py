"""A bundle as a system under evaluation: what it would have answered at the time of each case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import torch

from twinspire.bundle.bundle import past_event
from twinspire.features.query import Query, Shopper
from twinspire.model import best_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.bundle import Bundle
    from twinspire.features.log import Positives
    from twinspire.features.query import Event

_QUERIES_AT_ONCE = 1024


class ModelSystem:
    """Scores of a bundle by exact search. Shoppers' histories end before the case's own search.

    `positives` is the log that the cases' column `case` points into; `profiles` has `user_id` and any profile columns.
    Items are rows of `catalogue` (n_items,), ids that hold all of the bundle's; without it, of the bundle itself. Those
    that the bundle does not hold score minus infinity.
    """

    def __init__(
        self,
        bundle: Bundle,
        positives: Positives,
        profiles: pl.DataFrame | None,
        name: str = "model",
        catalogue: pl.Series | None = None,
    ) -> None:
        self.bundle, self.positives, self.name = bundle, positives, name
        self._vectors = torch.from_numpy(np.array(bundle.item_vectors))
        self._items = np.arange(len(self._vectors))
        self._profiles = _profiles(profiles)
        self._remembered = bundle.encoder.dictionaries.config.remembered
        self._joint = None if catalogue is None else Joint.of(bundle, catalogue)

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
        return scores if self._joint is None else self._joint.spread(scores)

    def pair_scores(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (P,) of `query` and `item`, for nobody in particular."""
        if self._joint is not None:
            return self._joint_pair_scores(pairs, self._joint)
        return self._pair_scores(pairs["query"].to_list(), pairs["item"].to_numpy())

    def _joint_pair_scores(self, pairs: pl.DataFrame, joint: Joint) -> NDArray[np.float32]:
        own = joint.own[pairs["item"].to_numpy()]
        held = own >= 0
        scores = np.full(len(pairs), -np.inf, np.float32)
        scores[held] = self._pair_scores(pairs["query"].filter(pl.Series(held)).to_list(), own[held])
        return scores

    def _pair_scores(self, texts: list[str], items: NDArray[np.int64]) -> NDArray[np.float32]:
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
        rows: NDArray[np.integer] = self.bundle.search([query], k).items[0]
        rows = rows[rows >= 0]
        return rows if self._joint is None else self._joint.rows[rows]

    def _shoppers(self, cases: NDArray[np.integer]) -> list[Shopper | None]:
        """Who asked, and what they had done before they did."""
        users = self.positives.user[cases]
        if not self.bundle.encoder.personal:
            return [None] * len(users)
        events = self.positives.events.last_of_each_kind(users, self.positives.stop[cases], self._remembered)
        columns = zip(events.items.tolist(), events.kinds.tolist(), events.times.tolist(), strict=True)
        event = self.bundle.event if self._joint is None else self._joint.event
        history = [event(*one) for one in columns]
        shoppers: list[Shopper | None] = []
        for user, start, stop in zip(users.tolist(), events.offsets, events.offsets[1:], strict=False):
            user_id = self.positives.user_ids[user] if user >= 0 else None
            shoppers.append(Shopper(user_id, self._profiles.get(user_id), history[start:stop]) if user_id else None)
        return shoppers


class Joint(NamedTuple):
    """Rows of a bundle's items in a larger catalogue, (n,); of the catalogue's in the bundle, -1 where it has none."""

    rows: NDArray[np.integer]
    own: NDArray[np.int64]
    ids: list[str]

    @classmethod
    def of(cls, bundle: Bundle, catalogue: pl.Series) -> Joint:
        """Raises ValueError where the catalogue lacks an item of the bundle."""
        places = pl.DataFrame({"item_id": catalogue}).with_row_index("row")
        rows = bundle.items.select("item_id").join(places, on="item_id", how="left", maintain_order="left")["row"]
        if rows.null_count():
            raise ValueError(f"{bundle.folder}: {rows.null_count()} of its items are not in the catalogue")
        own = np.full(len(catalogue), -1, np.int64)
        own[rows.to_numpy()] = np.arange(len(rows))
        return cls(rows.to_numpy().astype(np.int64), own, catalogue.to_list())

    def spread(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (B, n) of the bundle's items to (B, n_items)."""
        result = np.full((len(scores), len(self.own)), -np.inf, np.float32)
        result[:, self.rows] = scores
        return result

    def event(self, item: int, kind: int, time: int) -> Event:
        """One of the log's events, its item by the catalogue's row, as a caller would send it."""
        return past_event(self.ids[item], kind, time)


def _profiles(table: pl.DataFrame | None) -> dict[str, dict[str, Any]]:
    if table is None:
        return {}
    return {row.pop("user_id"): row for row in table.iter_rows(named=True)}
