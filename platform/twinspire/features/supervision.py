"""What people say of single pairs (paper, 4.5): labelled pairs, and items that searchers skip, as columns of numbers.

A positive pair becomes a row of training like a click of nobody in particular. A negative pair waits beside its query
until a batch holds that query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from twinspire.ragged import Ragged
from twinspire.text import normalise_column

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.dataset import Dataset

PAIR = {"query": pl.Int32, "item": pl.Int32}
SOURCES = ("labelled", "skipped")  # of negative pairs: the supervision table, and the log's most skipped items


class SupervisionConfig(BaseModel):
    """Human supervision (4.5): how much of training each source may take. 0 leaves a source out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    positives: float = Field(0.05, ge=0, le=0.5, description="share of the rows that positive pairs may take")
    repeats: int = Field(4, ge=1, le=1000, description="a positive pair is at most so many of a round's rows")
    negatives: float = Field(
        0.1, ge=0, le=1, description="places for negative pairs in the random set, as a share of its random items"
    )
    skipped: float = Field(0.0, ge=0, le=1, description="places for most skipped items, as a share likewise")
    min_skips: int = Field(3, ge=1, description="searches that skipped an item, at the least; and more than clicked it")

    @property
    def labels(self) -> bool:
        """Whether the supervision table is read."""
        return self.positives > 0 or self.negatives > 0

    def places(self, random: int) -> dict[str, int]:
        """Places of each source of negative pairs beside `random` random items."""
        shares = dict(zip(SOURCES, (self.negatives, self.skipped), strict=True))
        return {source: int(np.ceil(share * random)) for source, share in shares.items()}


@dataclass(frozen=True)
class Labels:
    """The supervision table as numbers: `positives` and `negatives` are distinct pairs of `query`, `item` (i32 rows).

    `queries` are the log's, then those that only a positive pair names; `named` are those that positive pairs name.
    """

    positives: pl.DataFrame
    negatives: pl.DataFrame
    queries: pl.Series
    named: pl.Series

    def for_vocabulary(self, min_count: int) -> pl.Series:
        """Queries as a vocabulary counts them: a word that a person chose is no typing error, though it be one query's.

        Such queries are there `min_count` times.
        """
        return pl.concat([self.queries, *[self.named] * (min_count - 1)])

    @classmethod
    def read(cls, dataset: Dataset, queries: pl.Series, config: SupervisionConfig) -> Labels:
        """Labels of a dataset whose log has `queries` (q,), in normal form.

        A pair with both labels says nothing and is left out, and so is a negative pair of a query without a positive,
        from the log or labelled: there is nothing to rank above it.
        """
        if dataset.supervision is None or not config.labels:
            none = pl.DataFrame(schema=PAIR)
            return cls(none, none, queries, queries.clear())
        table = dataset.supervision
        pairs = (
            table.select(
                normalise_column(table["query"]).alias("text"), "item_id", positive=pl.col("label") == "positive"
            )
            .unique(maintain_order=True)
            .filter(pl.len().over("text", "item_id") == 1)
            .join(_item_rows(dataset), on="item_id")
        )
        named = pairs.filter(pl.col("positive") & (config.positives > 0))["text"].unique(maintain_order=True)
        named = named.alias(queries.name)
        queries = pl.concat([queries, named]).unique(maintain_order=True)
        rows = pl.DataFrame({"text": queries}).with_row_index("query").cast({"query": pl.Int32})
        found = pairs.join(rows, on="text").sort("query", "item").cast({"item": pl.Int32})
        positive, negative = (found.filter(keep).select(*PAIR) for keep in (pl.col("positive"), ~pl.col("positive")))
        none = positive.clear()
        return cls(positive if config.positives else none, negative if config.negatives else none, queries, named)


def _item_rows(dataset: Dataset) -> pl.DataFrame:
    return pl.DataFrame({"item_id": dataset.items["item_id"]}).with_row_index("item")


def repeated(pairs: pl.DataFrame, rows: int, config: SupervisionConfig, rng: np.random.Generator) -> pl.DataFrame:
    """The positive pairs that go with `rows` rows of the log, repeated up to their share; (n,) in random order."""
    wanted = round(rows * config.positives / (1 - config.positives))
    count = min(wanted, config.repeats * len(pairs))
    return pairs[np.resize(rng.permutation(len(pairs)), count)]


def save_negatives(pairs: dict[str, pl.DataFrame], queries: int, folder: Path) -> None:
    """Write each source's pairs as a bag of items a query, (queries,); a source without pairs leaves no file."""
    folder.mkdir(parents=True)
    for source, frame in pairs.items():
        if frame.is_empty():
            continue
        ordered = frame.sort("query", "item")
        lengths = np.bincount(ordered["query"].to_numpy(), minlength=queries)
        Ragged.from_lengths(ordered["item"].to_numpy(), lengths).save(folder / source)


def load_negatives(folder: Path) -> dict[str, Ragged]:
    """The bags of each source that has pairs, memory-mapped."""
    return {source: Ragged.load(folder / source) for source in SOURCES if (folder / f"{source}.offsets.npy").is_file()}
