"""Visits to shops: needs, rephrasing, and luck that is the same in every shop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import kstest

from twinspire.simulation.visits import (
    ASKS_ANEW,
    MOST_REPHRASINGS,
    Luck,
    Rephrasing,
    Searches,
    Visits,
    draw_visits,
    play,
)

if TYPE_CHECKING:
    from twinspire.simulation import Choices, Truth
    from twinspire.simulation.arrays import Ints

SHOPPERS = 400


class Shelf:
    """Shows everyone the same page, and remembers what it heard."""

    def __init__(self, page: list[int]) -> None:
        self.page = np.array(page, dtype=np.int32)
        self.heard: list[tuple[Ints, Ints, Ints, Choices]] = []

    def pages(self, user: Ints, query: Ints) -> Ints:
        return np.tile(self.page, (len(query), 1))

    def hear(self, user: Ints, query: Ints, page: Ints, done: Choices) -> None:
        self.heard.append((user, query, page, done))


class Best(Shelf):
    """Shows what shoppers like most, the first `count` of it."""

    def __init__(self, truth: Truth, count: int) -> None:
        super().__init__([])
        self.truth, self.count = truth, count

    def pages(self, user: Ints, query: Ints) -> Ints:
        every = np.tile(np.arange(1000, dtype=np.int32), (len(query), 1))
        utility = self.truth.utilities(user, query, every)
        return np.argsort(-utility, axis=1)[:, : self.count].astype(np.int32)


@pytest.fixture(scope="module")
def visits(market_truth: Truth) -> Visits:
    return draw_visits(market_truth, 5, np.arange(SHOPPERS, dtype=np.int32) % 400)


def test_luck_is_uniform_and_a_function_of_what_it_is_about() -> None:
    luck, about = Luck(3), np.arange(20_000)
    drawn = luck.draw("click", about)
    assert kstest(drawn, "uniform").pvalue > 0.01
    assert ((drawn >= 0) & (drawn < 1)).all()
    np.testing.assert_array_equal(drawn[::-1], luck.draw("click", about[::-1]))
    for other in (luck.draw("stay", about), Luck(4).draw("click", about), luck.draw("click", about, np.array([1]))):
        assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.03
    assert luck.draw("click", about[:3, None], about[None, :5]).shape == (3, 5)


def test_other_words_mean_the_same_and_are_others(market_truth: Truth) -> None:
    pool = market_truth.queries
    query = np.arange(len(pool.text), dtype=np.int32)
    other = Rephrasing(market_truth).other(query, np.random.default_rng(1).random(len(query)))
    there = other >= 0
    assert there.mean() > 0.9
    assert (other[there] != query[there]).all()
    np.testing.assert_array_equal(pool.target[other[there], 0], pool.target[query[there], 0])
    brand_alone = there & (pool.target[:, 0] == 0)
    np.testing.assert_array_equal(pool.brand[other[brand_alone], 0], pool.brand[query[brand_alone], 0])


def test_an_empty_shop_is_asked_anew_and_left(market_truth: Truth, visits: Visits) -> None:
    found = play(market_truth, visits, Shelf([-1, -1]), 1)
    assert found.clicks.sum() == found.purchases.sum() == found.results.sum() == 0
    searches = np.bincount(found.visit)
    assert searches.max() == 1 + MOST_REPHRASINGS
    assert abs((searches > 1).mean() - ASKS_ANEW) < 0.1
    assert found.rephrased.sum() == len(found.visit) - len(visits)


def test_whoever_clicks_goes_on_to_the_next_need(market_truth: Truth, visits: Visits) -> None:
    found = play(market_truth, visits, Best(market_truth, 20), 1)
    by_visit = [np.flatnonzero(found.visit == visit) for visit in range(len(visits))]
    for visit, rows in enumerate(by_visit):
        needs = visits.needs[visit][visits.needs[visit] >= 0].tolist()
        answered = int((found.clicks[rows] > 0).sum())
        assert found.query[rows[0]] == needs[0]
        assert answered == len(needs) or (found.clicks[rows[-1]] == 0 and answered < len(needs))
        np.testing.assert_array_equal(found.order[rows], np.arange(len(rows)))
    assert found.purchases.sum() > 0
    assert (found.value[found.purchases == 0] == 0).all()


def test_the_same_shop_sees_the_same_visits_in_any_company(market_truth: Truth, visits: Visits) -> None:
    whole = play(market_truth, visits, Best(market_truth, 10), 9)
    some = play(market_truth, visits[100:200], Best(market_truth, 10), 9)
    mine = (whole.visit >= 100) & (whole.visit < 200)
    order_whole, order_some = np.lexsort((whole.order[mine], whole.visit[mine])), np.lexsort((some.order, some.visit))
    for name in Searches.__dataclass_fields__:
        if name != "visit":
            np.testing.assert_array_equal(getattr(whole, name)[mine][order_whole], getattr(some, name)[order_some])


def test_a_better_shop_sells_more_and_luck_is_shared(market_truth: Truth, visits: Visits) -> None:
    worse, better = (play(market_truth, visits, Best(market_truth, count), 2) for count in (2, 20))
    sold = [np.bincount(found.visit, found.purchases, len(visits)) for found in (worse, better)]
    assert sold[1].sum() > sold[0].sum()
    assert np.corrcoef(sold[0], sold[1])[0, 1] > 0.3  # of separate luck it would be near nothing


def test_a_shop_hears_what_was_done_with_its_pages(market_truth: Truth, visits: Visits) -> None:
    shop = Shelf([5, 9, 2, -1])
    found = play(market_truth, visits, shop, 1)
    assert sum(len(user) for user, *_ in shop.heard) == len(found.visit)
    assert sum(int(done.clicked.sum()) for *_, done in shop.heard) == found.clicks.sum()
    money = sum(float((market_truth.items.price[page] * done.bought).sum()) for _, _, page, done in shop.heard)
    assert found.value.sum() == pytest.approx(money)
