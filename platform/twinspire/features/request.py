"""From requests to the query tower's features: the online half of encoding, with the same dictionaries as training."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np

from twinspire.features.history import KINDS, Events, history_bags
from twinspire.features.spec import Category, History, Number
from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import polars as pl
    from numpy.typing import NDArray

    from twinspire.features.dictionaries import Dictionaries
    from twinspire.features.query import Event, Query, Shopper
    from twinspire.features.store import Bags

_CODES: dict[str, int] = {kind: code for code, kind in enumerate(KINDS)}


class RequestEncoder:
    """Queries with their shoppers to bags. Immutable and thread-safe.

    `users` has `user_id`, the profile columns and `history` (lists of `item`, `kind` and `time` as in Events, oldest
    first); `item_rows` maps an item id to its row; `item_bags` are the item features that histories look through.
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
        self._remembered = _events(users["history"])

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
        return bags | self._history_bags(shoppers, np.array(rows))

    def _history_bags(self, shoppers: Sequence[Shopper | None], rows: NDArray[np.int64]) -> Bags:
        events, users = self._remembered, rows
        if any(shopper is not None and shopper.history is not None for shopper in shoppers):
            events, users = self._told(shoppers, rows), np.arange(len(shoppers))
        stops = events.offsets[users + 1]  # of nobody, -1: the first place
        return {
            history.name("query"): history_bags(history, events, users, stops, self.item_bags[history.table("query")])
            for history in self._histories
        }

    def _told(self, shoppers: Sequence[Shopper | None], rows: NDArray[np.int64]) -> Events:
        """The events of each shopper: what the request gives, else what is remembered."""
        remembered, parts = self._remembered, []
        for shopper, row in zip(shoppers, rows.tolist(), strict=True):
            if shopper is not None and shopper.history is not None:
                parts.append(self.history(shopper.history))
            else:
                some = slice(remembered.offsets[row], remembered.offsets[row + 1]) if row >= 0 else slice(0)
                parts.append((remembered.items[some], remembered.kinds[some], remembered.times[some]))
        items, kinds, times = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return Events(items, kinds, times, np.cumsum([0, *(len(part[0]) for part in parts)]))

    def _profile_bag(self, feature: Category | Number, name: str, shopper: Shopper | None, row: int) -> Sequence[int]:
        if shopper is not None and shopper.profile is not None and feature.column in shopper.profile:
            return self.dictionaries.encodings[feature.table("user")].apply_one(shopper.profile[feature.column])
        return self._user_bags[name].row(row).tolist() if row >= 0 else []

    def history(self, events: Sequence[Event]) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.int64]]:
        """Items, kinds and times, as in Events, of a history that a request gives: (E,) each, oldest first.

        Left out are events on items that are not in the catalogue, and of kinds that no history is made of. The events
        are put in order of time if all have one. If not, they stand as given, an event is at least as old as the one
        after it, and one without a time is just as old as that; without any times all are of one age.
        """
        told = [(_microseconds(event.timestamp), event) for event in events]
        known = [time for time, _ in told if time is not None]
        if len(known) == len(told):
            told.sort(key=_time)
        kept, last = [], max(known, default=0)
        for time, event in reversed(told):
            last = last if time is None else min(last, time)
            item, kind = self.item_rows.get(event.item_id), _CODES.get(event.event)
            if item is not None and kind is not None:
                kept.append((item, kind, last))
        items, kinds, times = zip(*reversed(kept), strict=True) if kept else ((), (), ())
        return np.array(items, np.int32), np.array(kinds, np.int8), np.array(times, np.int64)


def _events(histories: pl.Series) -> Events:
    """Remembered histories, (U,) lists, as flat arrays."""
    flat = histories.explode(empty_as_null=False).struct.unnest()
    offsets = np.zeros(len(histories) + 1, np.int64)
    np.cumsum(histories.list.len().to_numpy(), out=offsets[1:])
    return Events(flat["item"].to_numpy(), flat["kind"].to_numpy(), flat["time"].to_numpy(), offsets)


def _microseconds(time: datetime | None) -> int | None:
    """A time as microseconds since 1970; one without a zone is UTC."""
    if time is None:
        return None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1e6)


def _time(told: tuple[int | None, Event]) -> int:
    return told[0] or 0
