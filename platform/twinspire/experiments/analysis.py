"""From a folder of events to a report."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.stats import chisquare, norm
from statsmodels.stats.multitest import multipletests

from twinspire.errors import ConfigError, DatasetError, ExperimentError
from twinspire.experiments import guardrails, sequential
from twinspire.experiments.contrast import Contrast, contrast, relative_variance
from twinspire.experiments.events import HEAD, TAIL, TORSO, Events
from twinspire.experiments.metrics import BUILT_IN, FACTS, Metric
from twinspire.experiments.moments import Moments
from twinspire.experiments.power import Baseline
from twinspire.experiments.report import (
    ArmCount,
    Comparison,
    GuardLine,
    Once,
    Point,
    Report,
    SampleRatio,
    Verdict,
)
from twinspire.experiments.resampling import resample
from twinspire.experiments.totals import ALL, KNOWN, NEW, Totals
from twinspire.experiments.verdict import decide

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from twinspire.experiments.moments import Array
    from twinspire.experiments.spec import Experiment

SLICES = {
    "head queries": (HEAD, slice(None)),
    "torso queries": (TORSO, slice(None)),
    "long-tail queries": (TAIL, slice(None)),
    "new": (ALL, slice(NEW, NEW + 1)),
    "known": (ALL, slice(KNOWN, KNOWN + 1)),
}
RATIO_ALPHA = 0.001  # of the sample ratio's alarm: it is looked at daily
USUAL = float(norm.isf(sequential.ALPHA / 2))  # standard errors, for one look
USUAL_DAYS = 14  # how long an experiment without an end is supposed to last
BUCKET = np.log(1.01)  # of took_ms: percentiles are right to 1 %


def analyse(folder: Path, experiment: Experiment, *, until: datetime | None = None) -> Report:
    """Read the events, compare every treatment with the control, decide.

    Errors: DatasetError where there are no exposures of the experiment; ExperimentError for one that interleaves.
    """
    if experiment.kind == "interleave":
        raise ExperimentError(
            f"{experiment.name} interleaves, which shows whose items are clicked more, and no metric of an arm: "
            "see its report, and split traffic between the two arms to promote one"
        )
    events = Events(folder, experiment, until)
    metrics = {name: events.metrics.metric(name) for name in events.metrics.names}
    before = events.before()
    totals = Totals(list(metrics.values()), events.units, len(experiment.arms), before)
    looks, searches = [], []
    for facts, broken in events.steps():
        looks.append(totals.add(facts))
        searches.append(broken)
    sums = np.moveaxis(np.stack(looks), 0, -2)  # (metrics, planes, arms, 2, looks, 11)
    analysis = _Comparisons(events, metrics, totals, sums, has_past=before is not None)
    report = Report(
        experiment=experiment.name,
        unit=experiment.unit,
        status=experiment.status,
        primary=experiment.metrics.primary,
        since=events.since,
        until=events.last,
        end=experiment.end,
        step_seconds=events.step.total_seconds(),
        searches=events.searches,
        units=len(events.units),
        mixed=events.units.mixed,
        versions=events.versions,
        verdict=Verdict(kind="too_early", arm=None, sentence=""),
        ratio=sample_ratio(events),
        comparisons=tuple(analysis.everyone()),
        slices=tuple(analysis.slices()),
        guards=tuple(_guard_lines(events, searches)),
        glossary={metric.title: _gloss(metric, experiment.unit) for metric in metrics.values()},
        forms={name: metric.form for name, metric in metrics.items()},
    )
    return report.model_copy(update={"verdict": decide(report, analysis.forecast())})


def baseline_of(folder: Path, experiment: Experiment, metric: str) -> Baseline:
    """Level, spread and traffic of a metric, of the control of an experiment that ran before.

    Errors: ConfigError for a metric that is not known; DatasetError for no exposures, too few, or of less than a day.
    """
    events = Events(folder, experiment)
    if metric not in BUILT_IN and metric not in events.metrics.declared:
        raise ConfigError(f"--metric {metric}: known are {', '.join([*BUILT_IN, *events.metrics.declared])}")
    totals = Totals([events.metrics.metric(metric)], events.units, len(experiment.arms), None)
    for facts, _ in events.steps():
        sums = totals.add(facts)
    control = Moments(sums[0, ALL, 0].sum(axis=0))
    if control.total("active") < 2:
        raise DatasetError(f"{folder}: the control of {experiment.name} has nothing to measure {metric} by")
    days = (events.last - events.since) / timedelta(days=1)
    if days < 1:
        raise DatasetError(
            f"{folder}: {experiment.name} has run for {24 * days:.1f} hours; at least a day says what comes in a day"
        )
    return Baseline(float(control.rate), float(np.sqrt(relative_variance(control))), len(events.units) / days)


def check_guardrails(folder: Path, experiment: Experiment) -> list[GuardLine]:
    """The guardrails alone, which costs less than a report. Errors: DatasetError."""
    if not guardrails.limits(experiment.guardrails):
        return []
    events = Events(folder, experiment)
    return _guard_lines(events, list(events.searches_by_step()))


class _Comparisons:
    def __init__(
        self, events: Events, metrics: dict[str, Metric], totals: Totals, sums: Array, *, has_past: bool
    ) -> None:
        self.events, self.metrics, self.totals, self.sums, self.has_past = events, metrics, totals, sums, has_past
        self.arms = [arm.name for arm in events.experiment.arms]
        self.planned = max(_planned(events), 1.0)

    def everyone(self) -> list[Comparison]:
        """Primary metric first; the others are corrected for one another."""
        primary, *others = self.metrics
        found = self._family([primary], {"all": (ALL, slice(None))}, curves=True)
        return found + (self._family(others, {"all": (ALL, slice(None))}, curves=True) if others else [])

    def slices(self) -> list[Comparison]:
        """Every metric in every slice, corrected for all of them together."""
        slices = {name: at for name, at in SLICES.items() if self.has_past or at[0] != ALL}
        named = {name if at[0] != ALL else f"{name} {self.events.experiment.unit}s": at for name, at in slices.items()}
        return self._family(list(self.metrics), named, curves=False)

    def forecast(self) -> dict[str, float | None]:
        """By arm: days from now until the primary metric is decided, if its lift stays what it is; None if not soon."""
        primary = self.events.experiment.metrics.primary
        days = {}
        for arm in range(1, len(self.arms)):
            estimate, time = self._contrast(primary, arm, ALL, slice(None))
            elapsed = (self.events.last - self.events.since) / timedelta(days=1)
            days[self.arms[arm]] = days_left(estimate, time, elapsed, sequential.ALPHA / (len(self.arms) - 1))
        return days

    def _contrast(self, metric: str, arm: int, plane: int, newness: slice) -> tuple[Contrast, Array]:
        of = self.sums[list(self.metrics).index(metric), plane][:, newness].sum(axis=1)  # (arms, looks, 11)
        estimate = contrast(Moments(of[0]), Moments(of[arm]))
        return estimate, sequential.times(estimate.clock, self.planned)

    def _family(
        self, metrics: Iterable[str], slices: dict[str, tuple[int, slice]], *, curves: bool
    ) -> list[Comparison]:
        cases = list(product(range(1, len(self.arms)), metrics, slices))
        found = [self._contrast(metric, arm, *slices[name]) for arm, metric, name in cases]
        p = np.array([sequential.p_value(estimate.z[-1], time[-1]) for estimate, time in found])
        known = ~np.isnan(p)
        corrected = p.copy()
        if known.sum() > 1:
            corrected[known] = multipletests(p[known], method="holm")[1]
        alpha = sequential.ALPHA / max(int(known.sum()), 1)
        return [
            self._comparison(case, slices, estimate, time, float(q), alpha, curves=curves)
            for case, (estimate, time), q in zip(cases, found, corrected, strict=True)
        ]

    def _comparison(
        self,
        case: tuple[int, str, str],
        slices: dict[str, tuple[int, slice]],
        estimate: Contrast,
        time: Array,
        p: float,
        alpha: float,
        *,
        curves: bool,
    ) -> Comparison:
        arm, metric, name = case
        plane, newness = slices[name]
        of = self.sums[list(self.metrics).index(metric), plane][:, newness].sum(axis=1)[:, -1]  # (arms, 11)
        both = [Moments(of[number]) for number in (0, arm)]
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = [float(moments.rate) for moments in both]
        base = Comparison(
            arm=self.arms[arm],
            metric=metric,
            title=self.metrics[metric].title,
            slice=name,
            units=(int(both[0].total("n")), int(both[1].total("n"))),
            control=_number(rates[0]),
            treatment=_number(rates[1]),
        )
        if np.isnan(estimate.log_lift[-1]):
            return base
        low, high = estimate.interval(sequential.boundary(time, alpha))
        lift, clear = estimate.lift, bool(p <= sequential.ALPHA)
        points = tuple(
            Point(time=at, lift=float(lift[look]), low=float(low[look]), high=float(high[look]))
            for look, at in enumerate(self.events.looks)
            if curves and not np.isnan(lift[look])
        )
        higher = bool(lift[-1] > 0) == (self.metrics[metric].better == "higher")
        return base.model_copy(
            update={
                "lift": float(lift[-1]),
                "low": float(low[-1]),
                "high": float(high[-1]),
                "p": p,
                "clear": clear,
                "better": higher if clear else None,
                "once": self._once(metric, arm, estimate) if curves else None,
                "explained": float(estimate.explained[-1]) if self.has_past else None,
                "curve": points,
            }
        )

    def _once(self, metric: str, arm: int, estimate: Contrast) -> Once:
        bound, p, method = USUAL, float(estimate.p_value[-1]), "delta"
        if self.metrics[metric].heavy_tailed:
            values = self.totals.values(self.metrics[metric])
            here = [self.totals.entered[ALL] & (self.totals.arm == number) for number in (0, arm)]
            control, treatment = (tuple(value[mask] for value in values) for mask in here)
            found = resample(control, treatment)
            bound, p, method = found.bound(), found.p_value(float(estimate.z[-1])), "bootstrap"
        low, high = estimate.interval(bound)
        return Once(low=float(low[-1]), high=float(high[-1]), p=p, method=method)


def days_left(estimate: Contrast, time: Array, elapsed: float, alpha: float) -> float | None:
    """Days until the always-valid interval excludes no difference, if the lift stays and units come as so far."""
    z, now = float(estimate.z[-1]), float(time[-1])
    if np.isnan(z) or elapsed <= 0:
        return None
    growth = sequential.growth_until_clear(z, now, alpha)
    return None if growth is None else (growth - 1) * elapsed


def sample_ratio(events: Events) -> SampleRatio:
    """Chi-square test of the units of each arm against the weights."""
    arms = events.experiment.arms
    weights = np.array([arm.weight for arm in arms]) / sum(arm.weight for arm in arms)
    look = pl.Series([int(at.timestamp() * 1e6) for at in events.looks], dtype=pl.Int64)
    frame = events.units.frame
    numbers = look.search_sorted(frame["first"], side="right").clip(0, len(look) - 1)
    counts = np.zeros((len(look), len(arms)), np.int64)
    np.add.at(counts, (numbers.to_numpy(), frame["arm"].to_numpy()), 1)
    grown = counts.cumsum(axis=0)  # (looks, arms)
    found, total = grown[-1], int(grown[-1].sum())
    used = weights > 0
    p = float(chisquare(found[used], weights[used] * found[used].sum()).pvalue) if found[used].sum() else 1.0
    shares = grown / np.maximum(grown.sum(axis=1, keepdims=True), 1)
    return SampleRatio(
        p=p,
        trusted=p >= RATIO_ALPHA,
        arms=tuple(
            ArmCount(name=arm.name, units=int(n), expected=float(weight), observed=float(n / max(total, 1)))
            for arm, n, weight in zip(arms, found, weights, strict=True)
        ),
        times=tuple(events.looks),
        shares={arm.name: tuple(shares[:, number].tolist()) for number, arm in enumerate(arms)},
    )


def _guard_lines(events: Events, searches: list[pl.DataFrame]) -> list[GuardLine]:
    limit = guardrails.limits(events.experiment.guardrails)
    if not limit:
        return []
    arms = [arm.name for arm in events.experiment.arms]
    guards = guardrails.watch(guardrails.table(searches, len(arms), list(limit)), limit)
    stops = guardrails.to_stop(guards)
    p99 = _p99(events, arms) if "p99_ms" in limit else {}
    declared = events.experiment.guardrails.model_dump()
    return [
        GuardLine(
            arm=arms[guard.arm],
            name=guard.name,
            title=guardrails.TITLES[guard.name],
            limit=declared[guard.name],
            share=_number(guard.share),
            low=_number(guard.low),
            value=p99.get(guard.arm) if guard.name == "p99_ms" else None,
            worst=_worst(guard),
            broken=guard.broken_at is not None,
            since=None if guard.broken_at is None else events.looks[guard.broken_at],
            stops=guard in stops,
            times=tuple(events.looks),
            by_step=tuple(_number(share) for share in guard.by_step),
        )
        for guard in guards
    ]


def _worst(guard: guardrails.Guard) -> float | None:
    if guard.broken_at is None or guard.share > guard.limit:
        return _number(guard.share)
    return _number(float(guard.by_step[guard.broken_at]))


def _p99(events: Events, arms: list[str]) -> dict[int, float]:
    """The 99th percentile of took_ms by arm, from counts in buckets of 1 %."""
    bucket = (pl.col("took_ms").clip(1e-3).log() / BUCKET).ceil().cast(pl.Int32)
    answered = events.exposures.filter(pl.col("status") < 400)
    counts = answered.group_by("arm", bucket.alias("bucket")).agg(pl.len().alias("n")).collect(engine="streaming")
    counts = counts.sort("bucket").with_columns((pl.col("n").cum_sum() / pl.col("n").sum()).over("arm").alias("below"))
    found = counts.filter(pl.col("below") >= 0.99).group_by("arm").agg(pl.col("bucket").min())
    return {arms.index(arm): float(np.exp(bucket * BUCKET)) for arm, bucket in found.iter_rows()}


def _planned(events: Events) -> float:
    """How many looks the experiment is to last: nothing that is seen may change it."""
    end = events.experiment.end
    lasting = end - events.since if end is not None else timedelta(days=USUAL_DAYS)
    return lasting / events.step


def _gloss(metric: Metric, unit: str) -> str:
    if metric.gloss:
        return metric.gloss.replace("users", f"{unit}s").replace("a user", f"a {unit}")
    return f"{FACTS[metric.facts[0]]} over {FACTS[metric.facts[1]]}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
