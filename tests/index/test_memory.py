from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.features.log import age_in_days
from twinspire.index.memory import FORGOTTEN, QueryMemory

CLICKS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 40)), max_size=30)
NAMES = ["mug", "red mug", "手机壳", "lamp"]


def remembered(clicks: list[tuple[int, int, float]], half_life: float = 7.0) -> QueryMemory:
    """From clicks of query, item and age in days."""
    columns = np.array(clicks, np.float64).reshape(-1, 3)
    query, item = columns[:, 0].astype(np.int32), columns[:, 1].astype(np.int32)
    return QueryMemory.build(pl.Series("query", NAMES), query, item, columns[:, 2], half_life)


def shares(memory: QueryMemory, text: str) -> dict[int, float]:
    items, found = memory.of(text)
    assert len(items) == len(found)
    assert items.tolist() == sorted(items.tolist())
    return dict(zip(items.tolist(), found.tolist(), strict=True))


def test_decayed_shares_by_hand() -> None:
    """Item 5 today and a week ago, item 3 a week ago: 1 + 1/2 and 1/2 of 2 clicks, over 2 + 1."""
    memory = remembered([(0, 5, 0), (0, 3, 7), (0, 5, 7), (1, 2, 14)])
    assert shares(memory, "mug") == pytest.approx({3: 0.5 / 3, 5: 1.5 / 3})
    assert shares(memory, "red mug") == pytest.approx({2: 0.25 / 1.25})


@pytest.mark.parametrize("n", [1, 2, 9])
def test_n_fresh_clicks_say_n_of_n_and_one(n: int) -> None:
    assert shares(remembered([(0, 1, 0)] * n), "mug") == pytest.approx({1: n / (n + 1)})


def test_what_is_too_old_is_forgotten() -> None:
    """Five half-lives leave 1/32, under the 0.05 that is kept; two such clicks are above it."""
    memory = remembered([(0, 1, 35), (1, 1, 28), (3, 1, 35), (3, 2, 35)])
    assert memory.queries.to_list() == ["red mug", "lamp"]
    assert shares(memory, "mug") == {}
    assert shares(memory, "red mug") == pytest.approx({1: (1 / 16) / (17 / 16)})
    assert shares(memory, "lamp") == pytest.approx({1: (1 / 32) / (34 / 32), 2: (1 / 32) / (34 / 32)})


@pytest.mark.parametrize("text", ["red mug", " Red\t MUG ", "ＲＥＤ mug"])
def test_a_query_is_known_by_its_normal_form(text: str) -> None:
    assert shares(remembered([(1, 4, 0)]), text) == {4: 0.5}
    assert shares(remembered([(1, 4, 0)]), "mug") == {}


@given(CLICKS, st.sampled_from([1.0, 7.0, 30.0]))
def test_shares_are_those_of_plain_python(clicks: list[tuple[int, int, int]], half_life: float) -> None:
    memory = remembered([(q, i, float(age)) for q, i, age in clicks], half_life)
    expected: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for query, item, age in clicks:
        expected[query][item] += 0.5 ** (age / half_life)
    for row, name in enumerate(NAMES):
        total = sum(expected[row].values())
        if total < FORGOTTEN:
            assert shares(memory, name) == {}
        else:
            of_item = {item: weight / (total + 1) for item, weight in expected[row].items()}
            assert shares(memory, name) == pytest.approx(of_item, rel=1e-5)


@given(CLICKS)
def test_a_memory_is_as_it_was_after_saving(tmp_path_factory: pytest.TempPathFactory, clicks: list) -> None:
    path = tmp_path_factory.mktemp("memory") / "memory.parquet"
    memory = remembered(clicks)
    memory.save(path)
    loaded = QueryMemory.load(path)
    assert loaded.queries.to_list() == memory.queries.to_list()
    for name in (*NAMES, "never asked"):
        assert shares(loaded, name) == shares(memory, name)
    assert loaded.items.values.dtype == np.int32
    assert loaded.shares.dtype == np.float32


def test_an_empty_memory(tmp_path: Path) -> None:
    memory = remembered([])
    memory.save(tmp_path / "memory.parquet")
    for each in (memory, QueryMemory.load(tmp_path / "memory.parquet")):
        assert len(each.queries) == 0
        assert shares(each, "mug") == {}


def test_age_is_against_the_last_click() -> None:
    day = 86_400_000_000
    assert age_in_days(np.array([0, day, 3 * day])).tolist() == [3, 2, 0]
    assert age_in_days(np.zeros(0, np.int64)).tolist() == []
