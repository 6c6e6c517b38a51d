import io

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from twinspire.errors import ConfigError
from twinspire.evaluation.head_report import HeadReport, query_heads, tables
from twinspire.evaluation.heads import measure_heads
from twinspire.evaluation.labels import item_labels

ITEMS = pl.DataFrame(
    {
        "item_id": ["p1", "p2", "f1", "f2"],
        "title": ["red phone", "blue phone", None, "apples"],
        "category": ["Shop > Phones > Smart", "Shop > Phones", "Shop > Fruit > Apples", None],
        "brand": ["acme", "acme", None, "borealis"],
    }
)
VECTORS = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]], np.float32)
HEADS = np.array([[1.0, 0.0], [-0.28, 0.96]], np.float32)  # phones; fruit


def test_each_head_has_its_own_best_and_a_place_where_it_brought_them() -> None:
    """Products: head 1 has 1, .8, 0, -.6; head 2 has -.28, .352, .96, .936. Final: p1, f1, f2."""
    found = query_heads("apple", HEADS, VECTORS, ITEMS, item_labels(ITEMS), k=3)
    first, second = found.heads
    assert [item.item_id for item in first.items] == ["p1", "p2", "f1"]
    assert [item.rank for item in first.items] == [1, None, None]
    assert [item.item_id for item in second.items] == ["f1", "f2", "p2"]
    assert [item.rank for item in second.items] == [2, 3, None]
    assert (first.brought, second.brought) == (1, 2)
    assert first.labels == {"Phones": 2, "Fruit": 1}
    assert found.final == {"Phones": 1, "Fruit": 1}
    assert second.items[1].label is None
    assert first.items[2].title == ""


def test_the_report_shows_heads_side_by_side() -> None:
    entry = query_heads("apple", HEADS, VECTORS, ITEMS, item_labels(ITEMS), k=3)
    overall = measure_heads(HEADS[None], VECTORS, 3)
    console = Console(width=80, record=True, file=io.StringIO())
    for part in tables(HeadReport(bundle="b", k=3, overall=overall, queries=(entry,))):
        console.print(part)
    text = console.export_text()
    assert "head 1: brings 1 of 3" in text
    assert "head 2: brings 2 of 3" in text
    assert "Phones 2, Fruit 1" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_category_is_cut_to_its_level() -> None:
    assert item_labels(ITEMS).to_list() == ["Phones", "Phones", "Fruit", None]
    assert item_labels(ITEMS, level=1).to_list() == ["Shop", "Shop", "Shop", None]
    assert item_labels(ITEMS, level=3).to_list() == ["Smart", "Phones", "Apples", None]
    assert item_labels(ITEMS, "brand").to_list() == ["acme", "acme", None, "borealis"]


def test_brand_stands_in_for_a_category_that_nobody_filled_in() -> None:
    empty = ITEMS.with_columns(pl.lit(None, pl.String).alias("category"))
    assert item_labels(empty).to_list() == ["acme", "acme", None, "borealis"]
    bare = ITEMS.select("item_id", "title")
    assert item_labels(bare).null_count() == len(bare)


def test_an_unknown_column_and_labels_that_are_needed_are_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"--by colour: .* no such column; they have item_id, title"):
        item_labels(ITEMS, "colour")
    with pytest.raises(ConfigError, match="no category or brand; name one of their columns: item_id, title"):
        item_labels(ITEMS.select("item_id", "title"), needed=True)
