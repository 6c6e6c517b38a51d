"""The id map against a dict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.features.ids import ItemIds, ItemRows

TEXTS = st.text(st.characters(codec="utf-8"), max_size=4)


@given(st.lists(TEXTS, unique=True, max_size=30), st.lists(TEXTS, max_size=5))
def test_ids_and_rows_there_and_back(ids: list[str], others: list[str]) -> None:
    held = ItemIds.of(ids)
    rows, expected = ItemRows(held), {item_id: row for row, item_id in enumerate(ids)}
    assert (list(held), len(held)) == (ids, len(ids))
    assert dict(rows) == expected
    for item_id in [*ids, *others]:
        assert rows.get(item_id) == expected.get(item_id)
        assert (item_id in rows) == (item_id in expected)


def test_what_is_read_back_is_the_same(tmp_path) -> None:
    ids = [f"item-{n}" for n in range(5000)]
    ItemIds.of(ids).save(tmp_path / "ids")
    held = ItemIds.load(tmp_path / "ids")
    assert list(held) == ids
    assert [held.row(item_id) for item_id in ids] == list(range(5000))
    assert (held[-1], held[1:3]) == ("item-4999", ["item-1", "item-2"])
    assert held.row("\ud800") == -1
    with pytest.raises(IndexError):
        held[5000]
    with pytest.raises(KeyError):
        ItemRows(held)["nobody"]
