"""Clicks as evaluation sees them: cases to rank, and what the training clicks say of queries and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.text import normalise_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.features.log import Positives


def cases(positives: Positives) -> pl.DataFrame:
    """The log's positives as cases, by time: `query` (normal form), `user_id`, `timestamp`, `item` (i32 row), `case`.

    `case` is the positive's own number. Filter by `timestamp` for the training part (`TrainingClicks.of`) and the
    part to evaluate on.
    """
    users = pl.concat([positives.user_ids, pl.Series("user_id", [None], pl.String)])
    return pl.DataFrame(
        {
            "query": positives.queries.gather(positives.query),
            "user_id": users.gather(np.where(positives.user < 0, len(users) - 1, positives.user)),
            "timestamp": pl.Series(positives.time).cast(pl.Datetime("us", "UTC")),
            "item": positives.item,
            "case": np.arange(len(positives)),
        }
    )


@dataclass(frozen=True)
class TrainingClicks:
    """Counts over the clicks that training saw.

    `pairs`: `query` (normalised), `item`, `clicks`. `queries`: `query`, `clicks`, most clicked first.
    `items`: (n_items,) int64 clicks of each item.
    """

    pairs: pl.DataFrame
    queries: pl.DataFrame
    items: NDArray[np.int64]

    @classmethod
    def of(cls, clicks: pl.DataFrame, n_items: int) -> TrainingClicks:
        """Count a table with `query` (as typed) and `item` (row in the items table), one row a click."""
        pairs = (
            clicks.select(normalise_column(clicks["query"]), "item")
            .group_by("query", "item")
            .agg(pl.len().cast(pl.Int64).alias("clicks"))
            .sort("query", "item")
        )
        queries = _most_clicked_first(pairs.group_by("query").agg(pl.col("clicks").sum()))
        items = np.bincount(pairs["item"].to_numpy(), pairs["clicks"].to_numpy(), minlength=n_items)
        return cls(pairs, queries, items.astype(np.int64))

    @classmethod
    def remembered(cls, queries: pl.DataFrame, items: NDArray[np.int64]) -> TrainingClicks:
        """Where the log itself is not at hand: `query` and `clicks`, and clicks of each item (n,); no pairs."""
        pairs = pl.DataFrame(schema={"query": pl.String, "item": pl.Int32, "clicks": pl.Int64})
        return cls(pairs, _most_clicked_first(queries), items)


def _most_clicked_first(queries: pl.DataFrame) -> pl.DataFrame:
    return queries.sort(["clicks", "query"], descending=[True, False])
