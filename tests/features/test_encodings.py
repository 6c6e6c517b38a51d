import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.features.encodings import CategoryEncoding, NumberEncoding, id_bags, load_encoding
from twinspire.ragged import Ragged


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [ragged.row(i).tolist() for i in range(len(ragged))]


LABELS = (
    st.none() | st.text(max_size=6) | st.sampled_from(["A", "A > B", "A > B > C", "A > D", "", " > ", "None", "true"])
)
NUMBERS = st.none() | st.floats() | st.sampled_from([0.0, 1.0, 2.0])


def test_levels_have_rows_of_their_own_and_a_rare_leaf_keeps_its_parents() -> None:
    values = pl.Series(["A > B", "A > B", "A > C", "D", None])
    encoding = CategoryEncoding.fit(values, min_count=2)
    row = {value: i for i, value in enumerate(encoding.values, 1)}
    assert set(row) == {"A", "A > B"}
    assert encoding.size == 3
    assert as_lists(encoding.apply(values)) == [[row["A"], row["A > B"]]] * 2 + [[row["A"]], [], []]


@given(st.lists(LABELS, max_size=20), st.lists(LABELS, max_size=10), st.integers(1, 3))
def test_category_one_by_one_as_in_a_column(seen: list[str | None], asked: list[str | None], least: int) -> None:
    encoding = CategoryEncoding.fit(pl.Series(seen, dtype=pl.String), least)
    bags = as_lists(encoding.apply(pl.Series(asked + seen, dtype=pl.String)))
    assert bags == [encoding.apply_one(value) for value in asked + seen]
    assert all(0 < row < encoding.size for bag in bags for row in bag)
    again = load_encoding(json.loads(json.dumps(encoding.state())))
    assert as_lists(again.apply(pl.Series(asked + seen, dtype=pl.String))) == bags


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([True, False, None, True, False]),
        pl.Series([1, 2, None, 2, 1], dtype=pl.Int64),
        pl.Series([1.0, 2.5, None, 2.5, 1.0, 1e20, 1e20, 0.1, 0.1]),
        pl.Series(["x", "y", None, "y", "x"], dtype=pl.Categorical),
    ],
)
def test_category_columns_of_any_type_mean_the_same_online(values: pl.Series) -> None:
    encoding = CategoryEncoding.fit(values, 2)
    assert encoding.size > 2
    assert as_lists(encoding.apply(values)) == [encoding.apply_one(value) for value in values]


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=5), st.booleans())
def test_a_whole_number_is_known_however_json_has_written_it(values: list[int], stored_as_floats: bool) -> None:
    column = pl.Series(values, dtype=pl.Float64 if stored_as_floats else pl.Int64)
    encoding = CategoryEncoding.fit(column, 1)
    bags = as_lists(encoding.apply(column))
    assert bags == [encoding.apply_one(value) for value in values]
    assert bags == [encoding.apply_one(float(value)) for value in values]


@pytest.mark.parametrize("value", [None, [], ["A"], {"A": 1}, b"A", object(), math.nan, "unknown", 10**400])
def test_what_is_no_known_label_is_unknown(value: object) -> None:
    assert CategoryEncoding(["", "A", "None"]).apply_one(value) == []


@given(st.lists(NUMBERS, max_size=30), st.lists(NUMBERS, max_size=10), st.integers(2, 8))
def test_number_one_by_one_as_in_a_column(seen: list[float | None], asked: list[float | None], bins: int) -> None:
    encoding = NumberEncoding.fit(pl.Series(seen, dtype=pl.Float64), bins)
    values = asked + seen
    bags = as_lists(encoding.apply(pl.Series(values, dtype=pl.Float64)))
    assert bags == [encoding.apply_one(value) for value in values]
    assert encoding.size <= bins + 1
    for value, bag in zip(values, bags, strict=True):
        unknown = value is None or math.isnan(value)
        assert len(bag) == (0 if unknown else 1)
        assert all(0 < row < encoding.size for row in bag)
    again = load_encoding(json.loads(json.dumps(encoding.state(), allow_nan=False)))
    assert as_lists(again.apply(pl.Series(values, dtype=pl.Float64))) == bags


def test_number_rows_are_quantiles_in_order() -> None:
    values = pl.Series(np.random.default_rng(0).lognormal(size=10_000))
    encoding = NumberEncoding.fit(values, bins=10)
    rows = encoding.apply(values).values
    assert encoding.size == 11
    np.testing.assert_allclose(np.bincount(rows, minlength=11)[1:], 1000, atol=2)
    order = np.argsort(values.to_numpy())
    assert (np.diff(rows[order]) >= 0).all()


@pytest.mark.parametrize("value", [None, "cheap", [], {}, object(), math.nan, "nan", 10**400])
def test_what_is_no_number_is_unknown(value: object) -> None:
    assert NumberEncoding([1.0, 2.0]).apply_one(value) == []


def test_a_column_without_a_number_has_no_row_in_use() -> None:
    for values in ([None, None], [math.nan], []):
        encoding = NumberEncoding.fit(pl.Series(values, dtype=pl.Float64), 5)
        assert encoding.edges == []
        assert as_lists(encoding.apply(pl.Series(values, dtype=pl.Float64))) == [[]] * len(values)


def test_ids_have_a_row_once_they_have_the_clicks() -> None:
    bags, size = id_bags(np.array([3, 0, 10, 2, 3]), min_count=3)
    assert as_lists(bags) == [[1], [], [2], [], [3]]
    assert size == 4
    assert id_bags(np.zeros(2, np.int64), 1)[1] == 1
