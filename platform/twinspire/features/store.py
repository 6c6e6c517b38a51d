"""The in-memory feature store (5.1.2): items, queries and users are looked up by row, never repeated in the batches.

On disk it is a folder of .npy files, memory-mapped: workers of one machine share its pages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.ragged import Ints

Bags = dict[str, Ragged]


@dataclass(frozen=True)
class Events:
    """Each user's clicked items, oldest first: `items` (E,) rows, `offsets` (U + 1,)."""

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class FeatureStore:
    """Feature name to bags, for each of `items` (n,), `queries` (q,) and `users` (u,); and the users' events.

    `histories` maps a history feature to its length and the item feature that it looks through.
    """

    items: Bags
    queries: Bags
    users: Bags
    events: Events
    histories: Mapping[str, tuple[str, int]]
    n_items: int

    def item_features(self, rows: Ints) -> Bags:
        """Bags of the item tower for these items, (M,) each."""
        return {name: bags.gather(rows) for name, bags in self.items.items()}

    def query_features(self, query: Ints, user: Ints, stop: Ints) -> Bags:
        """Bags of the query tower, (B,) each: query rows, user rows (-1: nobody) and where their histories stop."""
        features = {name: bags.gather(query) for name, bags in self.queries.items()}
        features |= {name: _gather_known(bags, user) for name, bags in self.users.items()}
        features |= self._history_features(user, stop)
        return features

    def _history_features(self, user: Ints, stop: Ints) -> Bags:
        start = np.where(user >= 0, self.events.offsets[np.maximum(user, 0)], stop)
        features = {}
        for name, (feature, length) in self.histories.items():
            first = np.maximum(start, stop - length)
            features[name] = look_through(_slices(self.events.items, first, stop), self.items[feature])
        return features

    def save(self, folder: Path) -> None:
        """Write the store into a new folder."""
        for side, bags in (("items", self.items), ("queries", self.queries), ("users", self.users)):
            (folder / side).mkdir(parents=True)
            for name, ragged in bags.items():
                ragged.save(folder / side / file_name(name))
        np.save(folder / "events.items.npy", self.events.items)
        np.save(folder / "events.offsets.npy", self.events.offsets)
        names = {"items": list(self.items), "queries": list(self.queries), "users": list(self.users)}
        meta = {"features": names, "histories": dict(self.histories), "n_items": self.n_items}
        (folder / "store.json").write_text(json.dumps(meta))

    @classmethod
    def load(cls, folder: Path) -> FeatureStore:
        """Memory-map what `save` wrote."""
        meta: dict[str, Any] = json.loads((folder / "store.json").read_text())
        sides = {
            side: {name: Ragged.load(folder / side / file_name(name)) for name in names}
            for side, names in meta["features"].items()
        }
        events = Events(
            np.load(folder / "events.items.npy", mmap_mode="r"),
            np.load(folder / "events.offsets.npy", mmap_mode="r"),
        )
        histories = {name: (feature, length) for name, (feature, length) in meta["histories"].items()}
        return cls(**sides, events=events, histories=histories, n_items=meta["n_items"])


def file_name(feature: str) -> str:
    """The name of a feature as the name of a file: columns may be called anything, `size/colour` too."""
    return quote(feature, safe="")


def look_through(rows: Ragged, bags: Ragged) -> Ragged:
    """Replace each row number in `rows` by that row's bag: a history of items becomes a history of their brands."""
    inner = bags.gather(rows.values)
    return Ragged(inner.values, inner.offsets[rows.offsets])


def _slices(values: NDArray[np.int32], starts: Ints, stops: Ints) -> Ragged:
    return Ragged(values, np.zeros(1, np.int64)).slices(starts, stops)


def _gather_known(bags: Ragged, rows: Ints) -> Ragged:
    starts = bags.offsets[np.maximum(rows, 0)]
    stops = np.where(rows >= 0, bags.offsets[np.maximum(rows, 0) + 1], starts)
    return bags.slices(starts, stops)
