"""The in-memory feature store (5.1.2): items, queries and users are looked up by row, never repeated in the batches.

On disk it is a folder of .npy files, memory-mapped: workers of one machine share its pages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from twinspire.features.history import Events, history_bags
from twinspire.features.spec import History
from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from twinspire.ragged import Ints

Bags = dict[str, Ragged]


@dataclass(frozen=True)
class FeatureStore:
    """Feature name to bags, for each of `items` (n,), `queries` (q,) and `users` (u,); and the users' events.

    `histories` are the query tower's history features.
    """

    items: Bags
    queries: Bags
    users: Bags
    events: Events
    histories: Sequence[History]
    n_items: int

    def item_features(self, rows: Ints) -> Bags:
        """Bags of the item tower for these items, (M,) each."""
        return {name: bags.gather(rows) for name, bags in self.items.items()}

    def query_features(self, query: Ints, user: Ints, stop: Ints) -> Bags:
        """Bags of the query tower, (B,) each: query rows, user rows (-1: nobody) and where their histories stop."""
        features = {name: bags.gather(query) for name, bags in self.queries.items()}
        features |= {name: _gather_known(bags, user) for name, bags in self.users.items()}
        for history in self.histories:
            through = self.items[history.table("query")]
            features[history.name("query")] = history_bags(history, self.events, user, stop, through)
        return features

    def save(self, folder: Path) -> None:
        """Write the store into a new folder."""
        for side, bags in (("items", self.items), ("queries", self.queries), ("users", self.users)):
            (folder / side).mkdir(parents=True)
            for name, ragged in bags.items():
                ragged.save(folder / side / file_name(name))
        self.events.save(folder / "events")
        names = {"items": list(self.items), "queries": list(self.queries), "users": list(self.users)}
        histories = [history.model_dump(mode="json") for history in self.histories]
        meta = {"features": names, "histories": histories, "n_items": self.n_items}
        (folder / "store.json").write_text(json.dumps(meta))

    @classmethod
    def load(cls, folder: Path) -> FeatureStore:
        """Memory-map what `save` wrote."""
        meta: dict[str, Any] = json.loads((folder / "store.json").read_text())
        sides = {
            side: {name: Ragged.load(folder / side / file_name(name)) for name in names}
            for side, names in meta["features"].items()
        }
        return cls(
            **sides,
            events=Events.load(folder / "events"),
            histories=[History.model_validate(history) for history in meta["histories"]],
            n_items=meta["n_items"],
        )


def file_name(feature: str) -> str:
    """The name of a feature as the name of a file: columns may be called anything, `size/colour` too."""
    return quote(feature, safe="")


def _gather_known(bags: Ragged, rows: Ints) -> Ragged:
    starts = bags.offsets[np.maximum(rows, 0)]
    stops = np.where(rows >= 0, bags.offsets[np.maximum(rows, 0) + 1], starts)
    return bags.slices(starts, stops)
