"""From requests to the query tower's features: the online half of encoding, with the same dictionaries as training."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np

from twinspire.features.spec import Category, History, Number
from twinspire.features.store import look_through
from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from twinspire.features.dictionaries import Dictionaries
    from twinspire.features.query import Event, Query, Shopper
    from twinspire.features.store import Bags


class RequestEncoder:
    """Queries with their shoppers to bags. Immutable and thread-safe.

    `users` has `user_id`, the profile columns and `history` (list of item rows, oldest first); `item_rows` maps an
    item id
    to its row; `item_bags` are the item features that histories look through.
    """

    def __init__(
        self, dictionaries: Dictionaries, users: pl.DataFrame, item_rows: Mapping[str, int], item_bags: Bags
    ) -> None:
        self.dictionaries, self.item_rows, self.item_bags = dictionaries, item_rows, item_bags
        query = dictionaries.config.query
        self._texts = [feature.stream for feature in query if feature.kind == "ngram_bag"]  # type: ignore[union-attr]
        self._profile = [feature for feature in query if isinstance(feature, Category | Number)]
        self._histories = [feature for feature in query if isinstance(feature, History)]
        self._user_rows = {user: row for row, user in enumerate(users["user_id"])} if self.personal else {}
        self._user_bags = dictionaries.users(users) if self.personal else {}
        history = users["history"]
        self._events = Ragged.from_lengths(
            history.explode(empty_as_null=False).to_numpy().astype(np.int32),
            history.list.len().to_numpy().astype(np.int64),
        )

    @property
    def personal(self) -> bool:
        """Whether the query tower looks at shoppers at all."""
        return bool(self._profile or self._histories)

    def encode(self, queries: Sequence[Query]) -> Bags:
        """Bags of B queries."""
        texts = [query.text for query in queries]
        streams = self.dictionaries.text_one(texts[0]) if len(texts) == 1 else self.dictionaries.text(texts)
        features = {name: streams[name] for name in self._texts}
        if self.personal:
            features |= self._shoppers([query.shopper for query in queries])
        return features

    def _shoppers(self, shoppers: Sequence[Shopper | None]) -> Bags:
        if not any(shoppers):
            nothing = Ragged(np.zeros(0, np.int32), np.zeros(len(shoppers) + 1, np.int64))
            return dict.fromkeys([*self._user_bags, *(feature.name("query") for feature in self._histories)], nothing)
        rows = [self._user_rows.get(shopper.user_id or "", -1) if shopper else -1 for shopper in shoppers]
        bags: Bags = {}
        for feature in self._profile:
            name = feature.name("user")
            bags[name] = Ragged.from_rows(
                [self._profile_bag(feature, name, s, row) for s, row in zip(shoppers, rows, strict=True)]
            )
        items = [self.history(shopper, row) for shopper, row in zip(shoppers, rows, strict=True)]
        last = {
            length: Ragged.from_rows([rows[-length:] for rows in items])
            for length in {history.length for history in self._histories}
        }
        for history in self._histories:
            bags[history.name("query")] = look_through(last[history.length], self.item_bags[history.table("query")])
        return bags

    def _profile_bag(self, feature: Category | Number, name: str, shopper: Shopper | None, row: int) -> Sequence[int]:
        if shopper is not None and shopper.profile is not None and feature.column in shopper.profile:
            return self.dictionaries.encodings[feature.table("user")].apply_one(shopper.profile[feature.column])
        return self._user_bags[name].row(row).tolist() if row >= 0 else []

    def history(self, shopper: Shopper | None, row: int | None = None) -> Sequence[int]:
        """Item rows of a shopper's history, oldest first: what the request gives, else what the bundle remembers."""
        if shopper is not None and shopper.history is not None:
            known = (self.item_rows.get(event.item_id) for event in _in_time_order(shopper.history))
            return [item for item in known if item is not None]
        if row is None:
            row = self._user_rows.get(shopper.user_id or "", -1) if shopper else -1
        return self._events.row(row).tolist() if row >= 0 else []


def _in_time_order(events: Sequence[Event]) -> Sequence[Event]:
    if all(event.timestamp is not None for event in events):
        return sorted(events, key=_seconds)
    return events


def _seconds(event: Event) -> float:
    """Time of an event; one without a zone is UTC."""
    assert event.timestamp is not None
    time = event.timestamp
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
