"""What searchers saw and left: the most skipped items of a query, and the unclicked impressions of each search.

A search is one shopper, session and query; without a session nothing says which impressions belong together, so those
are left out. An item is clicked where any event but an impression names it. Columns only: the log is read in streams,
and what stays in memory is one row of numbers for each item of each search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.features.supervision import PAIR
from twinspire.text import normalise_column

if TYPE_CHECKING:
    from twinspire.dataset import Dataset
    from twinspire.features.log import Positives

_CLICKED = pl.col("event") != "impression"


def events_before(dataset: Dataset, positives: Positives, before: int | None) -> pl.LazyFrame:
    """Events of the queries of `positives`, before the time `before` (microseconds since 1970; None: all of them).

    Columns of the interactions, with `query` and `item` as i32 rows.
    """
    assert dataset.interactions is not None
    log = dataset.interactions
    if before is not None:
        log = log.filter(pl.col("timestamp").dt.epoch("us") < before)
    texts = log.select(pl.col("query").unique().alias("typed")).collect(engine="streaming")
    rows = pl.DataFrame({"text": positives.queries}).with_row_index("query").cast({"query": pl.Int32})
    known = texts.with_columns(normalise_column(texts["typed"]).alias("text")).join(rows, on="text").drop("text")
    items = pl.DataFrame({"item_id": dataset.items["item_id"]}).with_row_index("item").cast({"item": pl.Int32})
    return log.rename({"query": "typed"}).join(known.lazy(), on="typed").join(items.lazy(), on="item_id").drop("typed")


def most_skipped(events: pl.LazyFrame, min_skips: int) -> pl.DataFrame:
    """Pairs of `query` and `item` that at least `min_skips` searches skipped, and more searches than clicked it.

    A search skips an item that it shows above one of its clicks and that it does not click itself.
    """
    searches = _searches(events).with_columns(lowest=pl.col("clicked_at").max().over("search"))
    skipped = ~pl.col("clicked") & (pl.col("shown_at") < pl.col("lowest"))
    counts = searches.select(
        *PAIR, skips=skipped.fill_null(value=False).cast(pl.Int32), clicks=pl.col("clicked").cast(pl.Int32)
    )
    alone = (
        events.filter(pl.col("session_id").is_null() & _CLICKED)
        .select(*PAIR, skips=pl.lit(0, pl.Int32), clicks=pl.lit(1, pl.Int32))
        .collect(engine="streaming")
    )
    pairs = pl.concat([counts, alone]).group_by(*PAIR).agg(pl.col("skips").sum(), pl.col("clicks").sum())
    kept = (pl.col("skips") >= min_skips) & (pl.col("skips") > pl.col("clicks"))
    return pairs.filter(kept).select(*PAIR).sort(*PAIR)


def unclicked(events: pl.LazyFrame, positives: Positives, kinds: tuple[str, ...]) -> pl.Series:
    """Items of each positive's own search that were shown and not clicked: (P,) lists of i32 rows, sorted.

    `kinds` are the events that make positives: the first of them in a search is the positive's time, by which it is
    found again.
    """
    searches = _searches(events, kinds)
    shown = searches.filter(~pl.col("clicked")).sort("item").group_by("search", maintain_order=True).agg(shown="item")
    key = ["user_id", "query", "item", "time"]
    owners = searches.filter(pl.col("time").is_not_null()).unique(key, keep="first").select(*key, "search")
    users = pl.concat([positives.user_ids, pl.Series("user_id", [None], pl.String)])
    wanted = pl.DataFrame(
        {
            "user_id": users.gather(np.where(positives.user < 0, len(users) - 1, positives.user)),
            "query": positives.query,
            "item": positives.item,
            "time": positives.time,
        }
    )
    found = wanted.join(owners, on=key, how="left", nulls_equal=True, maintain_order="left")
    lists = found.join(shown, on="search", how="left", maintain_order="left")["shown"]
    return lists.cast(pl.List(pl.Int32)).fill_null([])


def _searches(events: pl.LazyFrame, kinds: tuple[str, ...] = ()) -> pl.DataFrame:
    """One row an item of a search: `search` u64, `query`, `item`, `clicked`, and where it was shown and clicked.

    With `kinds`, also `user_id` and `time`, of the first event of such a kind.
    """
    when = pl.col("timestamp").dt.epoch("us")
    read = [pl.col("user_id"), pl.when(pl.col("event").is_in(kinds)).then(when).alias("time")] if kinds else []
    more = [pl.col("user_id").first(), pl.col("time").min()] if kinds else []
    return (
        events.filter(pl.col("session_id").is_not_null())
        .select(
            pl.struct("user_id", "session_id", "query").hash().alias("search"),
            *PAIR,
            *read,
            clicked=_CLICKED,
            shown_at=pl.when(~_CLICKED).then("position"),
            clicked_at=pl.when(_CLICKED).then("position"),
        )
        .group_by("search", *PAIR)
        .agg(pl.col("clicked").any(), pl.col("shown_at").min(), pl.col("clicked_at").max(), *more)
        .collect(engine="streaming")
    )
