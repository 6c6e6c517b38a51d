"""Guardrails: few false alarms however often one looks, and what goes wrong is noticed, early or late."""

import numpy as np
import pytest

from twinspire.experiments import guardrails

LIMIT = {"error_share": 0.01}


def sums(chances, clusters=300, size=4, seed=0):
    """Sums (1, arms, looks, 6) of clusters of searches that fail with these chances (arms, looks)."""
    generator = np.random.default_rng(seed)
    chances = np.asarray(chances)
    y = 1 + generator.poisson(size - 1, (*chances.shape, clusters)).astype(float)
    x = generator.binomial(y.astype(int), chances[..., None]).astype(float)
    columns = [np.ones_like(x), x, y, x * x, x * y, y * y]
    return np.stack([column.sum(-1) for column in columns], axis=-1)[None]


def broken(chances, **more):
    return [(guard.arm, guard.broken_at) for guard in guardrails.watch(sums(chances, **more), LIMIT)]


def test_at_the_limit_there_is_seldom_an_alarm():
    alarms = [broken([[0.01] * 14] * 2, clusters=60, seed=seed) for seed in range(150)]
    assert np.mean([any(at is not None for _, at in found) for found in alarms]) <= 0.05


def test_a_bad_arm_is_noticed_at_once():
    assert broken([[0.001] * 5, [0.1] * 5]) == [(0, None), (1, 0)]


def test_a_bad_day_after_many_good_ones_is_noticed():
    chances = [[0.001] * 15, [0.001] * 13 + [0.06] * 2]
    guards = guardrails.watch(sums(chances), LIMIT)
    assert guards[1].broken_at == 13
    assert guards[1].share < 0.01  # over the whole it keeps the limit
    assert [guard.arm for guard in guardrails.to_stop(guards)] == [1]


def test_where_the_control_fails_too_an_arm_stops_only_if_worse():
    assert guardrails.to_stop(guardrails.watch(sums([[0.1] * 4, [0.1] * 4]), LIMIT)) == []
    worse = guardrails.watch(sums([[0.05] * 4, [0.4] * 4]), LIMIT)
    assert [guard.arm for guard in guardrails.to_stop(worse)] == [1]


@pytest.mark.parametrize("clusters", [1, 4])
def test_a_handful_says_nothing(clusters):
    assert broken([[0.0], [1.0]], clusters=clusters) == [(0, None), (1, None)]
