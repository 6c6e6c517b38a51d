"""Which cases belong to which kind of query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.text import normalise_column
from twinspire.text.words import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.evaluation.clicks import TrainingClicks

SLICES = {
    "all": "every case",
    "head": "the most clicked queries, which hold the first third of the training clicks",
    "torso": "the next queries, to the second third of the training clicks",
    "tail": "the other queries of training",
    "unseen": "queries that training never saw",
    "no common word": "query and clicked title share no word",
}
_PARTS = ["head", "torso", "tail"]


def slices(cases: pl.DataFrame, titles: pl.Series, training: TrainingClicks) -> dict[str, NDArray[np.bool_]]:
    """A mask (B,) over the cases for each of `SLICES`.

    Head, torso, tail and unseen split the cases. Queries are compared in their normal form; one that
    straddles a third belongs to the part where it begins.
    """
    total = int(training.queries["clicks"].sum())
    before = pl.col("clicks").cum_sum() - pl.col("clicks")
    part = training.queries.select("query", (before * 3 // max(total, 1)).alias("part"))
    query = normalise_column(cases["query"]).alias("query")
    found = query.to_frame().join(part, on="query", how="left", maintain_order="left")["part"]
    masks = {"all": np.ones(len(cases), np.bool_)}
    for number, name in enumerate(_PARTS):
        masks[name] = (found == number).fill_null(value=False).to_numpy()
    masks["unseen"] = found.is_null().to_numpy()
    masks["no common word"] = _no_common_word(query, titles.gather(cases["item"]))
    return masks


def _no_common_word(queries: pl.Series, titles: pl.Series) -> NDArray[np.bool_]:
    """Mask (B,): query and title, row by row, share no word."""
    pairs = pl.DataFrame({"query": queries, "title": titles})
    distinct = pairs.unique(maintain_order=True)
    of_query = {text: frozenset(words(text)) for text in distinct["query"].unique()}
    of_title = {text: frozenset(words(text)) for text in distinct["title"].unique()}
    apart = [of_query[query].isdisjoint(of_title[title]) for query, title in distinct.iter_rows()]
    distinct = distinct.with_columns(pl.Series("apart", apart, dtype=pl.Boolean))
    joined = pairs.join(distinct, on=["query", "title"], how="left", maintain_order="left")
    return joined["apart"].to_numpy()
