"""Pooling all bags at once against torch's own EmbeddingBag, bag by bag."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinspire.model import Bag
from twinspire.model.encoders import make_table, pooled
from twinspire.model.pooling import Slot, pool

D, SIZES = 6, (7, 4)  # of the tables
LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=5)


def tables(*, sparse: bool = True) -> list[torch.nn.EmbeddingBag]:
    torch.manual_seed(0)
    return [make_table(rows, D, scale=1.0, sparse=sparse) for rows in SIZES]


def bag(rows: int, lengths: list[int], *, weighted: bool) -> Bag:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    total = int(offsets[-1])
    return Bag(torch.randint(0, rows, (total,)), offsets, torch.rand(total) if weighted else None)


def towers(data: st.DataObject) -> list[list[tuple[int, Bag]]]:
    """Two towers of some slots each: the number of a table, and bags with duplicates, some of them empty."""
    made = []
    for _ in range(2):
        size = data.draw(st.integers(1, 5))
        slots = data.draw(st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=1, max_size=4))
        lengths = [data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size)) for _ in slots]
        made.append(
            [
                (table, bag(SIZES[table], each, weighted=weighted))
                for (table, weighted), each in zip(slots, lengths, strict=True)
            ]
        )
    return made


@settings(deadline=None)
@given(st.data())
def test_vectors_and_gradients_are_torchs(data: st.DataObject) -> None:
    found_tables, expected_tables = tables(), tables(sparse=False)
    named = towers(data)
    scales = [torch.rand(slots[0][1].size, len(slots)).round(decimals=1).requires_grad_() for slots in named]
    found = pool([[Slot(of, found_tables[table]) for table, of in slots] for slots in named], scales)
    factors = [torch.randn(part.shape) for part in found]
    sum((part * factor).sum() for part, factor in zip(found, factors, strict=True)).backward()
    found_scales = [scale.grad for scale in scales]
    for scale in scales:
        scale.grad = None
    expected = [
        torch.stack([pooled(of, expected_tables[table]) for table, of in slots], dim=1) * scale[:, :, None]
        for slots, scale in zip(named, scales, strict=True)
    ]
    sum((part * factor).sum() for part, factor in zip(expected, factors, strict=True)).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_scales, [scale.grad for scale in scales])
    for ours, theirs in zip(found_tables, expected_tables, strict=True):
        if theirs.weight.grad is None:
            assert ours.weight.grad is None
            continue
        rows = ours.weight.grad._indices()[0].tolist()
        assert len(rows) == len(set(rows))
        torch.testing.assert_close(ours.weight.grad.to_dense(), theirs.weight.grad)


def test_no_bags_at_all() -> None:
    nothing = Bag(torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    (vectors,) = pool([[Slot(nothing, tables()[0])]], [torch.ones(0, 1)])
    assert vectors.shape == (0, 1, D)


@pytest.mark.parametrize("row", [-1, SIZES[0]])
def test_a_row_that_the_table_has_not_is_refused(row: int) -> None:
    wrong = Bag(torch.tensor([0, row]), torch.tensor([0, 2]))
    with pytest.raises(IndexError, match="its table has not"):
        pool([[Slot(wrong, tables()[0])]], [torch.ones(1, 1)])
