"""The query tower for answering: what `TwoTower.queries` computes, with one look-up in place of one an encoder.

A call into torch costs some microseconds whatever the batch, and a tower has dozens of them; for one query they are
most of its time. So the tables stand below each other as one, the bags of all features are pooled by one compiled loop,
and the layers are two matrix products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from twinspire.model.encoders import BagEncoder
    from twinspire.model.towers import TwoTower
    from twinspire.ragged import Ragged

_SHORTEST = 1e-6  # as in `Tower`: a vector shorter than this is not made longer
_UNWEIGHTED = np.zeros(0, np.float32)


class QueryLookup:
    """The query tower of a model that is not trained any more. Immutable: share it between threads.

    The model's own tables become views of the joined one, so that no row is held twice.
    """

    def __init__(self, model: TwoTower) -> None:
        tower = model.query_tower
        encoders: list[BagEncoder] = list(tower.encoders)  # type: ignore[arg-type]
        self._names = tower.names
        used = dict.fromkeys(encoder.table for encoder in encoders)
        tables: dict[str, nn.EmbeddingBag] = {name: model.tables[name] for name in used}  # type: ignore[misc]
        first = dict(zip(used, np.cumsum([0, *(len(table.weight) for table in tables.values())]), strict=False))
        self._first_rows = np.array([first[encoder.table] for encoder in encoders], np.int64)  # (S,)
        joined = torch.cat([table.weight.detach() for table in tables.values()])  # (V, D)
        for name, table in tables.items():
            start = int(first[name])
            table.weight = nn.Parameter(joined[start : start + len(table.weight)], requires_grad=False)
        self._rows = joined.numpy()
        self._gains = torch.stack([encoder.gain.detach() for encoder in encoders]).numpy()  # (S,)
        self._skip = tower.skip
        self._project = tower.project.weight.detach().numpy().T.copy()  # (S * D, H * hidden)
        self._project_bias = tower.project.bias.detach().numpy()
        self._head_weight = tower.head_weight.detach().numpy()  # (H, hidden, D)
        self._head_bias = tower.head_bias.detach().numpy()  # (H, D)

    def __call__(self, features: Mapping[str, Ragged]) -> NDArray[np.float32]:
        """Feature name to B bags, for each name the tower knows; gives (B, H, D)."""
        bags = [features[name] for name in self._names]
        batch, slots, dim = len(bags[0]), len(bags), self._rows.shape[1]
        vectors = np.empty((batch, slots, dim), np.float32)
        _pool(self._rows, *stack(bags, self._first_rows), self._gains, vectors)
        hidden = vectors.reshape(batch, slots * dim) @ self._project
        hidden += self._project_bias
        np.maximum(hidden, 0, out=hidden)
        by_head = hidden.reshape(batch, *self._head_weight.shape[:2]).transpose(1, 0, 2)  # (H, B, hidden)
        output = (by_head @ self._head_weight).transpose(1, 0, 2)  # (B, H, D)
        output += self._head_bias
        if self._skip:
            output += vectors.sum(1)[:, None]
        lengths = np.sqrt(np.einsum("bhd,bhd->bh", output, output))
        output /= np.maximum(lengths, _SHORTEST)[:, :, None]
        return np.ascontiguousarray(output)


def stack(
    features: list[Ragged], first_rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """S features of B bags each to S * B bags, one feature after the other: rows (T,), offsets (S * B + 1,), weights.

    `first_rows` (S,) is added to each feature's rows. Weights are (T,), or (0,) where no feature has any.
    """
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
    weighted = any(feature.weights is not None for feature in features)
    return rows, offsets, _weights(features, offsets, ends) if weighted else _UNWEIGHTED


def _weights(features: list[Ragged], offsets: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float32]:
    """The weight of every row; those of a bag without weights are equal and add up to 1."""
    each = np.diff(offsets)
    weights = np.repeat((1 / np.maximum(each, 1)).astype(np.float32), each)
    for feature, end in zip(features, ends.tolist(), strict=True):
        if feature.weights is not None:
            weights[end - len(feature.values) : end] = feature.weights
    return weights


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _pool(table: Any, rows: Any, offsets: Any, weights: Any, gains: Any, out: Any) -> None:
    """Means, or weighted sums, of the rows of S * B bags, times each slot's gain, to (B, S, D)."""
    batch, slots, dim = out.shape
    for slot in range(slots):
        for query in range(batch):
            first, last = offsets[slot * batch + query], offsets[slot * batch + query + 1]
            vector = out[query, slot]
            vector[:] = 0
            each = gains[slot] / max(last - first, 1)
            for place in range(first, last):
                row = table[rows[place]]
                weight = each if len(weights) == 0 else gains[slot] * weights[place]
                for d in range(dim):
                    vector[d] += weight * row[d]
