"""`twinspire simulate`: make a marketplace with a known truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from twinspire.simulation import Summary

_EPILOG = """\b
Examples:
  twinspire simulate --out market
  twinspire simulate --items 100000 --users 100000 --interactions 1000000 --seed 7 --out market
"""


def _report(summary: Summary, out: Path) -> str:
    events = ", ".join(f"{count:,} {name}s" for name, count in summary.events.items())
    return "\n".join(
        [
            f"{out}: {summary.items:,} items, {summary.users:,} users, {summary.judgements:,} judgements",
            f"  {summary.interactions:,} interactions: {events}",
            f"  {summary.sessions:,} sessions, {summary.requests:,} queries, {summary.distinct_queries:,} distinct",
            f"  {summary.click_through:.2f} clicks a query; {summary.click_share:.1%} of the rows are clicks",
            f"  {summary.no_shared_word:.1%} of clicks have no word in common with the clicked title",
            f"  purchases are worth {summary.revenue:,.2f}; the truth is in {out / 'truth'}",
        ]
    )


@click.command(name="simulate", epilog=_EPILOG)
@click.option("--items", default=20_000, show_default=True, help="Items in the catalogue.")
@click.option("--users", default=5_000, show_default=True, help="Shoppers.")
@click.option("--interactions", default=200_000, show_default=True, help="Rows of the log, all events together.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--new-share", default=0.15, show_default=True, help="Share of the items launched while the log runs.")
@click.option(
    "--drift", default=0.0, show_default=True, help="How much fashion turns over the log's days; 0: not at all."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the dataset.")
def command(items: int, users: int, interactions: int, seed: int, new_share: float, drift: float, out: Path) -> None:
    """Make a marketplace with a known truth: catalogue, shoppers, click log, judgements.

    Writes the tables of a dataset into --out, and the truth (every shopper's utility for any item, every relevance
    grade) into --out/truth, so that later an A/B test can be simulated on the same market.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from twinspire.simulation import simulate

    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("catalogue", total=interactions)
        summary = simulate(
            out,
            items=items,
            users=users,
            interactions=interactions,
            seed=seed,
            new_share=new_share,
            drift=drift,
            progress=lambda stage, rows: bar.update(task, description=stage, advance=rows),
        )
    click.echo(_report(summary, out))
