"""What was clicked for the very same query, the recent clicks most: the memory half of hybrid retrieval.

A tower averages over the weeks that it learnt from; what searchers want of a frequent query can change in days.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.ragged import Ragged
from twinspire.text import normalise

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORGOTTEN = 0.05  # a query whose clicks weigh less than this together is not kept


@dataclass(frozen=True)
class QueryMemory:
    """Of each remembered query, normalised, its clicked items and their `shares` of the clicks.

    `items` and `shares` (T,) belong together: those of query q are the slice `items.row(q)`. Shares of a query add up
    to n / (n + 1) for n clicks, each weighed by its age: one click says little.
    """

    queries: pl.Series
    items: Ragged
    shares: NDArray[np.float32]

    @classmethod
    def build(
        cls,
        queries: pl.Series,
        query: NDArray[np.integer],
        item: NDArray[np.integer],
        age_days: NDArray[np.floating],
        half_life_days: float,
    ) -> QueryMemory:
        """From clicks (P,): rows of `queries` and of items, and each click's age."""
        weight = np.exp2(-age_days / half_life_days)
        clicks = pl.DataFrame({"query": query, "item": item.astype(np.int32), "weight": weight})
        pairs = clicks.group_by("query", "item").agg(pl.col("weight").sum()).sort("query", "item")
        total = pl.col("weight").sum().over("query")
        pairs = pairs.with_columns((pl.col("weight") / (total + 1)).cast(pl.Float32).alias("share"))
        pairs = pairs.filter(total >= FORGOTTEN)
        kept = pairs.group_by("query", maintain_order=True).len()
        return cls(
            queries.gather(kept["query"]),
            Ragged.from_lengths(pairs["item"].to_numpy(), kept["len"].to_numpy()),
            pairs["share"].to_numpy(),
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {query: row for row, query in enumerate(self.queries)}

    def of(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Items (M,), in order of their rows, and their shares of what was clicked for this query."""
        row = self._rows.get(normalise(text))
        if row is None:
            return NOTHING
        part = slice(self.items.offsets[row], self.items.offsets[row + 1])
        return self.items.values[part], self.shares[part]

    def save(self, path: Path) -> None:
        """Write one Parquet file."""
        owner = np.repeat(np.arange(len(self.items)), self.items.lengths)
        pairs = {"query": self.queries.gather(owner), "item": self.items.values, "share": self.shares}
        pl.DataFrame(pairs).write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> QueryMemory:
        """Read what `save` wrote."""
        pairs = pl.read_parquet(path, glob=False)
        kept = pairs.group_by("query", maintain_order=True).len()
        items = Ragged.from_lengths(pairs["item"].to_numpy(), kept["len"].to_numpy())
        return cls(kept["query"], items, pairs["share"].to_numpy())


NOTHING = (np.zeros(0, np.int32), np.zeros(0, np.float32))
