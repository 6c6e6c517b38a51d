"""The bootstrap of money: as wide as a normal distribution says where there is no skew, wider where there is."""

import numpy as np
import pytest

from twinspire.experiments.resampling import resample


def arm(generator, units, sigma, buying=0.3):
    bought = generator.random(units) < buying
    return generator.lognormal(3.0, sigma, units) * bought, np.ones(units), generator.random(units) + bought


@pytest.mark.parametrize("units", [1000, 1500, 60_000])  # of more than a thousand, groups are drawn
def test_many_units_are_as_a_normal_distribution_says(units):
    generator = np.random.default_rng(3)
    found = resample(*(arm(generator, units, 0.3) for _ in range(2)))
    assert found.bound() == pytest.approx(1.96, abs=0.1)
    assert found.p_value(1.96) == pytest.approx(0.05, abs=0.015)
    assert found.p_value(0.0) == 1.0
    assert found.p_value(-2.5) == found.p_value(2.5)


def test_a_few_large_values_make_it_wider():
    generator = np.random.default_rng(4)
    found = resample(*(arm(generator, 200, 1.5) for _ in range(2)))
    assert found.bound() > 2.1
    assert found.p_value(found.bound()) == pytest.approx(0.05, abs=0.001)
