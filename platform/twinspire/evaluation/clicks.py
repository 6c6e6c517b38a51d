"""Clicks as evaluation sees them: cases to rank, and what the training clicks say of queries and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.text import normalise_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CASE_COLUMNS = ("query", "user_id", "timestamp", "item")


def clicks(
    interactions: pl.LazyFrame | pl.DataFrame, items: pl.DataFrame, *, events: Sequence[str] = ("click",)
) -> pl.DataFrame:
    """The given events as cases: `query`, `user_id`, `timestamp`, `item` (i32 row in `items`), by time.

    Filter the result by `timestamp` for the training part (`TrainingClicks.of`) and the part to evaluate on.
    Events of items that the catalogue lacks are left out.
    """
    rows = items.select("item_id", pl.int_range(pl.len(), dtype=pl.Int32).alias("item"))
    return (
        interactions.lazy()
        .filter(pl.col("event").is_in(list(events)))
        .join(rows.lazy(), on="item_id", how="inner", maintain_order="left")
        .select(CASE_COLUMNS)
        .sort("timestamp", maintain_order=True)
        .collect()
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
    def of(cls, cases: pl.DataFrame, n_items: int) -> TrainingClicks:
        """Count a table with `query` (as typed) and `item` (row in the items table), one row a click."""
        pairs = (
            cases.select(normalise_column(cases["query"]), "item")
            .group_by("query", "item")
            .agg(pl.len().cast(pl.Int64).alias("clicks"))
            .sort("query", "item")
        )
        queries = pairs.group_by("query").agg(pl.col("clicks").sum())
        queries = queries.sort(["clicks", "query"], descending=[True, False])
        items = np.bincount(pairs["item"].to_numpy(), pairs["clicks"].to_numpy(), minlength=n_items)
        return cls(pairs, queries, items.astype(np.int64))
