"""The delta method and CUPED against statsmodels, scipy's bootstrap and planted effects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from twinspire.experiments.contrast import contrast
from twinspire.experiments.moments import Moments


@given(
    n=st.tuples(st.integers(2000, 50_000), st.integers(2000, 50_000)),
    share=st.tuples(st.floats(0.02, 0.6), st.floats(0.02, 0.6)),
)
def test_a_share_is_compared_as_statsmodels_does(n, share):
    bought = [round(size * part) for size, part in zip(n, share, strict=True)]
    arms = [Moments.of((np.arange(size) < many).astype(float)) for size, many in zip(n, bought, strict=True)]
    found = contrast(*arms)
    low, high = found.interval(stats.norm.isf(0.025))
    expected = confint_proportions_2indep(bought[1], n[1], bought[0], n[0], compare="ratio", method="log")
    assert (low + 1, high + 1) == pytest.approx(expected, rel=1e-3)


def test_by_hand():
    # Control 100 of 1,000, treatment 120 of 1,000: log 1.2, variance .9/.1/999 + .88/.12/999.
    found = contrast(*(Moments.of((np.arange(1000) < many).astype(float)) for many in (100, 120)))
    assert found.lift == pytest.approx(0.2)
    assert found.variance == pytest.approx(9 / 999 + (0.88 / 0.12) / 999)


def test_a_ratio_of_sums_has_the_spread_that_resampling_units_has():
    generator = np.random.default_rng(3)
    searches = 1 + generator.poisson(4, (2, 3000)).astype(float)
    fond = generator.beta(2, 6, (2, 3000))
    clicked = generator.binomial(searches.astype(int), fond).astype(float)
    found = contrast(*(Moments.of(clicked[arm], searches[arm]) for arm in (0, 1)))

    def log_lift(a, b, axis=-1):
        rates = [clicked[arm][rows].sum(-1) / searches[arm][rows].sum(-1) for arm, rows in ((0, a), (1, b))]
        return np.log(rates[1] / rates[0])

    drawn = stats.bootstrap((np.arange(3000), np.arange(3000)), log_lift, n_resamples=2000, vectorized=True, rng=0)
    assert np.sqrt(found.variance) == pytest.approx(drawn.standard_error, rel=0.06)


def test_the_past_takes_variance_away_and_moves_nothing():
    generator = np.random.default_rng(5)
    past = generator.gamma(2.0, 1.0, (400, 2, 1000))
    money = past * generator.gamma(4.0, 0.25, past.shape) * np.array([1.0, 1.1])[:, None]
    arms = [Moments.of(money[:, arm], c=past[:, arm]) for arm in (0, 1)]
    with_past, without = contrast(*arms), contrast(*arms, cuped=False)
    correlation = np.corrcoef(past[:, 0].ravel(), money[:, 0].ravel())[0, 1]
    assert with_past.explained.mean() == pytest.approx(correlation**2, abs=0.02)
    assert with_past.lift.mean() == pytest.approx(0.1, abs=0.004)
    assert with_past.lift.std() < 0.75 * without.lift.std()
    covered = np.abs(with_past.log_lift - np.log(1.1)) < 1.96 * np.sqrt(with_past.variance)
    assert covered.mean() == pytest.approx(0.95, abs=0.03)


def test_too_few_units_or_events_have_no_estimate():
    some = (np.arange(200) < 30).astype(float)
    for arm in (some[:99], np.zeros(200), (np.arange(200) < 19).astype(float)):
        found = contrast(Moments.of(some), Moments.of(arm))
        assert np.isnan([found.log_lift, found.variance, found.clock]).all()


def test_arrays_are_compared_at_once():
    generator = np.random.default_rng(0)
    values = (generator.random((2, 3, 4, 500)) < 0.3).astype(float)
    together = contrast(Moments.of(values[0]), Moments.of(values[1]))
    alone = contrast(Moments.of(values[0, 2, 1]), Moments.of(values[1, 2, 1]))
    assert together.log_lift.shape == (3, 4)
    assert together.log_lift[2, 1] == pytest.approx(alone.log_lift)
