"""Treatment against control on the scale of the logarithm of the metric, by the delta method.

A metric is a ratio of sums, so a unit moves its logarithm by u = x/mean(x) - y/mean(y) (Deng, Knoblich and Lu, 2018,
"Applying the Delta Method in Metric Analytics"). On this scale a lift is a difference, its interval is never below
-100 %, and small counts are nearer to normal. CUPED (Deng, Xu, Kohavi and Walker, 2013) subtracts what the units'
past explains: the difference of c between the arms, times the coefficient that leaves the least variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from twinspire.experiments.moments import Array, Moments

LEAST_UNITS, LEAST_ACTIVE = 100, 20  # an arm below has no estimate: too few for a normal distribution


@dataclass(frozen=True)
class Contrast:
    """Estimates, arrays of one shape; not numbers where an arm has too few units.

    `log_lift` is log(treatment / control) and `variance` its variance; `explained` is the share of the variance that
    CUPED took away; `clock` is how much the arms can tell so far, in units of the sums, and only grows.
    """

    log_lift: Array
    variance: Array
    explained: Array
    clock: Array

    @property
    def z(self) -> Array:
        """The lift in standard errors."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.log_lift / np.sqrt(self.variance)

    def interval(self, z: Array | float) -> tuple[Array, Array]:
        """Lift, as a share, from `z` standard errors below to as many above."""
        half = z * np.sqrt(self.variance)
        return np.expm1(self.log_lift - half), np.expm1(self.log_lift + half)

    @property
    def lift(self) -> Array:
        """The estimate, as a share: 0.02 is 2 % more than the control."""
        return np.expm1(self.log_lift)

    @property
    def p_value(self) -> Array:
        """Two-sided; right for one look at a time fixed in advance."""
        return np.asarray(2 * norm.sf(np.abs(self.z)))


def contrast(
    control: Moments,
    treatment: Moments,
    *,
    cuped: bool = True,
    least: tuple[int, int] = (LEAST_UNITS, LEAST_ACTIVE),
) -> Contrast:
    """Compare two arms' moments of one shape; `least` is how many units, and how many that are not 0, an arm needs."""
    arms = (control, treatment)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = [arm.total("n") for arm in arms]
        plain = sum(relative_variance(arm) / size for arm, size in zip(arms, n, strict=True))
        shared = sum(_with_past(arm) / size for arm, size in zip(arms, n, strict=True))
        past = sum(arm.covariance("c", "c") / size for arm, size in zip(arms, n, strict=True))
        theta = np.where(past > 0, shared / np.where(past > 0, past, 1.0), 0.0) * float(cuped)
        log_lift = np.log(treatment.rate / control.rate) - theta * (treatment.mean("c") - control.mean("c"))
        variance = plain - 2 * theta * shared + theta**2 * past
        weight = n[0] * n[1] / (n[0] + n[1])
        mean = (control.total("x") + treatment.total("x")) / (n[0] + n[1])
        clock = variance * (weight * mean) ** 2
    enough = np.all([(arm.total("n") >= least[0]) & (arm.total("active") >= least[1]) for arm in arms], axis=0) & (
        variance > 0
    )
    log_lift, variance, clock = (np.where(enough, values, np.nan) for values in (log_lift, variance, clock))
    with np.errstate(invalid="ignore"):
        return Contrast(log_lift, variance, np.where(enough, 1 - variance / plain, np.nan), clock)


def relative_variance(arm: Moments) -> Array:
    """Variance of u over an arm's units: of the metric over its square."""
    x, y = arm.mean("x"), arm.mean("y")
    return arm.covariance("x", "x") / x**2 + arm.covariance("y", "y") / y**2 - 2 * arm.covariance("x", "y") / (x * y)


def _with_past(arm: Moments) -> Array:
    """Covariance of u and c."""
    return arm.covariance("x", "c") / arm.mean("x") - arm.covariance("y", "c") / arm.mean("y")
