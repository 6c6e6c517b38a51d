import numpy as np
import pytest
from scipy.stats import hypergeom

from twinspire.evaluation.ranks import chance_among_random, ranks

SCORES = np.array([[0.9, 0.5, 0.1, 0.5], [0.0, 0.0, 0.0, 0.0]], np.float32)


def rank_of(scores: np.ndarray, items: list[int], luck: list[float]) -> list[int]:
    return ranks(scores, np.array(items, np.int32), np.array(luck)).tolist()


def test_a_rank_is_one_more_than_the_items_that_score_higher() -> None:
    assert rank_of(SCORES[[0, 0]], [0, 2], [0.99, 0.99]) == [1, 4]


def test_luck_decides_among_equal_scores_with_equal_chances() -> None:
    assert rank_of(SCORES[[0, 0]], [1, 1], [0.0, 0.99]) == [2, 3]
    luck = (np.arange(1000) + 0.5) / 1000
    tied = ranks(np.zeros((1000, 4), np.float32), np.full(1000, 2, np.int32), luck)
    assert np.bincount(tied).tolist() == [0, 250, 250, 250, 250]


@pytest.mark.parametrize("column", [0, 3])
def test_scores_that_are_not_numbers_are_refused(column: int) -> None:
    scores = SCORES.copy()
    scores[1, column] = np.nan
    with pytest.raises(ValueError, match="not a number"):
        rank_of(scores, [0, 0], [0.5, 0.5])


def test_the_chance_among_random_items_is_what_many_draws_give() -> None:
    n_items, n_random, rank = 60, 20, 6
    generator = np.random.default_rng(0)
    draws = np.array([generator.choice(n_items - 1, n_random, replace=False) for _ in range(20_000)])
    above = (draws < rank - 1).sum(axis=1)
    for k in (1, 3):
        exact = chance_among_random(np.array([rank]), k=k, n_items=n_items, n_random=n_random)[0]
        assert exact == pytest.approx((above < k).mean(), abs=0.012)
    assert hypergeom.pmf(0, 59, 5, 20) == pytest.approx(
        chance_among_random(np.array([rank]), k=1, n_items=n_items, n_random=n_random)[0]
    )


def test_a_catalogue_smaller_than_the_draw_is_taken_whole() -> None:
    places = np.array([1, 2, 10, 11])
    assert chance_among_random(places, k=10, n_items=50, n_random=1024).tolist() == [1, 1, 1, 0]
    assert chance_among_random(np.array([1]), k=1, n_items=1, n_random=1024).tolist() == [1]
