"""Look-up, pooling and projection of both towers in one, for training on a CPU, at a cost linear in the bags' rows.

A slot's part of the hidden layer is A T W: its bags A (B, V), the table T (V, D), its columns of the projection W
(D, F). Where the bags have fewer distinct rows than there are bags, as those of a brand or an age, T W of these rows
comes first; elsewhere A T. Either way the slot has `carriers` X (n, D), table rows or pooled bags, that are projected,
and a spread P (B, n), by which they add up to the examples: P (X W). Beside it stands P X, for the skip path.

The tables' gradients are products with the transposes: for each row the sum over all that has it, of both towers. So a
gradient comes with each row once, and nothing is sorted.
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


class Side(NamedTuple):
    """A tower's S slots of B examples."""

    bags: Sequence[Bag]
    tables: Sequence[nn.EmbeddingBag]
    kept: torch.Tensor  # (S, B) bool: the others are dropped
    gains: torch.Tensor  # (S,)
    weight: torch.Tensor  # (F, S * D)
    bias: torch.Tensor  # (F,)


def project(sides: Sequence[Side]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each tower's slots, pooled, by their gains: projected (B, F), and their sum (B, D).

    Tables are on the CPU and of one width; their gradients are sparse and have each row once, in no order.
    Errors: IndexError where a bag has a row that its table has not.
    """
    plan = _plan(sides)
    parameters = [parameter for side in sides for parameter in (side.gains, side.weight, side.bias)]
    tables = [table.weight for table in plan.tables]
    found = _Project.apply(plan, *parameters, *tables)  # type: ignore[no-untyped-call]
    return list(zip(found[::2], found[1::2], strict=True))


class _Matrix(NamedTuple):
    """Bags of rows: rows (T,), offsets (B + 1,), weights (T,)."""

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    weights: NDArray[np.float32]


class _Spread(NamedTuple):
    """How a slot's carriers, `at` of all carriers, add up to its examples; None: they are the examples' own."""

    at: slice
    matrix: _Matrix | None


class _Plan(NamedTuple):
    """The carriers of each table, as bags of its rows; and each tower's slots."""

    tables: list[nn.EmbeddingBag]
    carriers: list[_Matrix]
    spreads: list[list[_Spread]]
    examples: list[int]


def _plan(sides: Sequence[Side]) -> _Plan:
    """Carriers are numbered table by table, of which one may have slots in both towers."""
    readers: dict[nn.EmbeddingBag, list[tuple[int, int]]] = {}
    for number, side in enumerate(sides):
        for place, table in enumerate(side.tables):
            readers.setdefault(table, []).append((number, place))
    found: dict[tuple[int, int], _Spread] = {}
    carriers, count = [], 0
    for table, slots in readers.items():
        parts = []
        for number, place in slots:
            kept = sides[number].kept.numpy()[place]
            carrier, spread = _slot(sides[number].bags[place], table.num_embeddings, kept)
            parts.append(carrier)
            end = count + len(carrier.offsets) - 1
            found[number, place] = _Spread(slice(count, end), spread)
            count = end
        carriers.append(_below(parts))
    spreads = [[found[number, place] for place in range(len(side.bags))] for number, side in enumerate(sides)]
    return _Plan(list(readers), carriers, spreads, [side.kept.shape[1] for side in sides])


def _slot(bag: Bag, table_rows: int, kept: NDArray[np.bool_]) -> tuple[_Matrix, _Matrix | None]:
    """A slot's carriers, as bags of table rows, and how they spread."""
    given = _UNWEIGHTED if bag.weights is None else bag.weights.numpy()
    merged = _Matrix(*kernels.merge(bag.rows.numpy(), bag.offsets.numpy(), given, kept, table_rows))
    if min(len(merged.rows), table_rows) >= len(kept):
        return merged, None
    rows, numbers = kernels.number(merged.rows, table_rows)
    single = _Matrix(rows, np.arange(len(rows) + 1), np.ones(len(rows), np.float32))
    return single, _Matrix(numbers, merged.offsets, merged.weights)


def _below(parts: list[_Matrix]) -> _Matrix:
    """Bags below bags."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([len(part.rows) for part in parts])
    offsets = [part.offsets[1:] + end - len(part.rows) for part, end in zip(parts, ends, strict=True)]
    return _Matrix(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([parts[0].offsets[:1], *offsets]),
        np.concatenate([part.weights for part in parts]),
    )


class _Project(torch.autograd.Function):
    """A plan, each tower's gains (S,), weight (F, S * D), bias (F,), and the tables to each tower's (B, F), (B, D)."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        towers = len(plan.spreads)
        tables = [table.detach() for table in parameters[3 * towers :]]
        sizes = [len(carriers.offsets) - 1 for carriers in plan.carriers]
        vectors = torch.empty(sum(sizes), tables[0].shape[1])  # X
        for table, carriers, part in zip(tables, plan.carriers, torch.split(vectors, sizes), strict=True):
            kernels.pool(table.numpy(), *carriers, part.numpy(), False)
        ctx.carriers, ctx.sizes, ctx.shapes = plan.carriers, sizes, [table.shape for table in tables]
        ctx.towers = [
            _Tower(spreads, vectors, *parameters[3 * place : 3 * place + 3])
            for place, spreads in enumerate(plan.spreads)
        ]
        outputs = [tower.forward(size) for tower, size in zip(ctx.towers, plan.examples, strict=True)]
        return tuple(part for output in outputs for part in output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_vectors = torch.empty(sum(ctx.sizes), ctx.shapes[0][1])
        of_parameters = [
            part
            for tower, gradient in zip(ctx.towers, zip(gradients[::2], gradients[1::2], strict=True), strict=True)
            for part in tower.backward(torch.cat(gradient, dim=1), of_vectors)
        ]
        parts = torch.split(of_vectors, ctx.sizes)
        of_tables = [
            _table_gradient(part, carriers, shape)
            for part, carriers, shape in zip(parts, ctx.carriers, ctx.shapes, strict=True)
        ]
        return None, *of_parameters, *of_tables


class _Tower:
    """One tower's part: its slots' spreads, gains (S,), weight (F, S * D), bias (F,), and all carriers (n, D)."""

    def __init__(self, spreads: list[_Spread], vectors: torch.Tensor, *parameters: torch.Tensor) -> None:
        gains, weight, bias = (parameter.detach() for parameter in parameters)
        self.spreads, self.gains, self.weight, self.bias = spreads, gains.tolist(), weight, bias
        self.own = [vectors[spread.at] for spread in spreads]
        self.width, self.dim = weight.shape[0], vectors.shape[1]
        self.columns = torch.split(self.weight, self.dim, dim=1)

    def forward(self, examples: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, F) and (B, D)."""
        out = torch.zeros(examples, self.width + self.dim)
        hidden, total = out[:, : self.width], out[:, self.width :]
        hidden += self.bias
        for (_, matrix), own, gain, columns in zip(self.spreads, self.own, self.gains, self.columns, strict=True):
            if matrix is None:
                hidden.addmm_(own, columns.T, alpha=gain)
                total.add_(own, alpha=gain)
            else:
                both = torch.cat([own @ columns.T, own], dim=1)
                kernels.pool(both.numpy(), *matrix[:2], matrix.weights * np.float32(gain), out.numpy(), True)
        return hidden, total

    def backward(self, gradient: torch.Tensor, of_vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From the gradient (B, F + D) those of gains, weight and bias; into `of_vectors` (n, D) the carriers'."""
        of_gains, of_weight = [], torch.empty_like(self.weight)
        for place, (at, matrix) in enumerate(self.spreads):
            own, gain, each = self.own[place], self.gains[place], gradient
            if matrix is not None:
                each = torch.zeros(len(own), self.width + self.dim)
                kernels.add_transposed(gradient.numpy(), *matrix, each.numpy())
            of_hidden, of_total, of_own = each[:, : self.width], each[:, self.width :], of_vectors[at]
            torch.addmm(of_total, of_hidden, self.columns[place], out=of_own)
            of_gains.append(torch.dot(of_own.view(-1), own.view(-1)))
            of_own *= gain
            of_columns = of_weight[:, place * self.dim : (place + 1) * self.dim]
            torch.addmm(of_columns, of_hidden.T, own, beta=0, alpha=gain, out=of_columns)
        return torch.stack(of_gains), of_weight, gradient[:, : self.width].sum(0)


def _table_gradient(of_carriers: torch.Tensor, carriers: _Matrix, shape: torch.Size) -> torch.Tensor:
    """From that of a table's carriers (n, D) the gradient of the table (V, D), sparse."""
    rows, owners, offsets, weights = kernels.transpose(*carriers, shape[0])
    values = torch.empty(len(rows), shape[1])
    kernels.pool(of_carriers.numpy(), owners, offsets, weights, values.numpy(), False)
    return torch.sparse_coo_tensor(torch.from_numpy(rows)[None], values, shape, check_invariants=False)
