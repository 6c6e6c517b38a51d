"""The planner against statsmodels and against experiments that are simulated at the size it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.power import NormalIndPower

from twinspire.errors import ConfigError
from twinspire.experiments import sequential
from twinspire.experiments.contrast import contrast
from twinspire.experiments.moments import Moments
from twinspire.experiments.power import Baseline, plan


def test_one_look_is_the_textbook_s():
    found = plan(Baseline.of_share(0.05, 1000), 0.1)
    effect = np.log(1.1) / np.sqrt(0.95 / 0.05)
    assert found.units_once == pytest.approx(NormalIndPower().solve_power(effect, alpha=0.05, power=0.8))
    assert found.days_once == pytest.approx(found.units_once / 500)


def test_the_promised_power_is_there():
    found = plan(Baseline.of_share(0.1, 1000), 0.05)
    generator = np.random.default_rng(2)
    for units, z in ((found.units_once, norm.isf(0.025)), (found.units_always, None)):
        size = round(units)
        counts = generator.binomial(size, [[0.1], [0.105]], (2, 2000))
        arms = []
        for bought in counts:
            n, x = np.full(2000, size, float), bought.astype(float)
            zero = np.zeros(2000)
            arms.append(Moments(np.stack([n, x, x, n, zero, x, n, zero, x, zero, zero], axis=-1)))
        estimate = contrast(*arms)
        bound = z if z is not None else sequential.boundary(sequential.narrowest_at())
        assert np.mean(estimate.z > bound) == pytest.approx(0.8, abs=0.04)


@settings(max_examples=2)
@given(lift=st.floats(0.01, 0.5), share=st.floats(0.02, 0.5))
def test_less_is_harder(lift, share):
    small, large = (plan(Baseline.of_share(share, 1e6), of) for of in (lift, lift * 1.5))
    assert small.units_once > large.units_once
    assert small.units_always > small.units_once
    least = [once for _, once, _ in small.detectable]
    assert least == sorted(least, reverse=True)


def test_what_cannot_be_planned():
    with pytest.raises(ConfigError, match="--lift 0: give the least change"):
        plan(Baseline.of_share(0.1, 10), 0.0)
    with pytest.raises(ConfigError, match="a share lies between 0 and 1"):
        Baseline.of_share(4.0, 10)
    with pytest.raises(ConfigError, match="years"):
        plan(Baseline.of_share(0.01, 5), 0.001)
