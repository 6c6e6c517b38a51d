"""Warm start: a model over new dictionaries begins with the weights of an earlier one.

Dictionaries are fitted anew on each day's tables, so a table's rows stand in another order than yesterday. What a row
means is its key: a token's hash, a label, a stretch of numbers, an item's id. Old rows go where their key is now, new
keys keep the start of a new model, and the layers behind the tables are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.features.encodings import CategoryEncoding, NumberEncoding
from twinspire.model.encoders import table_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray

    from twinspire.features.dictionaries import Dictionaries
    from twinspire.features.encodings import Encoding
    from twinspire.model import Architecture, TwoTower
    from twinspire.ragged import Ragged

ID_TABLE = "item.id"


@dataclass(frozen=True)
class Keys:
    """What the table rows of a model mean: its dictionaries, and `items`, the ids of the items that have a row of
    their own, in the order of those rows (from row 1 on)."""

    dictionaries: Dictionaries
    items: pl.Series


def own_rows(item_ids: pl.Series, bags: Ragged) -> pl.Series:
    """The ids of the items with a row of their own, from all ids (n,) and the feature `item.id` (n,)."""
    return item_ids.filter(pl.Series(np.diff(bags.offsets) > 0))


def why_not(before: Dictionaries, towers_before: Architecture, now: Dictionaries, towers: Architecture) -> str | None:
    """Why a model cannot begin with an earlier one's weights; None where it can."""
    if before.tokeniser.fingerprint != now.tokeniser.fingerprint:
        return "it has another tokeniser"
    if before.config != now.config:
        return "its towers read other features"
    if towers_before.config != towers.config:
        return "its towers have another size"
    if (towers_before.query, towers_before.item) != (towers.query, towers.item):
        return "its towers have other encoders"
    return None


def carried(before: Keys, weights: Mapping[str, torch.Tensor], now: Keys, model: TwoTower) -> dict[str, torch.Tensor]:
    """The weights of a new `model` over the keys of now, with all that `weights` of before know of them.

    Both have the same features and sizes: see `why_not`.
    """
    started = {name: value.clone() for name, value in model.state_dict().items()}
    tables = {f"tables.{table_key(name)}.weight": name for name in now.dictionaries.table_sizes}
    for name, value in weights.items():
        if name not in started:
            continue
        if name not in tables:
            started[name] = value.clone()
            continue
        source = origins(tables[name], before, now)
        known = np.flatnonzero(source > 0)
        started[name][known] = value[source[known]]
    return started


def origins(table: str, before: Keys, now: Keys) -> NDArray[np.int64]:
    """For each row of a table of now (V,) the row of before with the same key; 0 where there is none."""
    old, new = before.dictionaries, now.dictionaries
    if table in new.vocabularies:
        hashes, remap = new.vocabularies[table].hashes, old.vocabularies[table].remap
        rows = np.where((hashes >= 0) & (hashes < len(remap)), remap[np.clip(hashes, 0, len(remap) - 1)], 0)
        return rows.astype(np.int64)
    if table == ID_TABLE:
        return _places(before.items.to_list(), now.items.to_list())
    return _encoding_origins(old.encodings[table], new.encodings[table])


def _encoding_origins(old: Encoding, new: Encoding) -> NDArray[np.int64]:
    if isinstance(old, CategoryEncoding) and isinstance(new, CategoryEncoding):
        return _places(old.values, new.values)
    assert isinstance(old, NumberEncoding)
    assert isinstance(new, NumberEncoding)
    return np.concatenate([[0], np.searchsorted(old.edges, _middles(new.edges), side="right") + 1]).astype(np.int64)


def _middles(edges: list[float]) -> NDArray[np.float64]:
    """A number inside each bin: the middle between its edges; the outer bins' edge, or what lies just below it."""
    if not edges:
        return np.zeros(1)
    inner = np.array(edges, np.float64)
    below = np.nextafter(inner[0], -np.inf)
    return np.concatenate([[below], (inner[:-1] + inner[1:]) / 2, [inner[-1]]])


def _places(old: list[str], new: list[str]) -> NDArray[np.int64]:
    rows = {key: row for row, key in enumerate(old, 1)}
    return np.array([0, *(rows.get(key, 0) for key in new)], np.int64)
