"""Limits that an arm must keep, watched at every look without false alarms from looking often.

Each limit is a share: of searches that fail, that find nothing, or that take longer than `p99_ms` (at most 1 % may).
What is not independent goes together: empty results by unit, who asks the like again; errors and slow answers by
minute, as a bad minute hits everyone. An arm breaks a limit when the lower end of an always-valid interval is above it,
over the whole experiment or over one step alone, so that what goes wrong late is not hidden by the good days before.
Each step has its part of the error, alpha * 6 / (pi * step)^2 / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.experiments.sequential import ALPHA, boundary, narrowest_at

if TYPE_CHECKING:
    from twinspire.experiments.moments import Array
    from twinspire.experiments.spec import Guardrails

MINUTE_US = 60_000_000
SLOW_SHARE = 0.01
TUNED_FOR = 1000  # clusters at which the interval is narrowest
LEAST_CLUSTERS = 5
SUMS = ("clusters", "x", "y", "xx", "xy", "yy")
TITLES = {
    "p99_ms": "answers slower than the limit",
    "empty_share": "searches without results",
    "error_share": "searches that failed",
}


@dataclass(frozen=True)
class Guard:
    """One arm and one limit at the last look."""

    arm: int
    name: str
    limit: float  # the largest share allowed
    share: float
    low: float  # the lower end over the whole experiment
    by_step: Array  # (looks,) the share of each step
    broken_at: int | None  # the first look at which it is known


def limits(guardrails: Guardrails) -> dict[str, float]:
    """The largest share allowed by each limit that is set."""
    found = {}
    if guardrails.p99_ms is not None:
        found["p99_ms"] = SLOW_SHARE
    if guardrails.empty_share is not None:
        found["empty_share"] = guardrails.empty_share
    if guardrails.error_share is not None:
        found["error_share"] = guardrails.error_share
    return found


def broken_by_cluster(exposures: pl.LazyFrame, guardrails: Guardrails) -> pl.DataFrame:
    """Columns arm, name and those of `SUMS` over clusters, of exposures with `arm` as a number."""
    minute = pl.col("timestamp").dt.epoch("us") // MINUTE_US
    answered = pl.col("status") < 400
    bad = {
        "p99_ms": (minute, answered, pl.col("took_ms") > (guardrails.p99_ms or np.inf)),
        "empty_share": (pl.col("unit_id").hash(), answered, pl.col("results") == 0),
        "error_share": (minute, pl.lit(value=True), pl.col("status") >= 500),
    }
    parts = []
    for name in limits(guardrails):
        cluster, counted, broken = bad[name]
        clusters = (
            exposures.filter(counted)
            .group_by("arm", cluster.alias("cluster"))
            .agg(broken.sum().cast(pl.Float64).alias("x"), pl.len().cast(pl.Float64).alias("y"))
        )
        sums = clusters.group_by("arm").agg(
            pl.len().cast(pl.Float64).alias("clusters"),
            *(pl.col(column).sum() for column in ("x", "y")),
            *((pl.col(a) * pl.col(b)).sum().alias(a + b) for a, b in ("xx", "xy", "yy")),
        )
        parts.append(sums.select("arm", pl.lit(name).alias("name"), *SUMS))
    if not parts:
        return pl.DataFrame(schema={"arm": pl.UInt8, "name": pl.String, **dict.fromkeys(SUMS, pl.Float64)})
    return pl.concat(pl.collect_all(parts))


def table(steps: list[pl.DataFrame], arms: int, names: list[str]) -> Array:
    """Sums (limits, arms, looks, 6) from `broken_by_cluster` of each step."""
    sums = np.zeros((len(names), arms, len(steps), len(SUMS)))
    for look, frame in enumerate(steps):
        for row in frame.iter_rows(named=True):
            sums[names.index(row["name"]), row["arm"], look] = [row[column] for column in SUMS]
    return sums


def watch(sums: Array, limit: dict[str, float], alpha: float = ALPHA) -> list[Guard]:
    """Every arm against every limit, from `table`; alpha is shared out among all of them."""
    guards = []
    share_of_alpha = alpha / max(sums.shape[0] * sums.shape[1], 1)
    for number, (name, allowed) in enumerate(limit.items()):
        for arm in range(sums.shape[1]):
            steps = sums[number, arm]  # (looks, 6)
            whole = lower(np.cumsum(steps, axis=0), allowed, share_of_alpha / 2)
            spent = share_of_alpha / 2 * 6 / (np.pi * np.arange(1, len(steps) + 1)) ** 2
            alone = lower(steps, allowed, spent)
            broken = np.flatnonzero((whole > allowed) | (alone > allowed))
            with np.errstate(invalid="ignore", divide="ignore"):
                by_step = steps[:, 1] / steps[:, 2]
                total = steps.sum(axis=0)
                share = float(total[1] / total[2])
            guards.append(
                Guard(arm, name, allowed, share, float(whole[-1]), by_step, int(broken[0]) if len(broken) else None)
            )
    return guards


def lower(sums: Array, limit: float, alpha: Array | float) -> Array:
    """The lower end of the always-valid interval of the share, from sums (..., 6); -inf with too few clusters.

    The variance is at least that of independent searches at the limit, so that a few clusters alike do not deceive.
    """
    n, x, y, xx, xy, yy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = x / y
        spread = np.maximum((xx - 2 * share * xy + share**2 * yy) / np.maximum(n - 1, 1), limit * (1 - limit) * y / n)
        z = boundary(np.maximum(n, 1) * narrowest_at() / TUNED_FOR, alpha)  # type: ignore[arg-type]
        low = share - z * np.sqrt(spread / n) * n / y
    return np.where(n >= LEAST_CLUSTERS, low, -np.inf)


def to_stop(guards: list[Guard]) -> list[Guard]:
    """Broken limits of treatments; where the control breaks the limit too, of those that are worse."""
    of_control = {guard.name: guard for guard in guards if guard.arm == 0}
    return [
        guard
        for guard in guards
        if guard.arm > 0
        and guard.broken_at is not None
        and (of_control[guard.name].broken_at is None or guard.low > of_control[guard.name].share)
    ]
