"""Table 4 in the terminal: what is true and what the reports said, the paper's own figures beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

METRICS = {"ucvr": "UCVR", "gmv_per_user": "GMV", "qrr": "QRR"}
# Over the paper's production system (its control, not ours), in %.
PAPER = {
    "1-head": {"ucvr": 1.13, "gmv_per_user": 1.78, "qrr": -4.44},
    "2-head": {"ucvr": 1.34, "gmv_per_user": 2.13, "qrr": -4.13},
    "1-head-p13n": {"ucvr": 1.29, "gmv_per_user": 2.19, "qrr": -4.29},
    "2-head on long tail query": {"ucvr": 10.03, "gmv_per_user": 7.50, "qrr": -9.99},
}


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the table, and what each report says first."""
    table = Table(title="Table 4: lift in %", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.title_justify = table.caption_justify = "left"
    table.add_column("", no_wrap=True)
    for name in ("true", "measured", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("found", no_wrap=True)
    table.caption = "in brackets 95 % intervals; the long tail's are always valid, and corrected for all slices"
    for trial in figures["trials"].values():
        table.add_row(f"[bold]{trial['control']} → {trial['treatment']}[/bold]")
        for part, row in trial["rows"].items():
            for metric, cell in row.items():
                name = METRICS[metric] if part == "all" else f"{METRICS[metric]}, {part}"
                table.add_row(f"  {name}", *_cells(cell))
        table.add_section()
    console.print(table)
    for name, trial in figures["trials"].items():
        console.print(
            f"[bold]{name}[/bold]: {trial['users']:,} shoppers, {trial['searches']:,} searches, "
            f"{trial['searches_a_second']:,.0f} a second. {trial['verdict']}"
        )
    console.print(figures["found"])


def _cells(cell: dict[str, Any]) -> tuple[str, str, str, str]:
    measured = cell["measured"]
    if measured["lift"] is None:
        return _lift(cell["true"]), "too few", "", ""
    p = "<.001" if measured["p"] < 0.001 else f"{measured['p']:.3f}".lstrip("0")
    said = {"found": "up" if measured["lift"] > 0 else "down", "wrong": "wrong way"}.get(cell["direction"], "")
    return _lift(cell["true"]), _lift(measured), p, said if cell["right"] else f"{said} misses".strip()


def _lift(of: dict[str, float]) -> str:
    return f"{100 * of['lift']:+.1f} ({100 * of['low']:+.1f} {100 * of['high']:+.1f})".replace("-", "−")
