"""Table 2 in the terminal: our figures with their intervals, the paper's beside them, and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from benchmarks.table2.rows import PAPER

if TYPE_CHECKING:
    from rich.console import Console

RANDOM = 1024
METRICS = {"top1": "Top-1", "top10": "Top-10", "auc": "AUC"}


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the table, what was left out and why, and what holds of the paper's order."""
    title = f"Table 2: {figures['data']}, {figures['items']:,} items, {figures['clicks']:,} later clicks"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title_justify="left")
    table.add_column("", no_wrap=True)
    for name in METRICS.values():
        table.add_column(name, justify="right", no_wrap=True)
        table.add_column("paper", justify="right", no_wrap=True, style="dim")
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("p99", justify="right", no_wrap=True)
    table.caption = "below each figure its 95 % interval, queries drawn anew; ms: median time to the 1,000 best items"
    for row, found in figures["rows"].items():
        cells = []
        for metric in METRICS:
            printed = f"{getattr(PAPER[row], metric):.3f}" if row in PAPER else ""
            cells += [_cell(found.get(metric)), printed]
        taken = found["milliseconds"]
        table.add_row(row, *cells, f"{taken['median']:.2f}", f"{taken['p99']:.2f}")
    console.print(table)
    if figures["items"] <= RANDOM:
        console.print(f"the catalogue holds fewer than {RANDOM:,} other items: Top-k is among all of them")
    reasons = figures["left out"]
    for reason in dict.fromkeys(reasons.values()):
        rows = ", ".join(row for row in reasons if reasons[row] == reason)
        console.print(f"left out: {rows}: {reason}")
    for said in figures["verdict"]:
        console.print(f"{said['statement']}: [bold]{said['holds']}[/bold]")
        weak = [f"{pair} {outcome}" for pair, outcome in said["pairs"].items() if outcome != "apart"]
        if weak:
            console.print(f"    [dim]{', '.join(weak)}[/dim]")


def _cell(estimate: dict[str, float | None] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "-"
    low, high = (f"{estimate[end]:.3f}".replace("0.", ".", 1) for end in ("low", "high"))
    return f"{estimate['value']:.3f}\n[dim]{low} {high}[/dim]"
