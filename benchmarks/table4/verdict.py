"""Did the reports find what is true? Read from intervals.

An interval is right where it holds the true lift. A direction is found where the report's interval lies on the side of
zero on which the true lift's does; where the report cannot tell, it is open.
"""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING, Any

from benchmarks.table4.measures import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.table4.measures import Lift
    from twinspire.experiments.report import Comparison, Report

REPORTED = {"long tail": "long-tail queries"}  # what the report calls a slice


def rows_of(true: Mapping[tuple[str, str], Lift], told: Report) -> dict[str, dict[str, Any]]:
    """By slice and metric the true and the measured lift. Of all queries the interval is that of one look at the end,
    as planned; of slices it is always valid and corrected for the number of slices and metrics."""
    rows: dict[str, dict[str, Any]] = {"all": {}, "long tail": {}}
    for one in told.comparisons:
        rows["all"][one.metric] = _cell(true["all", one.metric], one, once=True)
    for one in told.slices:
        for name, reported in REPORTED.items():
            if one.slice == reported:
                rows[name][one.metric] = _cell(true[name, one.metric], one, once=False)
    return {name: {metric: row[metric] for metric in METRICS if metric in row} for name, row in rows.items()}


def _cell(true: Lift, one: Comparison, *, once: bool) -> dict[str, Any]:
    interval = one.once if once and one.once is not None else one
    measured = {"lift": one.lift, "low": interval.low, "high": interval.high, "p": interval.p}
    cell: dict[str, Any] = {
        "true": {"lift": true.value, "low": true.low, "high": true.high, "control": true.control},
        "measured": measured | {"control": one.control, "units": list(one.units)},
        "users an arm, by the plan": None if isinf(true.users) else round(true.users),
        "always valid": {"low": one.low, "high": one.high, "p": one.p},
        "right": None,
        "direction": "open",
    }
    if interval.low is not None and interval.high is not None:
        cell["right"] = bool(interval.low <= true.value <= interval.high)
        if interval.low > 0 or interval.high < 0:
            cell["direction"] = "found" if (interval.low > 0) == (true.value > 0) else "wrong"
    return {name: _rounded(part) for name, part in cell.items()}


def _rounded(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: round(value, 5) if isinstance(value, float) else value for name, value in part.items()}
    return part


def found(trials: Mapping[str, Any]) -> str:
    """One line: how many intervals hold the truth, and how many directions were found."""
    known = _known(trials)
    directions = [cell["direction"] for cell in known]
    told = ", ".join(f"{directions.count(said)} {said}" for said in ("found", "wrong", "open"))
    return f"{_right(known)} of {len(known)} intervals hold the true lift; directions: {told}"


def title_of(trials: Mapping[str, Any]) -> str:
    """The finding, for the picture."""
    known = _known(trials)
    return f"Reports of {len(trials)} experiments: {_right(known)} of {len(known)} intervals hold the true lift"


def _known(trials: Mapping[str, Any]) -> list[dict[str, Any]]:
    cells = [cell for trial in trials.values() for row in trial["rows"].values() for cell in row.values()]
    return [cell for cell in cells if cell["right"] is not None]


def _right(known: list[dict[str, Any]]) -> int:
    return sum(cell["right"] for cell in known)
