import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twinspire.model import Architecture, FeatureSlot, ModelConfig, QueryLookup, TwoTower, to_bags
from twinspire.ragged import Ragged

SIZES = {"words": 12, "item.id": 5, "brand": 7}
QUERY = tuple(
    FeatureSlot(feature=feature, table=table)
    # Two features share a table, and one table stands in another order than it is read.
    for feature, table in (
        ("words", "words"),
        ("history.brand", "brand"),
        ("history.id", "item.id"),
        ("brand", "brand"),
    )
)


def model(heads: int, skip: bool = True) -> TwoTower:
    torch.manual_seed(0)
    towers = Architecture(
        config=ModelConfig(dim=8, hidden=6, heads=heads, skip=skip),
        tables=SIZES,
        query=QUERY,
        item=(FeatureSlot(feature="words", table="words"),),
    )
    made = TwoTower(towers)
    for gain, encoder in zip((0.5, 2.0, -1.0, 1.5), made.query_tower.encoders, strict=True):
        encoder.gain.data.fill_(gain)
    return made.eval()


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Ragged]:
    size = draw(st.integers(0, 4))
    made = {}
    for slot in QUERY:
        rows = st.integers(1, SIZES[slot.table] - 1)
        bags = Ragged.from_rows([draw(st.lists(rows, max_size=4)) for _ in range(size)])
        if slot.feature.startswith("history") and draw(st.booleans()):
            weights = np.array(
                draw(st.lists(st.floats(0, 1), min_size=(n := len(bags.values)), max_size=n)), np.float32
            )
            bags = Ragged(bags.values, bags.offsets, weights)
        made[slot.feature] = bags
    return made


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("skip", [True, False])
@given(features=batches())
def test_gives_what_the_tower_gives(heads: int, skip: bool, features: dict[str, Ragged]) -> None:
    towers = model(heads, skip)
    expected = towers.queries(to_bags(features)).detach()
    torch.testing.assert_close(torch.from_numpy(QueryLookup(towers)(features)), expected)


def test_holds_no_row_twice() -> None:
    towers = model(1)
    before = {name: table.weight.detach().clone() for name, table in towers.tables.items()}
    QueryLookup(towers)
    storages = {table.weight.untyped_storage().data_ptr() for table in towers.tables.values()}
    assert len(storages) == 1
    for name, table in towers.tables.items():
        np.testing.assert_array_equal(table.weight.numpy(), before[name].numpy())
