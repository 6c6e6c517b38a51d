"""`twinspire heads`."""

from __future__ import annotations

from pathlib import Path

import click

from twinspire.cli import options

EXAMPLES = """\b
Examples:
  twinspire fit --data shop --out bundles/two-heads --set model.heads=2
  twinspire heads --bundle bundles/two-heads --query apple --query cellphone
  twinspire heads --bundle bundles/two-heads --query samsung --by brand --out heads.json
A number before a title is its place among the final results, where this head brought it there; a dot: it is not.
"""


@click.command(epilog=EXAMPLES)
@options.bundle
@options.queries("A query to look into")
@click.option("--k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Items of each head.")
@click.option("--by", help="Column that sums items up; default category, else brand.")
@options.level
@click.option("--out", type=click.Path(path_type=Path), help="JSON report to write.")
def command(bundle: Path, queries: tuple[str, ...], k: int, by: str | None, level: int, out: Path | None) -> None:
    """Show which head of the query tower finds what, head by head, and whether all heads are of use."""
    from rich.console import Console

    from pipelines.heads import report_heads
    from twinspire.cli.tables import write_text
    from twinspire.evaluation.head_report import tables

    report = report_heads(bundle, queries, k=k, column=by, level=level)
    console = Console()
    for part in tables(report):
        console.print(part, highlight=False)
    if out is not None:
        write_text(report.model_dump_json(indent=2), out)
        click.echo(f"report: {out}")
