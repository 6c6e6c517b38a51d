"""Both arms alike, and a planted gain: how often the intervals are wrong, over many experiments of two weeks."""

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.experiment_aa import LIFT, METRICS, simulate

OFTEN = 1e-4  # how often a right rate fails a test by chance


def most(runs, rate=0.05):
    """The most errors of `runs` that a rate explains."""
    return binom.isf(OFTEN, runs, rate)


def check(tally, runs):
    for metric in METRICS:
        once, always = (np.concatenate(of[metric]) for of in (tally.once, tally.always))
        assert once[:, -1].sum() <= most(runs), metric
        assert always.any(axis=1).sum() <= most(runs), metric
    assert sum(tally.bootstrap) <= most(max(len(tally.bootstrap), 1))


def test_no_difference():
    tally = simulate(200, 400, 0.0, bootstrapped=12)
    check(tally, 200)
    usual = np.concatenate(tally.once["sales a user"]).any(axis=1).mean()
    assert usual > 0.15  # what looking daily at the usual interval does
    assert sum(tally.ratio) <= most(200, 0.014)


def test_a_planted_gain():
    check(simulate(200, 400, LIFT, seed=1), 200)


@pytest.mark.slow
@pytest.mark.parametrize(("lift", "seed"), [(0.0, 10), (LIFT, 11)])
def test_a_thousand_runs(lift, seed):
    check(simulate(1000, 3000, lift, seed=seed, bootstrapped=200), 1000)
