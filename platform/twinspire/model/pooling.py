"""The bags of all encoders pooled at once, for training on a CPU: compiled, at a cost linear in the bags' rows.

Pooling is a product with a sparse matrix, bags by table rows, and the tables' gradients are products with its
transpose: row by row the sum over all bags, of both towers, that hold the row. So a gradient comes with each of its rows
once, and nothing is sorted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from twinspire.model import kernels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from twinspire.model.bags import Bag

_UNWEIGHTED = np.zeros(0, np.float32)


class Slot(NamedTuple):
    """A bag feature of B examples and the table that it reads."""

    bag: Bag
    table: nn.EmbeddingBag


def pool(towers: Sequence[Sequence[Slot]]) -> list[torch.Tensor]:
    """The pooled rows of each tower's S slots of B examples, (B, S, D): what `encoders.pooled` gives for each slot.

    Tables are on the CPU, all of one width. Their gradients are sparse, without duplicates, in no order of rows.
    Errors: IndexError where a bag has a row that its table has not.
    """
    sizes = [len(slots[0].bag.offsets) - 1 for slots in towers]
    ends = np.cumsum([size * len(slots) for size, slots in zip(sizes, towers, strict=True)])
    readings: dict[nn.EmbeddingBag, list[_Reading]] = {}
    for size, slots, end in zip(sizes, towers, ends.tolist(), strict=True):
        for place, slot in enumerate(slots):
            numbers = np.arange(end - size * len(slots) + place, end, len(slots))
            readings.setdefault(slot.table, []).append(_Reading(slot.bag, numbers))
    matrices = [_matrix(table.num_embeddings, reading) for table, reading in readings.items()]
    vectors: torch.Tensor = _Pool.apply(matrices, int(ends[-1]), *(table.weight for table in readings))  # type: ignore[no-untyped-call]
    parts = torch.split(vectors, np.diff(ends, prepend=0).tolist())
    return [part.view(size, len(slots), -1) for part, size, slots in zip(parts, sizes, towers, strict=True)]


class _Reading(NamedTuple):
    """B bags of a table and the numbers (B,) of the vectors that they become."""

    bag: Bag
    numbers: NDArray[np.int64]


class _Matrix(NamedTuple):
    """Of a table with V rows, `bags` by their rows: rows (T,), offsets and weights (T,); what they become, (bags,)."""

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    weights: NDArray[np.float32]
    numbers: NDArray[np.int64]


def _matrix(table_rows: int, readings: Iterable[_Reading]) -> _Matrix:
    """All that is read of one table; a row that a bag has twice stands there once."""
    bags = [reading.bag for reading in readings]
    numbers = np.concatenate([reading.numbers for reading in readings])
    size = sum(len(bag.rows) for bag in bags)
    rows, weights = np.empty(size, np.int64), np.empty(size, np.float32)
    offsets, places = np.zeros(len(numbers) + 1, np.int64), np.empty(table_rows, np.int64)
    done = 0
    for bag in bags:
        given = _UNWEIGHTED if bag.weights is None else bag.weights.numpy()
        kernels.merge(bag.rows.numpy(), bag.offsets.numpy(), given, places, done, rows, weights, offsets)
        done += len(bag.offsets) - 1
    return _Matrix(rows, offsets, weights, numbers)


class _Pool(torch.autograd.Function):
    """Matrices and their tables (V, D) to vectors (count, D), each bag's at its number."""

    @staticmethod
    def forward(ctx: Any, matrices: list[_Matrix], count: int, *tables: torch.Tensor) -> torch.Tensor:
        ctx.matrices, ctx.shapes = matrices, [table.shape for table in tables]
        vectors = torch.empty(count, tables[0].shape[1])
        for matrix, table in zip(matrices, tables, strict=True):
            kernels.pool(table.detach().numpy(), *matrix, vectors.numpy())
        return vectors

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        source = gradient.contiguous().numpy()
        return None, None, *(
            _table_gradient(source, matrix, shape) for matrix, shape in zip(ctx.matrices, ctx.shapes, strict=True)
        )


def _table_gradient(source: NDArray[np.float32], matrix: _Matrix, shape: torch.Size) -> torch.Tensor:
    """The vectors' gradient (count, D) to that of a table (V, D): sparse."""
    rows, holders, offsets, weights = kernels.transpose(*matrix, shape[0])
    values = np.empty((len(rows), shape[1]), np.float32)
    kernels.pool(source, holders, offsets, weights, np.arange(len(rows)), values)
    return torch.sparse_coo_tensor(
        torch.from_numpy(rows)[None], torch.from_numpy(values), shape, check_invariants=False
    )
