"""A report in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinspire.experiments.page import saying, value
from twinspire.experiments.verdict import percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twinspire.experiments.power import Plan
    from twinspire.experiments.preference import Preference
    from twinspire.experiments.report import Comparison, Report

TONES = {"good": "green", "bad": "red", "open": "dim"}
OF_KIND = {"ship": "green", "stop": "red", "guardrail": "red", "distrust": "red"}


def render(report: Report) -> Group:
    """What to do, the metrics, the slices that are clear, the split and the limits: print it with rich."""
    parts: list[RenderableType] = [
        Text(report.verdict.sentence, style=f"bold {OF_KIND.get(report.verdict.kind, 'cyan')}")
    ]
    parts += [Text(f"  {note}", style="yellow") for note in report.verdict.notes]
    for arm in report.treatments:
        parts += [Text(), _metrics(report, arm)]
    parts += [Text(), _slices(report), Text(), *_checks(report)]
    return Group(*parts)


def _metrics(report: Report, arm: str) -> Table:
    title = f"{report.experiment}: {report.units:,} {report.unit}s, {report.searches:,} searches"
    table = _table(title, ["metric"], ["control", arm, "change", "may truly be", ""])
    for one in report.comparisons:
        if one.arm == arm:
            word, tone = saying(one)
            form = report.forms[one.metric]
            name = f"[bold]{one.title}[/bold]" if one.metric == report.primary else one.title
            cells = (value(one.control, form), value(one.treatment, form), _change(one), _span(one))
            table.add_row(name, *cells, Text(word, style=TONES[tone]))
    return table


def _slices(report: Report) -> Table:
    metrics = list(dict.fromkeys(one.metric for one in report.comparisons))
    titles = {one.metric: one.title for one in report.comparisons}
    several = len(report.treatments) > 1
    names = ["slice", "arm"] if several else ["slice"]
    table = _table("By slice; in colour what is clear", names, [titles[metric] for metric in metrics])
    rows = dict.fromkeys((one.slice, one.arm) for one in report.slices)
    found = {(one.slice, one.arm, one.metric): one for one in report.slices}
    for name, arm in rows:
        cells = [found[name, arm, metric] for metric in metrics]
        table.add_row(
            *([name, arm] if several else [name]), *(Text(_change(one), style=TONES[saying(one)[1]]) for one in cells)
        )
    return table


def _checks(report: Report) -> list[Text]:
    arms = ", ".join(f"{arm.name} {arm.observed:.2%} (planned {arm.expected:.2%})" for arm in report.ratio.arms)
    fair = "the split is fair" if report.ratio.trusted else "THE SPLIT IS NOT FAIR"
    lines = [Text(f"{fair}: {arms}; p = {report.ratio.p:.2g}", style="dim" if report.ratio.trusted else "bold red")]
    lines += [
        Text(f"{guard.arm} breaks {guard.name} {guard.limit:g}: {guard.title}", style="bold red")
        for guard in report.guards
        if guard.broken
    ]
    if report.guards and len(lines) == 1:
        lines.append(Text("all arms keep within their limits", style="dim"))
    return lines


def render_plan(plan: Plan, metric: str, unit: str) -> Group:
    """The answer in a sentence, and what shorter and longer tests can see."""
    sentence = Text.assemble(
        ("A change of ", ""), (f"{plan.lift:+.2%}", "bold"),
        (f" in {metric} is found {plan.power:.0%} of the time with ", ""),
        (f"{plan.units_always:,.0f} {unit}s in the smallest arm: ", ""),
        (f"{_days(plan.days_always)}", "bold"), (" if you look as often as you like, ", ""),
        (_days(plan.days_once), "bold"), (f" ({plan.units_once:,.0f} {unit}s) if you look once, at the end.", ""),
    )  # fmt: skip
    table = _table("The least change that is found, by how long it runs", ["runs"], ["looking often", "one look"])
    for days, once, often in plan.detectable:
        table.add_row(f"{days} days", f"{often:+.2%}", f"{once:+.2%}")
    return Group(sentence, Text(), table)


def render_preference(found: Preference) -> Group:
    """Which arm's items are clicked more."""
    table = _table(f"{found.experiment}: {found.searches:,} interleaved searches", [""], ["units"])
    for name, count in (*zip(found.arms, (found.first, found.second), strict=True), ("both alike", found.ties)):
        table.add_row(f"click more of {name}" if name in found.arms else name, f"{count:,}")
    parts: list[RenderableType] = [
        Text(found.verdict.sentence, style=f"bold {OF_KIND.get(found.verdict.kind, 'cyan')}"),
        *(Text(f"  {note}", style="yellow") for note in found.verdict.notes),
        Text(),
        table,
    ]
    if found.share is not None:
        span = f"{found.arms[1]} {found.share:.1%}, may truly be {found.low:.1%} to {found.high:.1%}"
        parts += [Text(), Text(f"{span}; p = {found.p:.2g} at every look", style="dim")]
    led = found.draft.led[1] / max(sum(found.draft.led), 1)
    fair = "the draft is fair" if found.draft.trusted else "THE DRAFT IS NOT FAIR"
    told = f"{fair}: {found.arms[1]} came first in {led:.2%} (planned 50.00%); p = {found.draft.p:.2g}"
    return Group(*parts, Text(told, style="dim" if found.draft.trusted else "bold red"))


def _days(days: float) -> str:
    return "a day" if days <= 1 else f"{days:,.0f} days"


def _table(title: str, names: list[str], columns: list[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, title_justify="left")
    for name in names:
        table.add_column(name)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _change(one: Comparison) -> str:
    return "–" if one.lift is None else percent(one.lift)


def _span(one: Comparison) -> str:
    return "" if one.low is None else f"{percent(one.low)} to {percent(one.high)}"
