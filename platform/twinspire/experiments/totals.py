"""Sums by arm at every look, kept up to date with what each step adds.

A step touches only the units that did something in it, so the whole costs as much as there are rows of units and steps.
The state holds one number a unit, a fact and a kind of query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.experiments.events import KINDS
from twinspire.experiments.metrics import ANY, Metric
from twinspire.experiments.moments import COLUMNS, terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from twinspire.experiments.events import Units
    from twinspire.experiments.moments import Array

ALL = KINDS  # the plane of all queries, after those of head, torso and tail
PLANES = KINDS + 1
NEW, KNOWN = 0, 1
PAST = ("clicks", "carts", "purchases", "value")


class Totals:
    """`sums` (metrics, planes, arms, 2, 11): moments by kind of query, arm, and whether a unit is new or known."""

    def __init__(self, metrics: Sequence[Metric], units: Units, arms: int, before: pl.DataFrame | None) -> None:
        self.metrics = list(metrics)
        self.facts = sorted({fact for metric in metrics for fact in metric.facts} - {"units"})
        self.arms, self.count = arms, len(units)
        self.arm = units.frame["arm"].to_numpy()
        self.past = _past(before, self.count)
        known = np.zeros(self.count, np.int64)
        if before is not None:
            known[before["unit"].to_numpy()] = KNOWN
        self.group = self.arm.astype(np.int64) * 2 + known
        self.state = np.zeros((PLANES, len(self.facts), self.count), np.float32)
        self.entered = np.zeros((PLANES, self.count), np.bool_)
        self.sums = np.zeros((len(self.metrics), PLANES, arms * 2, len(COLUMNS)))

    def add(self, step: pl.DataFrame) -> Array:
        """Add a step's facts by unit and kind, as `Events.steps` gives them; returns a copy of the sums."""
        for kind in range(KINDS):
            self._add(kind, step.filter(pl.col("kind") == kind))
        self._add(ALL, step.drop("kind").group_by("unit").sum())
        return self.sums.reshape(len(self.metrics), PLANES, self.arms, 2, len(COLUMNS)).copy()

    def values(self, metric: Metric) -> tuple[Array, Array, Array]:
        """x, y and c of every unit now, over all queries; of units that have not come yet they are 0."""
        everyone = np.arange(self.count)
        x, y = self._value(metric.numerator, ALL, everyone), self._value(metric.denominator, ALL, everyone)
        here = self.entered[ALL]
        return x * here, y * here, self._covariate(metric, everyone) * here

    def _add(self, plane: int, rows: pl.DataFrame) -> None:
        unit = rows["unit"].to_numpy()
        if plane != ALL:  # a unit counts among those of a kind of query from its first such search on
            begun = self.entered[plane, unit] | (rows["searches"].to_numpy() > 0)
            rows, unit = rows.filter(pl.Series(begun)), unit[begun]
        was = self.entered[plane, unit].astype(np.float64)[:, None]
        old = [self._terms(metric, plane, unit) for metric in self.metrics]
        for number, fact in enumerate(self.facts):
            self.state[plane, number, unit] += rows[fact].to_numpy()
        self.entered[plane, unit] = True
        groups = self.group[unit]
        for number, metric in enumerate(self.metrics):
            change = self._terms(metric, plane, unit) - old[number] * was  # (rows, 11)
            for column in range(len(COLUMNS)):
                self.sums[number, plane, :, column] += np.bincount(groups, change[:, column], self.arms * 2)

    def _terms(self, metric: Metric, plane: int, unit: NDArray[np.integer]) -> Array:
        x, y = (self._value(fact, plane, unit) for fact in (metric.numerator, metric.denominator))
        return terms(x, y, self._covariate(metric, unit))

    def _value(self, fact: str, plane: int, unit: NDArray[np.integer]) -> Array:
        if fact.removeprefix(ANY) == "units":
            return np.ones(len(unit))
        values = self.state[plane, self.facts.index(fact.removeprefix(ANY)), unit].astype(np.float64)
        return np.asarray((values > 0).astype(np.float64) if fact.startswith(ANY) else values)

    def _covariate(self, metric: Metric, unit: NDArray[np.integer]) -> Array:
        """The numerator's own past where it has one, else clicks; logarithms, as pasts have long tails."""
        fact = metric.facts[0] if metric.facts[0] in PAST else "clicks"
        return np.asarray(self.past[fact][unit], np.float64)


def _past(before: pl.DataFrame | None, count: int) -> dict[str, NDArray[np.float32]]:
    past = {fact: np.zeros(count, np.float32) for fact in PAST}
    if before is not None:
        for fact in PAST:
            past[fact][before["unit"].to_numpy()] = np.log1p(before[fact].to_numpy())
    return past
