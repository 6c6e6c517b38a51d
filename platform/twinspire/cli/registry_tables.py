"""What `twinspire registry` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.evaluation.changes import Change, Shown
    from twinspire.evaluation.comparison import Comparison
    from twinspire.registry import Change as AliasChange
    from twinspire.registry import Decision, Details, Version

MOST_CHANGES, RESULTS_SHOWN = 5, 5


def versions_table(versions: list[Version]) -> Table:
    """The registered versions."""
    table = Table("model", title="Registered bundles")
    table.add_column("version", justify="right")
    table.add_column("aliases", style="bold")
    table.add_column("items", justify="right")
    for column in ("trained until", "registered"):
        table.add_column(column)
    for version in versions:
        table.add_row(
            version.name,
            str(version.version),
            ", ".join(version.aliases),
            f"{int(version.tags['items']):,}",
            version.tags.get("trained_until", "")[:16].replace("T", " "),
            f"{version.created:%Y-%m-%d %H:%M}",
        )
    return table


def details_table(version: Version) -> Table:
    """What a version is, and what was decided of it."""
    table = Table("key", title=version.uri, show_header=False)
    table.add_column("value", overflow="fold")
    for key, value in (
        ("aliases", ", ".join(version.aliases)),
        ("registered", f"{version.created:%Y-%m-%d %H:%M:%S} UTC"),
        ("MLflow run", version.run_id),
        *sorted((key.replace("_", " "), value) for key, value in version.tags.items()),
    ):
        table.add_row(key, value, style="bold" if key == "aliases" else None)
    return table


def figures_table(metrics: dict[str, float]) -> Table:
    """A version's figures."""
    table = Table("metric", title="Figures")
    table.add_column("value", justify="right")
    for key, value in metrics.items():
        table.add_row(key, f"{value:,.4g}")
    return table


def _narrow(first: str, title: str) -> Table:
    return Table(first, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title_justify="left")


def gate_lines(decision: Decision) -> list[tuple[bool, str]]:
    """Whether each gate passed, and a line that says so; those that did not come first."""
    width = max((len(gate.name) for gate in decision.gates), default=0)
    ordered = sorted(decision.gates, key=lambda gate: gate.passed)
    return [
        (gate.passed, f"{'passed ' if gate.passed else 'refused'}  {gate.name:<{width}}  {gate.reason}")
        for gate in ordered
    ]


def figures_side_by_side(first: Details, second: Details) -> Table:
    """The registered figures of two versions, and their differences, which are not paired."""
    table = _narrow("metric", "Registered figures")
    for details in (first, second):
        table.add_column(details.version.uri.removeprefix("models:/"), justify="right")
    table.add_column("difference", justify="right")
    for key in sorted({*first.metrics, *second.metrics}):
        one, other = first.metrics.get(key), second.metrics.get(key)
        apart = "" if one is None or other is None else f"{one - other:+,.4g}"
        table.add_row(key, *("-" if value is None else f"{value:,.4g}" for value in (one, other)), apart)
    return table


def sides_table(comparison: Comparison) -> Table:
    """Index, latency and size of both bundles."""
    from twinspire.evaluation.figures.comparison import side_rows

    sides = [side for side in (comparison.first, comparison.second) if side]
    table = _narrow("", "Index, latency (one search at a time, here), size")
    for side in sides:
        table.add_column(side.label, justify="right")
    for name, values in side_rows(sides):
        table.add_row(name, *values)
    return table


def changes_table(comparison: Comparison) -> Table:
    """The queries whose results changed most, side by side."""
    labels = [side.label for side in (comparison.first, comparison.second) if side]
    title = (
        f"Results changed most, of {comparison.queries_asked:,} queries; overlap {comparison.mean_overlap or 1:.2f} on "
        "average; + in one list only, * later clicks"
    )
    table = _narrow("query", title)
    table.columns[0].overflow = "fold"
    for label in labels:
        table.add_column(label, no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    for change in comparison.changes[:MOST_CHANGES]:
        _add_change(table, change)
    return table


def _add_change(table: Table, change: Change) -> None:
    ids = [{item.item_id for item in side} for side in (change.first, change.second)]
    told = [
        f"[bold]{_plain(change.query)}[/bold]",
        f"[dim]{change.clicks:,} clicks[/dim]",
        f"[dim]overlap {change.overlap:.2f}[/dim]",
    ]
    for row in range(RESULTS_SHOWN):
        cells = [
            _shown(side[row], item_is_new=side[row].item_id not in other) if row < len(side) else ""
            for side, other in ((change.first, ids[1]), (change.second, ids[0]))
        ]
        table.add_row(told[row] if row < len(told) else "", *cells)
    table.add_section()


def _shown(item: Shown, *, item_is_new: bool) -> str:
    return f"{'+' if item_is_new else ' '}{'*' if item.clicks else ' '} {_plain(item.title)}"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def history_table(name: str, found: Sequence[AliasChange]) -> Table:
    """Who changed a model's aliases."""
    table = _narrow("when", f"Champions of {name}")
    for column in ("what", "version", "before", "by", "why"):
        table.add_column(column, justify="right" if column in ("version", "before") else "left", overflow="fold")
    for one in found:
        table.add_row(f"{one.at:%Y-%m-%d %H:%M:%S}", one.action, str(one.version), one.before, one.by, one.reason)
    return table
