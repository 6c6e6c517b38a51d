"""`twinspire search`."""

from __future__ import annotations

from pathlib import Path

import click

from twinspire.cli import options

BATCH = 1024
MAX_K = 10_000

EXAMPLES = """\b
Examples:
  twinspire search --bundle bundles/shop --queries Q.parquet --k 100 --out R.parquet
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
def command(bundle: Path, path: Path, k: int, out: Path) -> None:
    """Answer a table of queries from a bundle."""
    import numpy as np
    import polars as pl
    from rich.progress import track

    from twinspire.bundle import Bundle
    from twinspire.cli.tables import queries, read_table, write_table

    table = read_table(path, "queries", ("query",))
    loaded = Bundle.load(bundle)
    wide = min(k, len(loaded.item_ids))
    asked = queries(table)
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
