"""The truth: grades and utilities that can be computed again from what is saved."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinspire.errors import DatasetError
from twinspire.simulation import act, draw_requests, truth
from twinspire.simulation.market import AUDIENCES, load_market

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.simulation import Truth


def test_judgements_are_the_truths_grades(market_folder: Path, market_truth: Truth) -> None:
    judged = pl.read_parquet(market_folder / "judgements.parquet")
    rows = pl.read_parquet(market_folder / "items.parquet").with_row_index("row").select("item_id", "row")
    judged = judged.join(rows, on="item_id", maintain_order="left")
    again = market_truth.relevance(judged["query"].to_list(), judged["row"].to_numpy())
    np.testing.assert_array_equal(again, judged["grade"].to_numpy())
    assert 0.15 < (judged["grade"] == 1).mean() < 0.6  # type: ignore[operator]
    assert 0.15 < (judged["grade"] == 0).mean() < 0.6  # type: ignore[operator]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_utilities_lie_between_0_and_1_and_follow_grades(market_truth: Truth, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 6))
    query = st.sampled_from(market_truth.queries.text)
    queries = data.draw(st.lists(query, min_size=size, max_size=size))
    row = st.integers(-1, len(market_truth.items.type) - 1)
    items = np.array([data.draw(st.lists(row, min_size=4, max_size=4)) for _ in range(size)])
    users = data.draw(st.lists(st.integers(0, 399), min_size=size, max_size=size))
    grades, utilities = market_truth.relevance(queries, items), market_truth.utility(users, queries, items)
    assert grades.shape == utilities.shape == items.shape
    assert ((grades >= 0) & (grades <= 1)).all()
    assert ((utilities >= 0) & (utilities <= 1)).all()
    assert (grades[items < 0] == 0).all()
    assert (utilities[items < 0] == 0).all()
    assert (utilities[(grades == 0) & (items >= 0)] < 0.01).all()
    pairs = market_truth.utility(users, queries, items[:, 0])
    np.testing.assert_array_equal(pairs, utilities[:, 0])


def test_grades_say_what_the_query_says(market_truth: Truth) -> None:
    market, items = load_market(), market_truth.items
    everything = np.arange(len(items.type))
    grades = market_truth.relevance(["phones"] * len(everything), everything)
    np.testing.assert_array_equal(grades > 0, items.category == market.categories.index("Phones"))
    grades = market_truth.relevance(["apple"] * len(everything), everything)
    fruit = items.type == market.types.index("Apples")
    assert (grades[fruit] == 1).all()
    electronics = grades[(grades == 1) & ~fruit]
    assert len(electronics) > 10


def test_query_texts_are_read_as_typed(market_truth: Truth) -> None:
    assert market_truth.relevance(["  PHONES "], [0]) == market_truth.relevance(["phones"], [0])
    with pytest.raises(DatasetError, match="does not know the query 'never typed'"):
        market_truth.relevance(["never typed"], [0])


def test_taste_differs_by_gender_purse_and_loyalty(market_truth: Truth) -> None:
    shoppers, items = market_truth.shoppers, market_truth.items
    women, men = np.flatnonzero(shoppers.gender == 0), np.flatnonzero(shoppers.gender == 1)
    for_women = np.flatnonzero(items.audience == AUDIENCES.index("women"))[:200]

    def mean_taste(users: np.ndarray, rows: np.ndarray) -> float:
        return float(market_truth.taste(users, ["shoes"] * len(users), np.tile(rows, (len(users), 1))).mean())

    assert mean_taste(women, for_women) > mean_taste(men, for_women) + 1.5
    rich, poor = np.flatnonzero(shoppers.power == 2), np.flatnonzero(shoppers.power == 0)
    dear, cheap = np.flatnonzero(items.tier == 2)[:200], np.flatnonzero(items.tier == 0)[:200]
    assert mean_taste(rich, dear) - mean_taste(rich, cheap) > 1 + mean_taste(poor, dear) - mean_taste(poor, cheap)


def test_unreadable_truths_are_refused(market_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no truth\.json"):
        truth.load(tmp_path)
    copied = shutil.copytree(market_folder / "truth", tmp_path / "truth")
    (copied / "items.npz").write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"items\.npz"):
        truth.load(tmp_path)
    (copied / "truth.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"truth\.json is damaged"):
        truth.load(tmp_path)


def test_the_same_shoppers_act_on_other_results(market_truth: Truth) -> None:
    """What an A/B test needs: better results are clicked more, by shoppers drawn from the truth alone."""
    rng = np.random.default_rng(0)
    requests = draw_requests(market_truth, rng, 500)
    texts = [market_truth.queries.text[row] for row in requests.query]
    random_rows = rng.integers(len(market_truth.items.type), size=(len(texts), 200))
    utility = market_truth.utility(requests.user, texts, random_rows)
    best = np.take_along_axis(random_rows, np.argsort(-utility, axis=1)[:, :10], 1).astype(np.int32)
    clicks = [
        act(rng, slate, market_truth.utility(requests.user, texts, slate)).clicked.sum()
        for slate in (best, random_rows[:, :10].astype(np.int32))
    ]
    assert clicks[0] > 5 * clicks[1]
