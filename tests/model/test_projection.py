"""Look-up and projection at once against torch's own EmbeddingBag and a product, slot by slot."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinspire.model import Bag
from twinspire.model.encoders import make_table, pooled
from twinspire.model.projection import Side, project

D, F, SIZES = 6, 5, (30, 4)  # rows of the tables: the first has more than there are bags, the second may have fewer


def tables(*, sparse: bool = True) -> list[torch.nn.EmbeddingBag]:
    torch.manual_seed(0)
    return [make_table(rows, D, scale=1.0, sparse=sparse) for rows in SIZES]


def bag(rows: int, lengths: list[int], *, weighted: bool) -> Bag:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    total = int(offsets[-1])
    return Bag(torch.randint(0, rows, (total,)), offsets, torch.rand(total) if weighted else None)


def towers(data: st.DataObject) -> list[tuple[list[int], list[Bag], torch.Tensor, list[torch.Tensor]]]:
    """Two towers of some slots: each slot's table, its bags with duplicates, some empty, and what else a Side has."""
    made = []
    for _ in range(2):
        size = data.draw(st.integers(1, 8))
        slots = data.draw(st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=1, max_size=4))
        lengths = [data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)) for _ in slots]
        bags = [
            bag(SIZES[table], each, weighted=weighted) for (table, weighted), each in zip(slots, lengths, strict=True)
        ]
        kept = torch.rand(len(slots), size) < 0.7
        gains = torch.randn(len(slots)) * (torch.rand(len(slots)) < 0.8)  # 0 now and then
        parameters = [gains, torch.randn(F, len(slots) * D), torch.randn(F)]
        made.append(([table for table, _ in slots], bags, kept, parameters))
    return made


def one_by_one(
    bags: list[Bag],
    tables: list[torch.nn.EmbeddingBag],
    kept: torch.Tensor,
    gains: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    vectors = torch.stack([pooled(of, table) for of, table in zip(bags, tables, strict=True)], dim=1)
    vectors = vectors * (kept * gains[:, None]).T[:, :, None]
    return torch.cat([vectors.flatten(1) @ weight.T + bias, vectors.sum(1)], dim=1)


@settings(deadline=None)
@given(st.data())
def test_outputs_and_gradients_are_torchs(data: st.DataObject) -> None:
    given_towers = towers(data)
    found: list[list[torch.Tensor]] = []
    factors = [torch.randn(kept.shape[1], F + D) for _, _, kept, _ in given_towers]
    for at_once in (True, False):
        own = tables(sparse=at_once)
        sides = [
            Side(bags, [own[table] for table in numbers], kept, *(part.clone().requires_grad_() for part in parameters))
            for numbers, bags, kept, parameters in given_towers
        ]
        outputs = (
            [torch.cat(parts, dim=1) for parts in project(sides)] if at_once else [one_by_one(*side) for side in sides]
        )
        sum((part * factor).sum() for part, factor in zip(outputs, factors, strict=True)).backward()
        gradients = [table.weight.grad for table in own]
        if at_once:
            for gradient in gradients:
                rows = [] if gradient is None else gradient._indices()[0].tolist()
                assert len(rows) == len(set(rows))
        dense = [torch.zeros(1) if gradient is None else gradient.to_dense() for gradient in gradients]
        parameters = [parameter.grad for side in sides for parameter in (side.gains, side.weight, side.bias)]
        found.append([part.detach() for part in outputs] + dense + parameters)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def side(rows: list[int], offsets: list[int]) -> Side:
    bags = [Bag(torch.tensor(rows, dtype=torch.int64), torch.tensor(offsets))]
    return Side(
        bags,
        tables()[:1],
        torch.ones(1, len(offsets) - 1, dtype=torch.bool),
        torch.ones(1),
        torch.ones(F, D),
        torch.ones(F),
    )


def test_no_bags_at_all() -> None:
    ((projected, total),) = project([side([], [0])])
    assert (projected.shape, total.shape) == ((0, F), (0, D))


@pytest.mark.parametrize("row", [-1, SIZES[0]])
def test_a_row_that_the_table_has_not_is_refused(row: int) -> None:
    with pytest.raises(IndexError, match="its table has not"):
        project([side([0, row], [0, 2])])
