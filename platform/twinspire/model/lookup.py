"""The query tower for answering: what `TwoTower.queries` computes, with one look-up in place of one an encoder.

A call into torch costs some microseconds whatever the batch, and a tower has dozens of them; for one query they are
most of its time. So the tables stand below each other as one, the bags of all features are pooled by one compiled loop,
and the layers are two matrix products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from twinspire.compiled import compiled

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
        # Torch multiplies, not numpy: its threads are the ones that a server or a user sets.
        self._project = tower.project.weight.detach().T.contiguous()  # (S * D, H * hidden)
        self._project_bias = tower.project.bias.detach()
        self._head_weight = tower.head_weight.detach()  # (H, hidden, D)
        self._head_bias = tower.head_bias.detach()[:, None]  # (H, 1, D)

    @torch.inference_mode()
    def __call__(self, features: Mapping[str, Ragged]) -> NDArray[np.float32]:
        """Feature name to B bags, for each name the tower knows; gives (B, H, D)."""
        bags = [features[name] for name in self._names]
        vectors = np.empty((len(bags[0]), len(bags), self._rows.shape[1]), np.float32)
        _pool(self._rows, *stack(bags, self._first_rows), self._gains, vectors)
        beside = torch.from_numpy(vectors).flatten(1)
        hidden = torch.addmm(self._project_bias, beside, self._project).relu_()
        by_head = hidden.view(len(vectors), *self._head_weight.shape[:2]).transpose(0, 1)  # (H, B, hidden)
        output = torch.baddbmm(self._head_bias, by_head, self._head_weight).numpy()  # (H, B, D)
        answer = np.empty((output.shape[1], output.shape[0], output.shape[2]), np.float32)
        _finish(output, vectors, self._skip, answer)
        return answer

    def on(self, device: torch.device) -> DeviceLookup:
        """The same tower on a device; on a CPU it shares this one's memory."""
        numbers = (self._rows, self._gains)
        layers = (self._project, self._project_bias, self._head_weight, self._head_bias)
        held = [*map(torch.from_numpy, numbers), *layers]
        return DeviceLookup(self._names, self._first_rows, self._skip, [one.to(device) for one in held])

    @property
    def nbytes(self) -> int:
        """What `on` takes of a device's memory."""
        layers = (self._project, self._project_bias, self._head_weight, self._head_bias)
        return self._rows.nbytes + self._gains.nbytes + sum(layer.nbytes for layer in layers)


class DeviceLookup:
    """The query tower on a device: one look-up in one table, too, and its answers stay there. Immutable."""

    def __init__(self, names: list[str], first_rows: NDArray[np.int64], skip: bool, held: list[torch.Tensor]) -> None:
        self._names, self._first_rows, self._skip = names, first_rows, skip
        self._rows, self._gains, self._project, self._project_bias, self._head_weight, self._head_bias = held
        self._device = self._rows.device

    @torch.inference_mode()
    def __call__(self, features: Mapping[str, Ragged]) -> torch.Tensor:
        """Feature name to B bags, for each name the tower knows; gives (B, H, D) on the device."""
        bags = [features[name] for name in self._names]
        rows, offsets, weights = stack(bags, self._first_rows)
        weighted = len(weights) > 0
        pooled = functional.embedding_bag(
            moved(rows, self._device),
            self._rows,
            moved(offsets, self._device),
            mode="sum" if weighted else "mean",
            per_sample_weights=moved(weights, self._device) if weighted else None,
            include_last_offset=True,
        )  # (S * B, D)
        vectors = pooled.view(len(bags), -1, pooled.shape[1]) * self._gains[:, None, None]  # (S, B, D)
        beside = vectors.transpose(0, 1).flatten(1)
        hidden = torch.addmm(self._project_bias, beside, self._project).relu_()
        by_head = hidden.view(len(beside), *self._head_weight.shape[:2]).transpose(0, 1)  # (H, B, hidden)
        output = torch.baddbmm(self._head_bias, by_head, self._head_weight)  # (H, B, D)
        if self._skip:
            output += vectors.sum(0)
        return functional.normalize(output, dim=-1, eps=_SHORTEST).transpose(0, 1).contiguous()


def moved(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array on a device, without a copy on a CPU; to a GPU through pinned memory, so that nobody waits for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


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


@compiled(fastmath=True)
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


@compiled(fastmath=True)
def _finish(output: Any, vectors: Any, skip: bool, answer: Any) -> None:
    """The layers' output (H, B, D), with the skip path from (B, S, D) where there is one, to unit vectors (B, H, D)."""
    heads, batch, dim = output.shape
    for query in range(batch):
        for head in range(heads):
            vector = answer[query, head]
            vector[:] = output[head, query]
            if skip:
                for slot in range(vectors.shape[1]):
                    for d in range(dim):
                        vector[d] += vectors[query, slot, d]
            length = np.float32(0)
            for d in range(dim):
                length += vector[d] * vector[d]
            scale = 1 / max(np.sqrt(length), np.float32(_SHORTEST))
            for d in range(dim):
                vector[d] *= scale
