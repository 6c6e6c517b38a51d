"""How many units and days an experiment needs, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm
from statsmodels.stats.power import NormalIndPower

from twinspire.errors import ConfigError
from twinspire.experiments import sequential

if TYPE_CHECKING:
    from collections.abc import Sequence

POWER = 0.8
DURATIONS = (7, 14, 21, 28, 42, 56)
LONGEST_DAYS = 3650


@dataclass(frozen=True)
class Baseline:
    """What is known before: the metric now, how much units differ, and how many come.

    `deviation` is the standard deviation of a unit over the mean (of the delta method's residual for a ratio).
    """

    value: float
    deviation: float
    units_a_day: float

    @classmethod
    def of_share(cls, share: float, units_a_day: float) -> Baseline:
        """Of a metric that is a share of units, such as conversion."""
        if not 0 < share < 1:
            raise ConfigError(f"--baseline {share:g}: a share lies between 0 and 1; for a mean give --deviation too")
        return cls(share, float(np.sqrt((1 - share) / share)), units_a_day)


@dataclass(frozen=True)
class Plan:
    """Units of the smaller of two arms and days, for one look at the end, and for looking as often as one likes."""

    lift: float
    power: float
    units_once: float
    days_once: float
    units_always: float
    days_always: float
    detectable: tuple[tuple[int, float, float], ...]  # days; least lift for one look; for looking often


def plan(
    baseline: Baseline, lift: float, *, weights: Sequence[float] = (1.0, 1.0), power: float = POWER, share: float = 1.0
) -> Plan:
    """Plan for a lift to be found with the given power; several treatments share alpha.

    Errors: ConfigError for a lift of none, or one that no experiment of ten years finds.
    """
    if lift == 0 or lift <= -1:
        raise ConfigError(f"--lift {lift:g}: give the least change that matters, such as 0.02 for 2 %")
    alpha = sequential.ALPHA / (len(weights) - 1)
    often = always_alpha(alpha)
    daily = baseline.units_a_day * share * np.array(weights) / sum(weights)
    control, treatment = float(daily[0]), float(daily[1:].min())
    ratio = treatment / control
    effect = abs(float(np.log1p(lift))) / baseline.deviation
    power_of = NormalIndPower()
    units = [
        float(power_of.solve_power(effect_size=effect, alpha=level, power=power, ratio=ratio))
        for level in (alpha, often)
    ]
    days = [of / control for of in units]
    if days[1] > LONGEST_DAYS:
        raise ConfigError(f"a lift of {lift:.2%} needs {units[1]:,.0f} units in the control, {days[1] / 365:.0f} years")
    least = tuple(
        (
            duration,
            *(
                float(
                    np.expm1(
                        power_of.solve_power(nobs1=control * duration, alpha=level, power=power, ratio=ratio)
                        * baseline.deviation
                    )
                )
                for level in (alpha, often)
            ),
        )
        for duration in DURATIONS
    )
    smaller = min(1.0, ratio)
    return Plan(lift, power, units[0] * smaller, days[0], units[1] * smaller, days[1], least)  # type: ignore[arg-type]


def always_alpha(alpha: float) -> float:
    """The level of a single look that is as wide as the always-valid interval where that is narrowest."""
    return float(2 * norm.sf(sequential.boundary(sequential.narrowest_at(), alpha)))
