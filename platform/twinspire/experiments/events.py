"""Reads a folder of exposures and interactions, a day at a time: memory holds the units and one day's events.

Units are known by a 64-bit hash of their id, so that no ids are kept: among a million, two share one with a probability
of 3e-8. Outcomes count from a unit's first exposure on, whatever search they came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl
from pyarrow import parquet

from twinspire.dataset.schema import EARLIEST, LATEST
from twinspire.errors import DatasetError
from twinspire.experiments.guardrails import broken_by_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from twinspire.experiments.spec import Experiment

SEED = 7
HEAD, TORSO, TAIL = 0, 1, 2
KINDS = 3
CLICK_WITHIN = timedelta(minutes=30)
AFTERWARDS = timedelta(hours=1)  # how long after the last search outcomes still count
PERIOD_BEFORE = timedelta(days=14)  # what CUPED and "new users" look back on
STEPS = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1))
LEAST_STEPS = 3
_ACTIONS = ("click", "cart", "purchase")
_HASH = pl.UInt64


@dataclass(frozen=True)
class Units:
    """Who took part: `frame` has key u64, unit u32 (its row), arm u8 and first (microseconds), by key."""

    frame: pl.DataFrame
    mixed: int  # units that were shown more than one arm, and are left out

    def __len__(self) -> int:
        return len(self.frame)


def counted(exposures: pl.LazyFrame, experiment: Experiment, until: datetime | None) -> pl.LazyFrame:
    """The exposures that count: the experiment's own, from its start to before `until`, none that a tester chose."""
    found = exposures.filter(pl.col("experiment") == experiment.name, ~pl.col("override"))
    if experiment.start is not None:
        found = found.filter(pl.col("timestamp") >= experiment.start)
    return found if until is None else found.filter(pl.col("timestamp") < until)


