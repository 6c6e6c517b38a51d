"""`twinspire search`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twinspire.cli import options
from twinspire.errors import RequestError

if TYPE_CHECKING:
    from twinspire.bundle import Bundle

BATCH = 1024
MAX_K = 10_000

EXAMPLES = """\b
Examples:
  twinspire search --bundle bundles/shop --queries Q.parquet --k 100 --out R.parquet
  twinspire search --bundle bundles/shop --queries Q.parquet --out R.parquet --filter brand=acme --filter price=10..50
Q has the column query and optionally user_id; R has row, rank, item_id, score.
"""


@click.command(epilog=EXAMPLES)
@options.bundle
@click.option(
    "--queries",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="Parquet with query, optionally user_id.",
)
@click.option("--k", default=100, show_default=True, type=click.IntRange(1, MAX_K), help="Items for each query.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Parquet to write: row, rank, item_id, score.",
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only such items: a text (of a category all below it too), a number, or FROM..TO; one column twice is either.",
)
def command(bundle: Path, path: Path, k: int, out: Path, filters: tuple[str, ...]) -> None:
    """Answer a table of queries from a bundle."""
    import numpy as np
    import polars as pl
    from rich.progress import track

    from twinspire.bundle import Bundle
    from twinspire.cli.tables import check_place, queries, read_table, write_table

    check_place(out)
    table = read_table(path, "queries", ("query",))
    loaded = Bundle.load(bundle)
    wide = min(k, len(loaded.item_ids))
    asked = [replace(query, filters=_conditions(filters, loaded)) for query in queries(table)]
    items = np.full((len(asked), wide), -1, np.int32)
    scores = np.zeros((len(asked), wide), np.float32)
    for start in track(range(0, len(asked), BATCH), "search", disable=len(asked) <= BATCH):
        found = loaded.search(asked[start : start + BATCH], wide)
        items[start : start + BATCH], scores[start : start + BATCH] = found.items, found.scores
    rows, ranks = np.nonzero(items >= 0)
    ids = loaded.items["item_id"].gather(items[rows, ranks])
    result = pl.DataFrame(
        {
            "row": rows.astype(np.int64),
            "rank": (ranks + 1).astype(np.int32),
            "item_id": ids,
            "score": scores[rows, ranks],
        }
    )
    write_table(result, out)
    click.echo(f"{len(asked):,} queries, {len(result):,} results: {out}")


def _conditions(given: tuple[str, ...], bundle: Bundle) -> dict[str, Any] | None:
    """`COLUMN=VALUE` as the library takes filters."""
    found: dict[str, Any] = {}
    for one in given:
        column, equals, text = one.partition("=")
        if not equals:
            raise RequestError("--filter", f"{one!r}: write COLUMN=VALUE, such as brand=acme or price=10..50")
        is_number = bundle.manifest.filters.get(column) == "number"
        condition = _number(one, text) if is_number else text
        if column in found and dict in (type(condition), type(found[column][0])):
            raise RequestError("--filter", f"{one!r}: a column has one range, and no other value beside it")
        found.setdefault(column, []).append(condition)
    return {column: every[0] if isinstance(every[0], dict) else every for column, every in found.items()} or None


def _number(one: str, text: str) -> float | dict[str, float]:
    least, dots, most = text.partition("..")
    try:
        if not dots:
            return float(text)
        return {name: float(bound) for name, bound in (("min", least), ("max", most)) if bound}
    except ValueError:
        raise RequestError("--filter", f"{one!r}: write a number, or FROM..TO") from None
