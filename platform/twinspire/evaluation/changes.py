"""Which queries two bundles answer most differently, side by side, with what shoppers clicked later."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from twinspire.features.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.bundle import Bundle
    from twinspire.evaluation.ground import Ground

K = 10
QUERIES = 500  # the most searched ones are looked at
MOST = 20
_AT_ONCE = 64


class Shown(BaseModel):
    """One item of a result list; `clicks` are later clicks on it for the query."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_id: str
    title: str
    clicks: int


class Change(BaseModel):
    """A query, how often it was searched later, and its results by both. `overlap` is 1 where they are the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str
    clicks: int
    overlap: float
    first: list[Shown]
    second: list[Shown]


class Changes(NamedTuple):
    """The most changed queries, how many were asked, and their mean overlap."""

    most: list[Change]
    asked: int
    mean_overlap: float | None


def changes(first: Bundle, second: Bundle, ground: Ground) -> Changes:
    """Ask both bundles the most searched queries, for nobody in particular."""
    clicked = _clicked(ground)
    texts = clicked.group_by("query").agg(pl.col("clicks").sum()).sort(["clicks", "query"], descending=[True, False])
    texts = texts.head(QUERIES)
    if texts.is_empty() and ground.judgements is not None:
        texts = ground.judgements.select("query").unique().sort("query").with_columns(clicks=pl.lit(0)).head(QUERIES)
    if texts.is_empty():
        return Changes([], 0, None)
    asked = texts["query"].to_list()
    by_first, by_second = _best(first, asked), _best(second, asked)
    overlaps = [average_overlap(one, other) for one, other in zip(by_first, by_second, strict=True)]
    counts = dict(zip(asked, texts["clicks"], strict=True))
    order = sorted(range(len(asked)), key=lambda row: (round(overlaps[row], 6), -counts[asked[row]], asked[row]))
    on = {(query, item): clicks for query, item, clicks in clicked.iter_rows()}
    most = [
        Change(
            query=asked[row],
            clicks=counts[asked[row]],
            overlap=round(overlaps[row], 4),
            first=_shown(first, asked[row], by_first[row], on),
            second=_shown(second, asked[row], by_second[row], on),
        )
        for row in order[:MOST]
        if overlaps[row] < 1
    ]
    return Changes(most, len(asked), float(np.mean(overlaps)))


def average_overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Mean over the depths 1 to the longer list's of the share that the lists' beginnings have in common, in [0, 1].

    Fagin, Kumar and Sivakumar, Comparing top k lists, 2003: what changes at the top weighs most. 1 for two empty lists.
    """
    depth = max(len(one), len(other))
    shares = [len({*one[:d]} & {*other[:d]}) / d for d in range(1, depth + 1)]
    return float(np.mean(shares)) if shares else 1.0


def _clicked(ground: Ground) -> pl.DataFrame:
    """`query`, `item_id`, `clicks` of the later clicks."""
    ids = ground.items["item_id"]
    pairs = ground.cases.group_by("query", "item").agg(pl.len().alias("clicks")).sort("query", "item")
    return pairs.select("query", ids.gather(pairs["item"]).alias("item_id"), "clicks")


def _best(bundle: Bundle, texts: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = []
    for start in range(0, len(texts), _AT_ONCE):
        queries = [Query(text) for text in texts[start : start + _AT_ONCE]]
        results = bundle.search(queries, min(K, len(bundle.items))).items
        found += [[bundle.item_ids[row] for row in rows if row >= 0] for rows in results]
    return found


def _shown(bundle: Bundle, query: str, items: list[str], on: dict[tuple[str, str], int]) -> list[Shown]:
    titles = bundle.items["title"]
    rows = bundle.item_rows
    return [Shown(item_id=item, title=titles[rows[item]], clicks=on.get((query, item), 0)) for item in items]
