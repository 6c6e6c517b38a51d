"""The always-valid interval: its formula, and that it and its p-value say the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.experiments import sequential


@given(z=st.floats(0, 12), time=st.floats(1e-3, 1e4), alpha=st.floats(0.001, 0.2))
def test_p_is_below_alpha_just_where_the_interval_leaves_out_zero(z, time, alpha):
    bound = float(sequential.boundary(time, alpha))
    if abs(z - bound) > 1e-6:
        assert bool(sequential.p_value(np.array(z), np.array(time)) < alpha) == (z > bound)


@given(n=st.integers(1, 10**7), rho=st.floats(1e-4, 1.0), alpha=st.floats(0.001, 0.2))
def test_it_is_the_formula_of_the_paper(n, rho, alpha):
    # Waudby-Smith et al. 2021, (8): half a width, of values with a deviation of 1.
    half = np.sqrt(2 * (n * rho**2 + 1) / (n**2 * rho**2) * np.log(np.sqrt(n * rho**2 + 1) / alpha))
    assert sequential.boundary(n * rho**2, alpha) / np.sqrt(n) == pytest.approx(half, rel=1e-9)


def test_it_is_narrowest_where_it_was_planned():
    times = np.geomspace(0.1, 1000, 4001)
    assert times[sequential.boundary(times).argmin()] == pytest.approx(sequential.narrowest_at(), rel=0.1)
    clock = np.arange(1.0, 15)
    assert sequential.times(clock, 14)[-1] == pytest.approx(sequential.narrowest_at())


def test_the_scale_depends_on_the_first_look_alone():
    clock = np.array([np.nan, 4.0, 5.0, 9.0])
    longer = np.array([np.nan, 4.0, 5.0, 9.0, 30.0])
    assert sequential.times(clock, 14) == pytest.approx(sequential.times(longer, 14)[:4], nan_ok=True)


def test_time_never_runs_backwards():
    times = sequential.times(np.array([2.0, 5.0, 4.0, 6.0]), 4)
    assert (np.diff(times) >= 0).all()
