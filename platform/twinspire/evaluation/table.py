"""A report as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table

if TYPE_CHECKING:
    from twinspire.evaluation.bootstrap import Estimate
    from twinspire.evaluation.report import Report, Section

SHORT = {"top1_of_1024": "top-1", "top10_of_1024": "top-10", "recall@10": "r@10", "recall@100": "r@100", "mrr": "MRR"}
ONLY_BY_SLICE = ("hit@1",)


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
    metrics = [metric for metric in next(iter(section.systems.values())) if metric not in ONLY_BY_SLICE]
    table = _table(title, ["system"], metrics)
    table.caption = "below each figure its 95 % interval (queries resampled); 'vs' is a paired difference"
    for name, figures in section.systems.items():
        table.add_row(name, *(_cell(figures[metric]) for metric in metrics))
    table.add_section()
    first = next(iter(section.systems))
    for name, figures in section.differences.items():
        label = name.replace(" - ", " vs ", 1).removeprefix(f"{first} ")
        table.add_row(label, *(_cell(figures[metric], sign="+") for metric in metrics))
    return table


def _by_slice(report: Report) -> Table:
    metrics = list(next(iter(report.slices["all"].systems.values())))
    table = _table("By slice of queries", ["slice", "system"], metrics)
    for name, section in report.slices.items():
        label = [name, f"[dim]{section.cases:,}[/dim]"]
        for system, figures in section.systems.items():
            numbers = (_number(figures[metric].value) for metric in metrics)
            table.add_row(label.pop(0) if label else "", system, *numbers)
        table.add_section()
    return table


def _table(title: str, names: list[str], metrics: list[str]) -> Table:
    """Narrow enough for a terminal of 80 columns: where names are long they are folded, figures never are."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    for metric in metrics:
        table.add_column(SHORT.get(metric, metric), justify="right", no_wrap=True)
    return table


def _cell(estimate: Estimate, sign: str = "") -> str:
    if estimate.value is None:
        return _number(None)
    interval = f"{_brief(estimate.low, sign)} {_brief(estimate.high, sign)}"
    return f"{_number(estimate.value, sign)}\n[dim]{interval}[/dim]"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _brief(value: float | None, sign: str) -> str:
    """Without the leading zero: two of them fit below a figure."""
    return _number(value, sign).replace("0.", ".", 1)
