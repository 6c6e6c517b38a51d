"""Bootstrap intervals for sums that a few units can hold most of, such as money.

Units are put into a thousand groups at random, and groups are drawn anew: the sampling distribution, skew and all, is
that of drawing units, at the cost of a thousand numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.experiments.moments import Array

GROUPS, ROUNDS, SEED = 1000, 2000, 0


@dataclass(frozen=True)
class Resampled:
    """A lift's interval and two-sided p-value by the bootstrap's percentiles."""

    low: float
    high: float
    p: float


def resample(
    control: tuple[Array, Array, Array],
    treatment: tuple[Array, Array, Array],
    theta: float = 0.0,
    *,
    alpha: float = 0.05,
) -> Resampled:
    """Lift of sum(x)/sum(y) from (x, y, c) of each arm's units, adjusted by theta for their past c."""
    sums = [_grouped(arm) for arm in (control, treatment)]  # (groups, 4)

    def log_lift(rows_c: NDArray[np.intp], rows_t: NDArray[np.intp], axis: int = -1) -> Any:
        del axis  # rows are drawn along the last one
        rates, pasts = [], []
        for of, rows in zip(sums, (rows_c, rows_t), strict=True):
            x, y, c, n = (of[rows, column].sum(-1) for column in range(4))
            rates.append(x / y)
            pasts.append(c / n)
        return np.log(rates[1] / rates[0]) - theta * (pasts[1] - pasts[0])

    with np.errstate(divide="ignore", invalid="ignore"):
        found = stats.bootstrap(
            tuple(np.arange(len(of)) for of in sums), log_lift, n_resamples=ROUNDS, batch=200, vectorized=True,
            confidence_level=1 - alpha, method="percentile", rng=SEED,
        )  # fmt: skip
    drawn = found.bootstrap_distribution
    least = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
    low, high = np.expm1(found.confidence_interval)
    return Resampled(float(low), float(high), float(min(1.0, 2 * (least + 1) / (len(drawn) + 1))))


def _grouped(arm: tuple[Array, Array, Array]) -> Array:
    count = len(arm[0])
    group = np.random.default_rng(SEED).permutation(count) % GROUPS
    groups = min(GROUPS, count)
    columns = [*arm, np.ones(count)]
    return np.stack([np.bincount(group, column, groups) for column in columns], axis=-1)
