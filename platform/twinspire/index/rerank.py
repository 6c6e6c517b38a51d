"""Exact re-ranking: of the candidates that a compressed index proposes, the best by the raw vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from twinspire.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rerank(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
    """Queries (B, H, D) and their candidates (B, M), rows of `vectors` (n, D), to the K best by their best head.

    Gives scores, rows and heads, (B, K) each, best first. A candidate may come twice and counts once; -1 is none.
    Rows are -1, scores -inf, where there are fewer than K. The GIL is released.
    """
    batch = len(queries)
    scores = np.full((batch, k), -np.inf, np.float32)
    best, heads = np.full((batch, k), -1, np.int64), np.zeros((batch, k), np.int8)
    _rerank(np.ascontiguousarray(queries, np.float32), vectors, rows, scores, best, heads)
    return scores, best, heads


@compiled(fastmath=True)
def _product(query: Any, item: Any) -> Any:
    product = np.float32(0)
    for d in range(len(query)):
        product += query[d] * item[d]
    return product


@compiled
def _rerank(queries: Any, vectors: Any, candidates: Any, scores: Any, best: Any, heads: Any) -> None:
    width, k = candidates.shape[1], scores.shape[1]
    values, places = np.empty(width, np.float32), np.empty(width, np.int64)
    for b in range(len(queries)):
        rows = candidates[b]
        if queries.shape[1] > 1:  # heads may propose the same items
            rows = np.unique(rows)
        found = 0
        for place in range(len(rows)):
            if rows[place] >= 0:
                value = np.float32(-np.inf)
                for h in range(queries.shape[1]):
                    value = max(value, _product(queries[b, h], vectors[rows[place]]))
                values[found], places[found] = value, rows[place]
                found += 1
        kept = _keep_best(values, places, found, k)
        order = np.argsort(-values[:kept], kind="mergesort")
        for place in range(kept):
            row = places[order[place]]
            scores[b, place], best[b, place] = values[order[place]], row
            for h in range(1, queries.shape[1]):
                if _product(queries[b, h], vectors[row]) > _product(queries[b, heads[b, place]], vectors[row]):
                    heads[b, place] = h


@compiled
def _keep_best(values: Any, places: Any, found: Any, k: Any) -> Any:
    """Move the `k` largest of the first `found` values to the front, with their places; gives how many there are."""
    if found <= k:
        return found
    least = np.partition(values[:found], found - k)[found - k]
    ties = k
    for at in range(found):
        ties -= values[at] > least
    kept = 0
    for at in range(found):
        tied = values[at] == least and ties > 0
        if values[at] > least or tied:
            ties -= tied
            values[kept], places[kept] = values[at], places[at]
            kept += 1
    return kept
