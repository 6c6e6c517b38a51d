"""Quality of a ranking by clicks (one clicked item a case) and by judgements (graded pairs)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from twinspire.evaluation.ranks import chance_among_random

if TYPE_CHECKING:
    from numpy.typing import NDArray


def click_metrics(ranks: NDArray[np.int64], *, n_items: int, n_random: int = 1024) -> dict[str, NDArray[np.float64]]:
    """Each metric's value for each case, (B,), from the clicked item's rank in the whole catalogue.

    With one clicked item a case, recall@k is the share of cases whose item is in the first k (a hit rate).
    """
    return {
        **{
            f"top{k}_of_{n_random}": chance_among_random(ranks, k=k, n_items=n_items, n_random=n_random)
            for k in (1, 10)
        },
        "hit@1": (ranks <= 1).astype(np.float64),
        "recall@10": (ranks <= 10).astype(np.float64),
        "recall@100": (ranks <= 100).astype(np.float64),
        "mrr": 1.0 / ranks,
    }


def auc(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Area under the ROC curve, (R,): the chance that a positive pair scores above a negative one, ties half.

    `scores` and `positive` are (P,). `weights` (R, P) counts each pair so many times, in R resamples at
    once; without it R = 1. Not a number where a resample lacks one of the labels.
    """
    if weights is None:
        weights = np.ones((1, len(scores)))
    if len(scores) == 0:
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    weights = weights[:, order]
    label = positive[order]
    won = np.add.reduceat(weights * label, starts, axis=1)
    lost = np.add.reduceat(weights * ~label, starts, axis=1)
    below = np.cumsum(lost, axis=1) - lost
    pairs = won.sum(axis=1) * lost.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((won * (below + lost / 2)).sum(axis=1) / pairs, np.float64)


def auc_by_query(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], queries: NDArray[np.integer], n_queries: int
) -> NDArray[np.float64]:
    """AUC within each query, (Q,); not a number where one label is missing. `queries` (P,) in [0, Q)."""
    result = np.full(n_queries, np.nan)
    for query, rows in _groups(queries):
        result[query] = auc(scores[rows], positive[rows])[0]
    return result


def ndcg_by_query(
    scores: NDArray[np.floating],
    grades: NDArray[np.floating],
    queries: NDArray[np.integer],
    n_queries: int,
    *,
    k: int = 10,
) -> NDArray[np.float64]:
    """Condensed NDCG@k of each query, (Q,): only its judged items are ranked.

    Gain 2**(3 grade) - 1, discount 1 / log2(rank + 1). Items that share a score share the mean of their
    gains, which is the expectation over random orders. Not a number for a query whose items all have grade
    0.
    """
    result = np.full(n_queries, np.nan)
    gains = np.exp2(3.0 * grades.astype(np.float64)) - 1.0
    for query, rows in _groups(queries):
        gain = gains[rows]
        if gain.max() > 0:
            _, tied = np.unique(-scores[rows], return_inverse=True)
            shared = (np.bincount(tied, gain) / np.bincount(tied))[tied][np.argsort(tied, kind="stable")]
            result[query] = _dcg(shared, k) / _dcg(np.sort(gain)[::-1], k)
    return result


def _dcg(gains: NDArray[np.float64], k: int) -> float:
    top = gains[:k]
    return float(top @ (1.0 / np.log2(np.arange(2, len(top) + 2))))


def _groups(keys: NDArray[np.integer]) -> list[tuple[int, NDArray[np.intp]]]:
    """Rows of each distinct key."""
    if len(keys) == 0:
        return []
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return [(int(keys[rows[0]]), rows) for rows in np.split(order, starts[1:])]
