import numpy as np
import pytest

from twinspire.evaluation.bootstrap import Estimate, means, resamples


def test_every_resample_draws_as_many_queries_as_there_are() -> None:
    blocks = list(resamples(7, 120, seed=1))
    drawn = np.concatenate(blocks)
    assert drawn.shape == (120, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert (np.concatenate(list(resamples(7, 120, seed=1))) == drawn).all()
    assert (np.concatenate(list(resamples(7, 120, seed=2))) != drawn).any()


def test_the_mean_is_over_cases_and_ignores_what_is_not_a_number() -> None:
    values = np.array([[1.0, np.nan], [0.0, 3.0], [2.0, 5.0]])
    mean, resampled = means(values, np.array([5, 5, 9]), rounds=100, seed=0)
    assert mean.tolist() == [1.0, 4.0]
    assert resampled.shape == (100, 2)
    assert set(np.unique(resampled[:, 0])) == {0.5, 1.0, 2.0}  # both cases of query 5 come together


def test_the_interval_has_the_width_that_theory_gives() -> None:
    generator = np.random.default_rng(0)
    values = generator.random((4000, 1))
    mean, resampled = means(values, np.arange(4000), rounds=1000, seed=0)
    estimate = Estimate.of(mean[0], resampled[:, 0])
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(4000), rel=0.1)


def test_clusters_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).random(40), 100)[:, None]
    alone = means(values, np.arange(4000), rounds=500, seed=0)[1].std()
    together = means(values, np.repeat(np.arange(40), 100), rounds=500, seed=0)[1].std()
    assert together > 5 * alone


def test_nothing_to_measure_gives_nothing() -> None:
    mean, resampled = means(np.empty((0, 1)), np.empty(0, int), rounds=100, seed=0)
    assert Estimate.of(mean[0], resampled[:, 0]) == Estimate(value=None, low=None, high=None)
