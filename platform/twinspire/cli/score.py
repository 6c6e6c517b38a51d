"""`twinspire score`."""

from __future__ import annotations

from pathlib import Path

import click

from twinspire.cli import options

BATCH = 4096

EXAMPLES = """\b
Examples:
  twinspire score --bundle bundles/shop --pairs P.parquet --out S.parquet
P has the columns query and item_id, optionally user_id; S is P with score, in the order of P.
"""


@click.command(epilog=EXAMPLES)
@options.bundle
@click.option(
    "--pairs",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="Parquet with query, item_id, optionally user_id.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Parquet to write: the pairs with their score.",
)
def command(bundle: Path, path: Path, out: Path) -> None:
    """Score a table of query-item pairs with a bundle: what `search` ranks by, computed exactly."""
    import numpy as np
    import polars as pl
    from rich.progress import track

    from twinspire.bundle import Bundle
    from twinspire.cli.tables import check_place, queries, read_table, write_table
    from twinspire.errors import DatasetError

    check_place(out)
    table = read_table(path, "pairs", ("query", "item_id"))
    loaded = Bundle.load(bundle)
    known = pl.DataFrame({"item_id": loaded.items["item_id"]}).with_row_index("item")
    items = table.join(known, on="item_id", how="left", maintain_order="left")["item"]
    unknown = items.is_null().arg_true()
    if len(unknown):
        row = unknown[0]
        raise DatasetError(
            f"pairs: row {row}: item_id {table['item_id'][row]!r} is not in the bundle ({len(unknown)} such rows); "
            "remove them or fit again"
        )
    rows, asked = items.to_numpy(), queries(table)
    scores = np.zeros(len(asked), np.float32)
    for start in track(range(0, len(asked), BATCH), "score", disable=len(asked) <= BATCH):
        scores[start : start + BATCH] = loaded.score(asked[start : start + BATCH], rows[start : start + BATCH])
    write_table(pl.read_parquet(path, glob=False).with_columns(pl.Series("score", scores)), out)
    click.echo(f"{len(asked):,} pairs: {out}")
