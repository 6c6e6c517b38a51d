"""Filters against the same conditions asked of the table row by row."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.errors import ConfigError, RequestError
from twinspire.index import filters
from twinspire.index.filters import FilterIndex, Selection, filterable

CATEGORIES = ["A", "A > B", "A > B > C", "A > B!", "A > B -", "AB", "A > Bc", "手 > 机"]
BRANDS = ["acme", "Acme", "borealis", ""]
PRICES = [0.0, 1.5, 2.0, float("inf"), float("nan"), 1e9]

ITEMS = st.lists(
    st.fixed_dictionaries(
        {
            "category": st.sampled_from([*CATEGORIES, None]),
            "brand": st.sampled_from([*BRANDS, None]),
            "price": st.sampled_from([*PRICES, None]),
            "new": st.sampled_from([True, False, None]),
        }
    ),
    min_size=1,
    max_size=40,
)
NUMBER = st.sampled_from([0, 1.5, 2, 3.0, 1e9])
CONDITIONS = {
    "category": st.one_of(st.sampled_from([*CATEGORIES, "B"]), st.lists(st.sampled_from(CATEGORIES), min_size=1)),
    "brand": st.one_of(st.sampled_from(BRANDS), st.lists(st.sampled_from(BRANDS), min_size=1)),
    "price": st.one_of(
        NUMBER,
        st.lists(NUMBER, min_size=1),
        st.fixed_dictionaries({"min": NUMBER}),
        st.fixed_dictionaries({"max": NUMBER}),
        st.tuples(NUMBER, NUMBER).map(lambda two: {"min": min(two), "max": max(two)}),
    ),
    "new": st.booleans(),
}
FILTERS = st.lists(st.sampled_from(list(CONDITIONS)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: CONDITIONS[name] for name in names})
)


def table(rows: list[dict]) -> pl.DataFrame:
    schema = {"category": pl.String, "brand": pl.String, "price": pl.Float64, "new": pl.Boolean}
    return pl.DataFrame(rows, schema=schema)


def index_of(items: pl.DataFrame) -> FilterIndex:
    return FilterIndex.build(items, filterable(items, items.columns))


def meets(value: object, condition: object) -> bool:
    if value is None:
        return False
    if isinstance(condition, list):
        return any(meets(value, one) for one in condition)
    if isinstance(condition, dict):
        return condition.get("min", -np.inf) <= value <= condition.get("max", np.inf)
    if isinstance(condition, str):
        return value == condition or str(value).startswith(condition + " > ")
    return value == condition


def expected(rows: list[dict], asked: dict) -> list[int]:
    return [n for n, row in enumerate(rows) if all(meets(row[name], condition) for name, condition in asked.items())]


def bits(selection: Selection, items: int) -> list[int]:
    return np.flatnonzero(np.unpackbits(selection.bitmap, bitorder="little")[:items]).tolist()


@given(ITEMS, FILTERS)
def test_the_items_that_meet_all_conditions_however_they_are_asked_for(rows: list[dict], asked: dict) -> None:
    selection = index_of(table(rows)).select(asked)
    allowed = expected(rows, asked)
    assert selection.few(len(rows)).tolist() == allowed
    assert bits(selection, len(rows)) == allowed
    every = np.arange(-1, len(rows))
    assert np.flatnonzero(selection.allows(every)).tolist() == [row + 1 for row in allowed]
    # So few rows are all sampled, which makes the estimate exact.
    assert selection.share * len(rows) == pytest.approx(len(allowed))


@given(ITEMS, FILTERS)
def test_what_is_read_back_is_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[dict], asked: dict) -> None:
    folder = tmp_path_factory.mktemp("filters") / "filters"
    built = index_of(table(rows))
    built.save(folder)
    kinds = filterable(table(rows), table(rows).columns)
    loaded = FilterIndex.load(folder, kinds, len(rows))
    assert loaded.select(asked).few(len(rows)).tolist() == built.select(asked).few(len(rows)).tolist()


def test_few_means_few() -> None:
    items = pl.DataFrame({"brand": ["acme"] * 900 + ["borealis"] * 100, "price": np.arange(1000.0)})
    index = index_of(items)
    assert index.select({"brand": "acme"}).few(899) is None
    assert len(index.select({"brand": "acme"}).few(900)) == 900
    both = index.select({"brand": "acme", "price": {"min": 890}})
    assert both.few(10).tolist() == list(range(890, 900))
    assert both.share == pytest.approx(0.01)


def test_the_share_of_several_conditions_is_estimated() -> None:
    rng = np.random.default_rng(0)
    items = pl.DataFrame({"brand": rng.choice(["a", "b"], 50_000), "price": rng.random(50_000)})
    assert index_of(items).select({"brand": "a", "price": {"max": 0.25}}).share == pytest.approx(0.125, abs=0.02)


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({"colour": "red"}, "filters.colour", "cannot be filtered by; columns that can: brand, price"),
        ({"brand": 3}, "filters.brand", "give a text or a list of texts"),
        ({"brand": {"min": 3}}, "filters.brand", "min and max are for numbers"),
        ({"brand": []}, "filters.brand", "give at least one value"),
        ({"price": "cheap"}, "filters.price", "give a number, a list of numbers, or min and max"),
        ({"price": {}}, "filters.price", "give min, max or both"),
        ({"price": {"min": 2, "max": 1}}, "filters.price", "min is greater than max"),
    ],
)
def test_filters_that_cannot_be_are_refused_by_name(asked: dict, field: str, says: str) -> None:
    index = index_of(pl.DataFrame({"brand": ["acme"], "price": [1.0]}))
    with pytest.raises(RequestError, match=says) as refusal:
        index.select(asked)
    assert refusal.value.field == field


def test_declared_columns_must_be_there_and_hold_something_to_compare() -> None:
    items = pl.DataFrame({"item_id": ["i"], "brand": [None], "tags": [["a"]]}, schema_overrides={"brand": pl.String})
    assert filterable(items, "auto") == {}
    assert filterable(items, ["brand"]) == {"brand": "text"}
    with pytest.raises(ConfigError, match=r"index\.filters: the items have no column 'size'"):
        filterable(items, ["size"])
    with pytest.raises(ConfigError, match=r"index\.filters: tags is List\(String\); a column to filter by holds"):
        filterable(items, ["tags"])


def test_selections_are_kept_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "KEPT", 2)
    index = index_of(pl.DataFrame({"brand": ["acme"], "new": [True]}))
    first = index.select({"brand": "acme"})
    assert index.select({"brand": "acme"}) is first
    assert index.select({"new": True}) is not index.select({"new": 1})
    assert index.select({"brand": "acme"}) is not first
    assert index.select({}) is None
