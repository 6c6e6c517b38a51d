"""The bags of all encoders pooled at once, for training on a CPU: compiled, at a cost linear in the bags' rows.

Pooling is a product with a sparse matrix, bags by table rows, and the tables' gradients are products with its
transpose: for each row the sum over all bags, of both towers, that have it. So a gradient comes with each row once, and
nothing is sorted. The tables stand below each other in one matrix, so that a batch takes few calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from twinspire.model import kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from twinspire.model.bags import Bag

_UNWEIGHTED = np.zeros(0, np.float32)


class Slot(NamedTuple):
    """A feature's bags of B examples and the table that they are looked up in."""

    bag: Bag
    table: nn.EmbeddingBag


def pool(towers: Sequence[Sequence[Slot]], scales: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Each tower's S slots of B examples, pooled and multiplied by its `scales` (B, S): (B, S, D).

    It is what `encoders.pooled` gives slot by slot. Tables are on the CPU and of one width; their gradients are sparse
    and have each row once, in no order. Errors: IndexError where a bag has a row that its table has not.
    """
    matrix = _matrix(towers)
    scale = torch.cat([part.reshape(-1) for part in scales])
    vectors: torch.Tensor = _Pool.apply(matrix, scale, *(part.table.weight for part in matrix.parts))  # type: ignore[no-untyped-call]
    split = torch.split(vectors, [part.numel() for part in scales])
    return [part.view(*each.shape, vectors.shape[1]) for part, each in zip(split, scales, strict=True)]


class _Part(NamedTuple):
    """The rows of one table in the matrix: its row 0 is `first`, and the bags of `bags` read it."""

    table: nn.EmbeddingBag
    first: int
    bags: slice


class _Matrix(NamedTuple):
    """All bags by all tables' rows: rows (T,), offsets (bags + 1,), weights (T,), each bag's vector (bags,)."""

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    weights: NDArray[np.float32]
    numbers: NDArray[np.int64]
    parts: list[_Part]

    @property
    def table_rows(self) -> int:
        """Of all tables, V."""
        return self.parts[-1].first + self.parts[-1].table.num_embeddings


def _matrix(towers: Sequence[Sequence[Slot]]) -> _Matrix:
    """Example b's slot s of a tower is vector b * S + s of the tower's, which follow those of the tower before."""
    readings: dict[nn.EmbeddingBag, list[tuple[Bag, NDArray[np.int64]]]] = {}
    count = 0
    for slots in towers:
        end = count + len(slots) * slots[0].bag.size
        for place, (bag, table) in enumerate(slots):
            readings.setdefault(table, []).append((bag, np.arange(count + place, end, len(slots))))
        count = end
    tokens = sum(bag.rows.numel() for slots in towers for bag, _ in slots)
    rows, offsets, weights = np.empty(tokens, np.int64), np.zeros(count + 1, np.int64), np.empty(tokens, np.float32)
    numbers = np.concatenate([of_bags for reading in readings.values() for _, of_bags in reading])
    parts, first, done = [], 0, 0
    for table, reading in readings.items():
        begin, places = done, np.empty(table.num_embeddings, np.int64)
        for bag, _ in reading:
            given = _UNWEIGHTED if bag.weights is None else bag.weights.numpy()
            kernels.merge(bag.rows.numpy(), bag.offsets.numpy(), given, first, places, done, rows, offsets, weights)
            done += bag.size
        parts.append(_Part(table, first, slice(begin, done)))
        first += table.num_embeddings
    return _Matrix(rows, offsets, weights, numbers, parts)


class _Pool(torch.autograd.Function):
    """A matrix, the scale of each vector (R,) and the tables, (V, D) each, to the vectors (R, D)."""

    @staticmethod
    def forward(ctx: Any, matrix: _Matrix, scale: torch.Tensor, *tables: torch.Tensor) -> torch.Tensor:
        pooled = np.empty((len(matrix.numbers), tables[0].shape[1]), np.float32)
        for (_, first, bags), table in zip(matrix.parts, tables, strict=True):
            offsets = matrix.offsets[bags.start : bags.stop + 1]
            source = table.detach().numpy()
            kernels.pool(source, first, matrix.rows, offsets, matrix.weights, pooled, matrix.numbers[bags])
        ctx.matrix, ctx.scale, ctx.pooled = matrix, scale.detach().numpy(), pooled
        vectors = np.empty_like(pooled)
        kernels.scaled(pooled, ctx.scale, vectors)
        return torch.from_numpy(vectors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        source = gradient.contiguous().numpy()
        of_scale = np.empty(len(source), np.float32)
        kernels.inner_products(source, ctx.pooled, of_scale)
        return None, torch.from_numpy(of_scale), *_table_gradients(source, ctx.matrix, ctx.scale)


def _table_gradients(source: NDArray[np.float32], matrix: _Matrix, scale: NDArray[np.float32]) -> list[torch.Tensor]:
    """The vectors' gradient (R, D) to those of the tables, (V, D) each, sparse."""
    rows, vectors, offsets, factors = kernels.transpose(*matrix[:4], scale, matrix.table_rows)
    values = np.empty((len(rows), source.shape[1]), np.float32)
    kernels.pool(source, 0, vectors, offsets, factors, values, np.arange(len(rows)))
    firsts = [part.first for part in matrix.parts]
    ends = np.searchsorted(np.maximum.accumulate(rows), [*firsts[1:], matrix.table_rows])  # tables follow each other
    gradients, begin = [], 0
    for (table, first, _), end in zip(matrix.parts, ends.tolist(), strict=True):
        of_table = torch.from_numpy(rows[None, begin:end] - first), torch.from_numpy(values[begin:end])
        gradients.append(torch.sparse_coo_tensor(*of_table, table.weight.shape, check_invariants=False))
        begin = end
    return gradients
