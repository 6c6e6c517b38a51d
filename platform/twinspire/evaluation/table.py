"""A report as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

if TYPE_CHECKING:
    from twinspire.evaluation.bootstrap import Estimate
    from twinspire.evaluation.report import Report, Section


def render(report: Report) -> Group:
    """All cases with intervals and differences, then every slice, then the judgements: print it with rich."""
    parts = []
    if report.cases_evaluated:
        title = f"{report.cases_evaluated:,} clicks, {report.items:,} items"
        parts += [_with_intervals(report.slices["all"], title), _by_slice(report)]
    if report.judgements:
        title = f"{report.judgements.cases:,} judged pairs of {report.judgements.queries:,} queries"
        parts.append(_with_intervals(report.judgements, title))
    return Group(*parts)


def _with_intervals(section: Section, title: str) -> Table:
    metrics = list(next(iter(section.systems.values())))
    table = Table("system", title=title, caption="below each figure its 95 % interval (queries resampled)")
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for name, figures in section.systems.items():
        table.add_row(name, *(_cell(figures[metric]) for metric in metrics))
    table.add_section()
    for name, figures in section.differences.items():
        table.add_row(name, *(_cell(figures[metric], sign="+") for metric in metrics))
    return table


def _by_slice(report: Report) -> Table:
    metrics = list(next(iter(report.slices["all"].systems.values())))
    table = Table("slice", "system", title="By slice")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, section in report.slices.items():
        label = f"{name} ({section.cases:,})"
        for system, figures in section.systems.items():
            table.add_row(label, system, *(_number(figures[metric].value) for metric in metrics))
            label = ""
        table.add_section()
    return table


def _cell(estimate: Estimate, sign: str = "") -> str:
    if estimate.value is None:
        return _number(None)
    interval = f"{_number(estimate.low, sign)}..{_number(estimate.high, sign)}"
    return f"{_number(estimate.value, sign)}\n[dim]{interval}[/dim]"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"
