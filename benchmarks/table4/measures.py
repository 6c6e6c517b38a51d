"""The paper's three metrics of a set of visits, and the true lift between two shops that had the same visits.

Defined as the platform's reports define them: UCVR is the share of shoppers who buy, GMV a user the money that a
shopper spends, QRR the share of searches after which the shopper asks anew without a click. The long tail are the
searches of all but the most frequent queries, which make up two thirds of them: those alone count, what was done with
them, and the shoppers who had one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from twinspire.errors import ConfigError
from twinspire.experiments.power import Baseline, plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from twinspire.simulation import Searches
    from twinspire.simulation.arrays import Bools, Doubles, Longs

METRICS = ("ucvr", "gmv_per_user", "qrr")
SLICES = ("all", "long tail")
POWER = 0.9
COMMON = 2 / 3  # of the searches are of queries that are not the long tail


def tail_of(searches: list[Searches], queries: int) -> Bools:
    """Which queries of the pool (Q,) are the long tail of these searches."""
    counts = np.bincount(np.concatenate([part.query for part in searches]), minlength=queries)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    tail = np.zeros(queries, dtype=bool)
    tail[order] = before >= COMMON * counts.sum()
    return tail


@dataclass(frozen=True)
class Values:
    """Of V visits the numerators and denominators (V,) of a metric, which is the ratio of their sums."""

    x: Doubles
    y: Doubles

    @property
    def rate(self) -> float:
        """The metric."""
        return float(self.x.sum() / self.y.sum())

    @property
    def moves(self) -> Doubles:
        """How much each visit moves the metric's logarithm, times V."""
        return np.asarray(self.x / self.x.mean() - self.y / self.y.mean())


def values(searches: Searches, visits: int, tail: Bools) -> dict[tuple[str, str], Values]:
    """By slice and metric."""
    found: dict[tuple[str, str], Values] = {}
    for name in SLICES:
        here = np.ones(len(searches.visit), dtype=bool) if name == "all" else tail[searches.query]
        of = searches.visit[here]
        came = np.bincount(of, minlength=visits).astype(np.float64)
        bought = _sums(of, searches.purchases[here], visits)
        each = {
            "ucvr": Values((bought > 0).astype(np.float64), (came > 0).astype(np.float64)),
            "gmv_per_user": Values(_sums(of, searches.value[here], visits), (came > 0).astype(np.float64)),
            "qrr": Values(_sums(of, searches.rephrased[here], visits), came),
        }
        found |= {(name, metric): value for metric, value in each.items()}
    return found


def _sums(visit: Longs, values_: NDArray[Any], visits: int) -> Doubles:
    """Of each visit (V,)."""
    return np.bincount(visit, values_, visits).astype(np.float64)


@dataclass(frozen=True)
class Lift:
    """Treatment over control less 1, with its 95 % interval. `deviation`: of a visit, on the metric's logarithm."""

    control: float
    treatment: float
    value: float
    low: float
    high: float
    deviation: float

    @cached_property
    def users(self) -> float:
        """Shoppers an arm that a test needs to find this lift, by the planner; endless where there is none."""
        try:
            return plan(Baseline(self.control, self.deviation, units_a_day=1e9), self.value, power=POWER).units_once
        except ConfigError:
            return float("inf")


def true_lifts(
    control: Mapping[tuple[str, str], Values], treatment: Mapping[tuple[str, str], Values]
) -> dict[tuple[str, str], Lift]:
    """Of the same visits to two shops: visits are paired, so what they would do in either shop cancels."""
    found = {}
    for key, c in control.items():
        t = treatment[key]
        log_lift = np.log(t.rate / c.rate)
        error = (t.moves - c.moves).std() / np.sqrt(len(c.x))
        low, high = np.expm1(log_lift + np.array([-1, 1]) * norm.isf(0.025) * error)
        deviation = float(np.sqrt((t.moves.var() + c.moves.var()) / 2))
        found[key] = Lift(c.rate, t.rate, float(np.expm1(log_lift)), float(low), float(high), deviation)
    return found
