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


@compiled
def _rerank(queries: Any, vectors: Any, candidates: Any, scores: Any, best: Any, heads: Any) -> None:
    for b in range(len(queries)):
        rows = candidates[b]
        if queries.shape[1] > 1:  # heads may propose the same items
            rows = np.unique(rows)
        rows = rows[rows >= 0]
        values, found = np.empty(len(rows), np.float32), np.empty(len(rows), np.int8)
        products(queries[b], vectors, rows, values, found)
        put_best(values, rows, found, scores[b], best[b], heads[b])


@compiled(fastmath=True)
def products(queries: Any, items: Any, rows: Any, scores: Any, heads: Any) -> None:
    """The largest inner product over heads of queries (H, D) with the items' vectors at `rows` (M,), and its head."""
    for m in range(len(rows)):
        item = items[rows[m]]
        for h in range(queries.shape[0]):
            product = np.float32(0)
            for d in range(queries.shape[1]):
                product += queries[h, d] * item[d]
            if h == 0 or product > scores[m]:
                scores[m], heads[m] = product, h


@compiled
def put_best(values: Any, found: Any, found_heads: Any, scores: Any, rows: Any, heads: Any) -> None:
    """The best of the found items (M,) by their values, as many as `scores`, `rows` and `heads` (K,) hold, best first.

    Of equal values the first comes first; places that are left over stay as they are.
    """
    kept = largest(values, len(scores))
    order = kept[np.argsort(-values[kept], kind="mergesort")]
    for place in range(len(order)):
        at = order[place]
        scores[place], rows[place], heads[place] = values[at], found[at], found_heads[at]


@compiled
def largest(values: Any, count: Any) -> Any:
    """Places of the `count` largest values, of equals the first; equals are in order."""
    if len(values) <= count:
        return np.arange(len(values))
    least = -np.partition(-values, count - 1)[count - 1]
    places, number = np.empty(count, np.int64), 0
    for place in range(len(values)):
        if values[place] > least:
            places[number] = place
            number += 1
    for place in range(len(values)):
        if number == count:
            break
        if values[place] == least:
            places[number] = place
            number += 1
    return places