class Events:
    """The events of one experiment. `until` cuts what is later.

    Errors: DatasetError where the folder has no exposures of it.
    """

    def __init__(self, folder: Path, experiment: Experiment, until: datetime | None = None) -> None:
        self.folder, self.experiment = folder, experiment
        self.metrics = experiment.metrics
        self._files = {table: _files(folder / table) for table in ("exposures", "interactions")}
        self._arms = pl.Enum([arm.name for arm in experiment.arms])
        self._until = min((time for time in (until, experiment.end) if time is not None), default=None)
        self._unit_column = "user_id" if experiment.unit == "user" else "session_id"
        exposures = self._scan("exposures")
        if exposures is None:
            raise DatasetError(f"{folder}: there is no exposures/*.parquet; give the folder of serve's --events")
        self.exposures = self._of_experiment(exposures)
        bounds = self.exposures.select(
            pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last"), pl.len()
        ).collect(engine="streaming")
        self.first, self.last, self.searches = bounds.row(0)
        if self.searches == 0:
            raise DatasetError(
                f"{folder}: no exposures of experiment {experiment.name!r}; does `twinspire serve --experiments ... "
                "--events ...` write here, and is its status running?"
            )

    def _of_experiment(self, exposures: pl.LazyFrame) -> pl.LazyFrame:
        arms = [arm.name for arm in self.experiment.arms]
        return counted(exposures, self.experiment, self._until).filter(pl.col("arm").is_in(arms))

    def _scan(self, table: str) -> pl.LazyFrame | None:
        files = self._files[table]
        return (
            pl.scan_parquet([file.path for file in files], missing_columns="insert", extra_columns="ignore", glob=False)
            if files
            else None
        )

    def _during(self, table: str, begin: datetime, end: datetime) -> pl.LazyFrame | None:
        """What happened from `begin` to before `end`, of the files that have some of it."""
        files = self._files[table]
        some = [file.path for file in files if file.first < end and file.last >= begin] or [
            file.path for file in files[:1]
        ]
        if not some:
            return None
        scanned = pl.scan_parquet(some, missing_columns="insert", extra_columns="ignore", glob=False)
        return scanned.filter(pl.col("timestamp") >= begin, pl.col("timestamp") < end)

    @property
    def since(self) -> datetime:
        """When the experiment began: its start, or its first exposure."""
        return self.experiment.start or self.first

    @cached_property
    def step(self) -> timedelta:
        """A day, or less where the experiment is to last, or without an end has lasted, less than three."""
        return step_of((self.experiment.end or self.last) - self.since)

    @cached_property
    def looks(self) -> list[datetime]:
        """The ends of the steps; the last is just after the last event."""
        return looks_between(self.since, self.last, self.step, self._until)

    @cached_property
    def versions(self) -> dict[str, tuple[str, ...]]:
        """By arm, the versions of bundles that answered it, in the order in which they came."""
        found = (
            self.exposures.filter(pl.col("model_version").is_not_null())
            .group_by("arm", "model_version")
            .agg(pl.col("timestamp").min())
            .collect(engine="streaming")
            .sort("timestamp", "model_version")
            .group_by("arm", maintain_order=True)
            .agg("model_version")
        )
        return {arm: tuple(versions) for arm, versions in found.iter_rows()}

    @cached_property
    def units(self) -> Units:
        """Every unit of one arm only, and how many had several."""
        keyed = self.exposures.select(
            pl.col("unit_id").hash(SEED).alias("key"), pl.col("arm").cast(self._arms).to_physical(), "timestamp"
        )
        found = (
            keyed.group_by("key")
            .agg(
                pl.col("arm").min().cast(pl.UInt8),
                (pl.col("arm").min() != pl.col("arm").max()).alias("mixed"),
                pl.col("timestamp").min().dt.epoch("us").alias("first"),
            )
            .collect(engine="streaming")
        )
        kept = found.filter(~pl.col("mixed")).drop("mixed").sort("key").with_row_index("unit")
        return Units(kept, len(found) - len(kept))

    @cached_property
    def common_queries(self) -> pl.DataFrame:
        """Queries of head and torso; others are tail."""
        return common_queries(self.exposures, self.searches)

    def steps(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """For each look: facts of the step before it by unit and kind of query, and what guardrails need."""
        begin = self.since
        for end in self.looks:
            until = max(end, self.last + AFTERWARDS) if end == self.looks[-1] else end
            yield self._facts(begin, min(until, self._until or until)), self._searches(begin, end)
            begin = end

    def searches_by_step(self) -> Iterator[pl.DataFrame]:
        """What guardrails need of each step."""
        begin = self.since
        for end in self.looks:
            yield self._searches(begin, end)
            begin = end

    def before(self) -> pl.DataFrame | None:
        """What each unit did in the fourteen days before; None where nothing is known of that time."""
        past = self._keyed_interactions(self.since - PERIOD_BEFORE, self.since)
        if past is None:
            return None
        counted = past.group_by("key").agg(
            *(((pl.col("event") == event).sum()).alias(f"{event}s") for event in _ACTIONS), pl.col("value").sum()
        )
        frame = counted.collect(engine="streaming")
        if frame.is_empty():
            return None
        return self.units.frame.select("key", "unit").join(frame, on="key").drop("key")

    def _keyed_interactions(self, begin: datetime, end: datetime) -> pl.LazyFrame | None:
        during = self._during("interactions", begin, end)
        if during is None:
            return None
        value = pl.col("value").fill_null(0.0) if "value" in during.collect_schema() else pl.lit(0.0).alias("value")
        return during.filter(pl.col("event").is_in(_ACTIONS), pl.col(self._unit_column).is_not_null()).select(
            pl.col(self._unit_column).hash(SEED).alias("key"),
            pl.col("timestamp").dt.epoch("us").alias("at"),
            "event",
            value,
            query_key(),
        )

    def _exposures_during(self, begin: datetime, end: datetime) -> pl.LazyFrame:
        during = self._during("exposures", begin, end)
        assert during is not None
        return self._of_experiment(during)

    def _facts(self, begin: datetime, end: datetime) -> pl.DataFrame:
        """Rows (unit, kind): sums of what was searched and done from `begin` to before `end`."""
        later = end + CLICK_WITHIN
        exposures = self._exposures_during(begin, later).select(
            pl.col("unit_id").hash(SEED).alias("key"),
            pl.col("timestamp").dt.epoch("us").alias("at"),
            pl.lit(value=True).alias("search"),
            pl.lit(None, pl.String).alias("event"),
            pl.lit(0.0).alias("value"),
            query_key(),
            ((pl.col("results") == 0) & (pl.col("status") < 400)).alias("empty"),
        )
        parts = [exposures]
        done = self._keyed_interactions(begin, later)
        if done is not None:
            done = done.with_columns(search=pl.lit(value=False), empty=pl.lit(value=False))
            parts.append(done.select("key", "at", "search", "event", "value", "q", "empty"))
        together = pl.concat(parts).join(self.units.frame.lazy().drop("arm"), on="key").drop("key")
        events = together.filter(pl.col("at") >= pl.col("first")).drop("first").collect(engine="streaming")
        events = events.sort("unit", "at", "search", descending=[False, False, True])
        until = int(end.timestamp() * 1e6)
        return _sum_by_unit(_with_next(events, self.metrics.rewrite_minutes), self.common_queries, until)

    def _searches(self, begin: datetime, end: datetime) -> pl.DataFrame:
        """Rows (arm, of what, cluster): searches, and how many of them broke a limit."""
        during = self._exposures_during(begin, end)
        arm = pl.col("arm").cast(self._arms).to_physical().cast(pl.UInt8)
        return broken_by_cluster(during.with_columns(arm), self.experiment.guardrails)


def step_of(lasting: timedelta) -> timedelta:
    """How long it is from look to look: the longest step of which a few fit in."""
    return next((step for step in STEPS if lasting >= LEAST_STEPS * step), STEPS[-1])


def looks_between(since: datetime, last: datetime, step: timedelta, until: datetime | None) -> list[datetime]:
    """The ends of the steps; the last is just after the last event."""
    ends, at = [], since + step
    while at <= last:
        ends.append(at)
        at += step
    return [*ends, min(at, until) if until else at]


def common_queries(exposures: pl.LazyFrame, searches: int) -> pl.DataFrame:
    """Queries (q) of head and torso (kind), the first two thirds of the searches; others are tail."""
    counts = exposures.select(query_key()).group_by("q").agg(pl.len().alias("n")).collect(engine="streaming")
    counts = counts.sort("n", "q", descending=True)
    before = pl.col("n").cum_sum() - pl.col("n")
    kinds = counts.select("q", (before * KINDS // max(searches, 1)).cast(pl.UInt8).alias("kind"))
    return kinds.filter(pl.col("kind") < TAIL)


@dataclass(frozen=True)
class _File:
    """A Parquet file and the first and last time in it."""

    path: Path
    first: datetime
    last: datetime


def _files(folder: Path) -> list[_File]:
    """The files of a table; one that does not say which times it has may have any."""
    return [_File(path, *_times(path)) for path in sorted(folder.glob("*.parquet"))]


def _times(path: Path) -> tuple[datetime, datetime]:
    metadata = parquet.read_metadata(path)
    column = metadata.schema.names.index("timestamp")
    groups = [metadata.row_group(number).column(column).statistics for number in range(metadata.num_row_groups)]
    if any(group is None or not group.has_min_max for group in groups):
        return EARLIEST, LATEST
    return min((group.min for group in groups), default=LATEST), max((group.max for group in groups), default=EARLIEST)


def query_key() -> pl.Expr:
    """The query's hash; case and outer blanks do not make it another."""
    return pl.col("query").str.strip_chars().str.to_lowercase().hash(SEED).alias("q")


def _with_next(events: pl.DataFrame, rewrite_minutes: float) -> pl.DataFrame:
    """Add `repeated`, `clicked` and `rewritten` to events sorted by unit and time.

    A search that is followed at once by the same query is the same search (a reload, a next page): only the last
    counts.
    """
    same_unit = pl.col("unit") == pl.col("unit").shift(-1)
    next_is_search = same_unit & pl.col("search").shift(-1)
    same_query = pl.col("q") == pl.col("q").shift(-1)
    wait = pl.col("at").shift(-1) - pl.col("at")
    return events.with_columns(
        (pl.col("search") & next_is_search & same_query).fill_null(value=False).alias("repeated"),
        (pl.col("search") & same_unit & ~pl.col("search").shift(-1) & (wait <= CLICK_WITHIN.total_seconds() * 1e6))
        .fill_null(value=False)
        .alias("clicked"),
        (pl.col("search") & next_is_search & ~same_query & (wait <= rewrite_minutes * 60e6))
        .fill_null(value=False)
        .alias("rewritten"),
    )


def _sum_by_unit(events: pl.DataFrame, common: pl.DataFrame, until: int) -> pl.DataFrame:
    within = events.lazy().filter(pl.col("at") < until, ~pl.col("repeated")).join(common.lazy(), on="q", how="left")
    kinds = within.with_columns(pl.col("kind").fill_null(TAIL).cast(pl.UInt8))
    return (
        kinds.group_by("unit", "kind")
        .agg(
            pl.col("search").sum().alias("searches"),
            pl.col("clicked").sum().alias("clicked_searches"),
            pl.col("rewritten").sum().alias("rewritten_searches"),
            pl.col("empty").sum().alias("empty_searches"),
            *((pl.col("event") == event).sum().alias(f"{event}s") for event in _ACTIONS),
            pl.when(pl.col("event") == "purchase").then(pl.col("value")).otherwise(0.0).sum().alias("value"),
        )
        .collect()
    )
