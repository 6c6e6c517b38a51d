"""The query tower for answering: what `TwoTower.queries` computes, with one look-up in place of one an encoder.

A look-up costs some microseconds whatever the batch, and a tower has ten of them; for one query they are most of its
time. So the tables stand below each other as one, and the bags of all features are the bags of one look-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from twinspire.model.bags import Bag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from twinspire.model.encoders import BagEncoder
    from twinspire.model.towers import TwoTower
    from twinspire.ragged import Ragged


class QueryLookup:
    """The query tower of a model that is not trained any more. Immutable: share it between threads.

    The model's own tables become views of the joined one, so that no row is held twice.
    """

    def __init__(self, model: TwoTower) -> None:
        tower = model.query_tower
        encoders: list[BagEncoder] = list(tower.encoders)  # type: ignore[arg-type]
        self._names = tower.names
        self._tower = tower
        used = dict.fromkeys(encoder.table for encoder in encoders)
        tables: dict[str, nn.EmbeddingBag] = {name: model.tables[name] for name in used}  # type: ignore[misc]
        first = dict(zip(used, np.cumsum([0, *(len(table.weight) for table in tables.values())]), strict=False))
        self._first_rows = np.array([first[encoder.table] for encoder in encoders], np.int64)  # (S,)
        self._rows = torch.cat([table.weight.detach() for table in tables.values()])  # (V, D)
        for name, table in tables.items():
            start = int(first[name])
            table.weight = nn.Parameter(self._rows[start : start + len(table.weight)], requires_grad=False)
        self._gains = torch.stack([encoder.gain.detach() for encoder in encoders])[:, None, None]  # (S, 1, 1)

    def __call__(self, features: Mapping[str, Ragged]) -> torch.Tensor:
        """Feature name to B bags, for each name the tower knows; gives (B, H, D)."""
        bag = stack([features[name] for name in self._names], self._first_rows)
        means = functional.embedding_bag(
            bag.rows,
            self._rows,
            bag.offsets,
            mode="mean" if bag.weights is None else "sum",
            per_sample_weights=bag.weights,
            include_last_offset=True,
        )
        slots = len(self._names)
        vectors = means.view(slots, -1, means.shape[1]) * self._gains  # (S, B, D)
        return self._tower.combine(vectors)


def stack(features: list[Ragged], first_rows: NDArray[np.int64]) -> Bag:
    """S features of B bags each to S * B bags, one feature after the other, `first_rows` (S,) added to its rows."""
    lengths = np.array([len(feature.values) for feature in features])
    rows = np.concatenate([feature.values for feature in features], dtype=np.int64)
    rows += np.repeat(first_rows, lengths)
    slots, batch = len(features), len(features[0])
    offsets = np.empty(slots * batch + 1, np.int64)
    starts = offsets[:-1].reshape(slots, batch)
    np.stack([feature.offsets[:-1] for feature in features], out=starts)
    ends = np.cumsum(lengths)
    starts[1:] += ends[:-1, None]
    offsets[-1] = ends[-1]
    weights = None
    if any(feature.weights is not None for feature in features):
        weights = torch.from_numpy(_weights(features, offsets, ends))
    return Bag(torch.from_numpy(rows), torch.from_numpy(offsets), weights)


def _weights(features: list[Ragged], offsets: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """The weight of every row; those of a bag without weights are equal and add up to 1."""
    each = np.diff(offsets)
    weights = np.repeat((1 / np.maximum(each, 1)).astype(np.float32), each)
    for feature, end in zip(features, ends.tolist(), strict=True):
        if feature.weights is not None:
            weights[end - len(feature.values) : end] = feature.weights
    return weights
