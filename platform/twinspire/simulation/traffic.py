"""Exposures and interactions of an experiment with a planted truth, by the million: no towers, no search, no server.

Units come back at their own rates, search, click, rephrase what found nothing they liked, and some buy. What the
treatment changes is known exactly: purchases and money a unit rise by `lift` (by `lift + tail_lift` for long-tail
queries), the chance that a search is clicked by `click_lift`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DAY_S = 86_400
QUERIES = 20_000
BEFORE_DAYS = 14


@dataclass(frozen=True)
class Traffic:
    """What comes: sizes, chances of a search in the control, and what the treatments change."""

    units: int = 10_000
    days: int = 14
    days_before: int = BEFORE_DAYS
    arms: tuple[str, ...] = ("control", "treatment")
    weights: tuple[float, ...] = (1.0, 1.0)
    visits_a_day: float = 0.25
    click: float = 0.4
    buy: float = 0.08  # of a clicked search
    basket_sigma: float = 1.0  # of the logarithm of a purchase's money
    lift: float = 0.0
    tail_lift: float = 0.0
    click_lift: float = 0.0
    empty: float = 0.005
    error: float = 0.001
    took_ms: float = 8.0
    lost: float = 0.0  # share of the treatments' units that are never recorded
    treatment_error: float | None = None  # of the treatments, where it differs
    versions: tuple[str, ...] = ()  # of each arm's bundle; none: all have one
    seed: int = 0


def write_events(folder: Path, name: str, start: datetime, traffic: Traffic) -> None:
    """Write `exposures/` and `interactions/`, a file a day; days before `start` have interactions alone."""
    generator = np.random.default_rng(traffic.seed)
    rate = traffic.visits_a_day * generator.gamma(2.0, 0.5, traffic.units)
    taste = generator.gamma(2.0, 0.5, traffic.units)
    share = np.array(traffic.weights) / sum(traffic.weights)
    arm = generator.choice(len(traffic.arms), traffic.units, p=share)
    here = (arm == 0) | (generator.random(traffic.units) >= traffic.lost)
    for table in ("exposures", "interactions"):
        (folder / table).mkdir(parents=True, exist_ok=True)
    for day in range(-traffic.days_before, traffic.days):
        visits = np.repeat(np.arange(traffic.units), generator.poisson(rate))
        searches = _searches(generator, visits[here[visits]])
        begin = start + timedelta(days=day)
        acting = arm if day >= 0 else np.zeros_like(arm)
        outcomes = _outcomes(generator, traffic, searches, acting[searches.unit], taste[searches.unit])
        stamp = f"{begin:%Y%m%d}"
        _interactions(searches, outcomes, begin).write_parquet(folder / "interactions" / f"{stamp}.parquet")
        if day >= 0:
            exposures = _exposures(generator, traffic, searches, arm[searches.unit], begin, name)
            exposures.write_parquet(folder / "exposures" / f"{stamp}.parquet")


@dataclass(frozen=True)
class _Searches:
    """A day's searches (S,): unit, seconds of the day, number of the query, the more frequent the smaller."""

    unit: NDArray[np.intp]
    second: NDArray[np.float64]
    query: NDArray[np.int64]


@dataclass(frozen=True)
class _Outcomes:
    clicked: NDArray[np.bool_]
    bought: NDArray[np.bool_]
    value: NDArray[np.float64]


def _searches(generator: np.random.Generator, visits: NDArray[np.intp]) -> _Searches:
    many = 1 + generator.poisson(0.8, len(visits))
    first = generator.uniform(0, DAY_S - 3600, len(visits))
    order = np.arange(many.sum()) - np.repeat(many.cumsum() - many, many)  # of a search within its visit
    second = np.repeat(first, many) + order * 100 + generator.uniform(0, 60, len(order))
    query = np.floor(QUERIES ** generator.random(len(order))).astype(np.int64)
    return _Searches(np.repeat(visits, many), second, query)


