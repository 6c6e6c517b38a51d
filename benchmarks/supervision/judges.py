"""Pairs as people would label them, from the market's truth: a judge who looks at one pair knows what is true of it.

For some of the log's queries, as often searched as they are: of what BM25 shows for the query, items that are wrong
for it; and of the whole catalogue, items that are right for it and that nobody has clicked for it. Both are what the
paper's people wrote down (4.5): bad cases that were reported, and items that domain knowledge asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.evaluation.baselines import BM25

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.simulation import Truth

WRONG, RIGHT = 0.34, 0.99  # grades: below, and from here on
SHOWN = 50  # a judge looks at so many results
_AT_ONCE = 20


def label_pairs(truth: Truth, items: pl.DataFrame, clicks: pl.DataFrame, queries: int, each: int) -> pl.DataFrame:
    """A supervision table: up to `each` negative and `each` positive pairs for so many queries.

    `clicks` are training clicks as `query` (normal form) and `item` (row of `items`).
    """
    rng = np.random.default_rng(0)
    traffic = clicks.group_by("query").len().sort("query")
    chosen = rng.choice(len(traffic), min(queries, len(traffic)), replace=False, p=_share(traffic["len"]))
    texts = traffic["query"].gather(np.sort(chosen)).to_list()
    clicked = dict(clicks.group_by("query").agg("item").iter_rows())
    bm25 = BM25(items["title"])
    rows = []
    for start in range(0, len(texts), _AT_ONCE):
        block = texts[start : start + _AT_ONCE]
        grades = truth.relevance(block, np.tile(np.arange(len(items)), (len(block), 1)))
        for query, grade in zip(block, grades, strict=True):
            scores = bm25.query_scores(query)
            found = np.argsort(-scores, kind="stable")[:SHOWN]
            wrong = found[(grade[found] < WRONG) & (scores[found] > 0)]
            right = np.setdiff1d(np.flatnonzero(grade >= RIGHT), clicked[query])
            for label, source, pool in (("negative", "bad case", wrong), ("positive", "domain knowledge", right)):
                drawn = rng.permutation(pool)[:each]
                rows += [(query, items["item_id"][int(item)], label, source) for item in drawn]
    return pl.DataFrame(rows, schema=["query", "item_id", "label", "source"], orient="row")


def _share(counts: pl.Series) -> NDArray[np.float64]:
    share: NDArray[np.float64] = (counts / counts.sum()).to_numpy()
    return share
