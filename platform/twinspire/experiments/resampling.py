"""How far chance carries an estimate of sums that a few units hold most of, such as money: the bootstrap says.

Where values are skewed, a sum that lacks its largest values is both too small and thought too certain, so that
estimates lie beyond 1.96 of their own standard errors more often than normal ones do. The symmetric bootstrap-t (Hall,
1988, "On Symmetric Bootstrap Confidence Intervals") draws units anew and sees how often, standard errors and all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twinspire.experiments.contrast import contrast
from twinspire.experiments.moments import Moments, terms

if TYPE_CHECKING:
    from twinspire.experiments.moments import Array

GROUPS, ROUNDS, SEED = 1000, 2000, 0


@dataclass(frozen=True)
class Resampled:
    """Distances of the drawn estimates from the true one, in their own standard errors: `t` (rounds,)."""

    t: Array

    def bound(self, alpha: float = 0.05) -> float:
        """How many standard errors wide each side of an interval is."""
        return float(np.quantile(self.t, 1 - alpha))

    def p_value(self, z: float) -> float:
        """Two-sided, of an estimate `z` standard errors from none."""
        return float((np.sum(self.t >= abs(z)) + 1) / (len(self.t) + 1))


def resample(control: tuple[Array, Array, Array], treatment: tuple[Array, Array, Array]) -> Resampled:
    """Draw anew from (x, y, c) of each arm's units, CUPED included.

    Units are put into at most a thousand groups at random, and groups are drawn: the distribution is that of drawing
    units, at the cost of a thousand rows.
    """
    arms = [terms(*_grouped(arm)) for arm in (control, treatment)]  # (groups, 11)
    found = contrast(*(Moments(arm.sum(axis=0)) for arm in arms), least=(2, 1))
    generator = np.random.default_rng(SEED)
    drawn = contrast(*(Moments(_times(generator, len(arm)) @ arm) for arm in arms), least=(2, 1))
    off = np.abs(drawn.log_lift - found.log_lift) / np.sqrt(drawn.variance)
    return Resampled(np.nan_to_num(off, nan=np.inf))


def _times(generator: np.random.Generator, groups: int) -> Array:
    """How often each group is drawn (rounds, groups)."""
    drawn = generator.integers(groups, size=(ROUNDS, groups)) + groups * np.arange(ROUNDS)[:, None]
    return np.bincount(drawn.ravel(), minlength=ROUNDS * groups).reshape(ROUNDS, groups).astype(np.float64)


def _grouped(arm: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    count = len(arm[0])
    groups = min(GROUPS, count)
    group = np.random.default_rng(SEED).permutation(count) % groups
    x, y, c, many = (np.bincount(group, column, groups).astype(np.float64) for column in (*arm, np.ones(count)))
    return x, y, c / many