def _outcomes(
    generator: np.random.Generator,
    traffic: Traffic,
    searches: _Searches,
    arm: NDArray[np.int64],
    taste: NDArray[np.float64],
) -> _Outcomes:
    count = len(searches.unit)
    treated = arm > 0
    tail = searches.query > QUERIES ** (2 / 3)
    clicked = generator.random(count) < traffic.click * (1 + traffic.click_lift * treated)
    more = 1 + treated * (traffic.lift + traffic.tail_lift * tail)
    # Purchases do not follow the rise of clicks: what they gain is `lift` and nothing else.
    bought = generator.random(count) < traffic.click * traffic.buy * taste * more
    return _Outcomes(clicked | bought, bought, generator.lognormal(3.0, traffic.basket_sigma, count))


def _interactions(searches: _Searches, outcomes: _Outcomes, begin: datetime) -> pl.DataFrame:
    parts = []
    for event, which, delay in (("click", outcomes.clicked, 15.0), ("purchase", outcomes.bought, 35.0)):
        rows = np.flatnonzero(which)
        parts.append(
            pl.DataFrame(
                {
                    "timestamp": _times(begin, searches.second[rows] + delay),
                    "unit": searches.unit[rows],
                    "query": searches.query[rows],
                    "event": [event] * len(rows),
                    "value": outcomes.value[rows] if event == "purchase" else np.full(len(rows), np.nan),
                }
            )
        )
    return (
        pl.concat(parts)
        .sort("timestamp")
        .select(
            "timestamp",
            _named("query", "query"),
            pl.lit("i1").alias("item_id"),
            _named("user", "unit").alias("user_id"),
            _named("session", "unit").alias("session_id"),
            "event",
            pl.lit(1, pl.Int32).alias("position"),
            pl.format("{}-{}", pl.lit(f"{begin:%Y%m%d}"), pl.int_range(pl.len())).alias("event_id"),
            pl.lit(None, pl.String).alias("request_id"),
            pl.col("value").fill_nan(None),
        )
    )


def _exposures(
    generator: np.random.Generator,
    traffic: Traffic,
    searches: _Searches,
    arm: NDArray[np.int64],
    begin: datetime,
    name: str,
) -> pl.DataFrame:
    count = len(searches.unit)
    chance = np.where(
        arm > 0, traffic.error if traffic.treatment_error is None else traffic.treatment_error, traffic.error
    )
    status = np.where(generator.random(count) < chance, 500, 200)
    frame = pl.DataFrame(
        {
            "timestamp": _times(begin, searches.second),
            "unit": searches.unit,
            "query": searches.query,
            "arm": pl.Series(list(traffic.arms)).gather(arm),
            "model_version": pl.Series(traffic.versions or ("1",) * len(traffic.arms)).gather(arm),
            "results": np.where(generator.random(count) < traffic.empty, 0, 100).astype(np.int32),
            "took_ms": (traffic.took_ms * generator.lognormal(0, 0.4, count)).astype(np.float32),
            "status": status.astype(np.int32),
        }
    )
    return frame.sort("timestamp").select(
        "timestamp",
        pl.format("{}-{}", pl.lit(f"{begin:%Y%m%d}"), pl.int_range(pl.len())).alias("request_id"),
        pl.lit(name).alias("experiment"),
        "arm",
        _named("user", "unit").alias("unit_id"),
        _named("user", "unit").alias("user_id"),
        _named("session", "unit").alias("session_id"),
        _named("query", "query"),
        "results",
        "took_ms",
        "status",
        "model_version",
        pl.lit(value=False).alias("override"),
    )


def _named(prefix: str, column: str) -> pl.Expr:
    return pl.format(f"{prefix} {{}}" if prefix == "query" else f"{prefix}-{{}}", pl.col(column)).alias(column)


def _times(begin: datetime, seconds: NDArray[np.float64]) -> pl.Series:
    at = int(begin.astimezone(UTC).timestamp() * 1e6) + (seconds * 1e6).astype(np.int64)
    return pl.Series(at).cast(pl.Datetime("us", "UTC"))
