"""The loops of hybrid retrieval, compiled: a whole batch in one call that holds no GIL."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from twinspire.index.lexical import accumulate, cover, proposals


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def score(
    rows: Any,
    queries: Any,
    items: Any,
    words: Any,
    b: Any,
    known: Any,
    shares: Any,
    trend: Any,
    scores: Any,
    heads: Any,
) -> None:
    """Fused scores of items (M,) for query b, and the heads of the largest inner product, into `scores` and `heads`.

    Of each stream in `words` there are the queries' tokens, their weights and where those of each query begin, then the
    items' tokens and where those of each item begin. `known` items (sorted) are remembered with `shares`.
    """
    products(queries, items, rows, scores, heads)
    for tokens, weights, starts, values, offsets in words:
        first, last = starts[b], starts[b + 1]
        if first < last:
            cover(tokens[first:last], weights[first:last], values, offsets, rows, scores)
    if len(trend):
        for m in range(len(rows)):
            scores[m] += trend[rows[m]]
    if len(known):
        for m in range(len(rows)):
            low, high = 0, len(known)
            while low < high:
                middle = (low + high) // 2
                if known[middle] < rows[m]:
                    low = middle + 1
                else:
                    high = middle
            if low < len(known) and known[low] == rows[m]:
                scores[m] += shares[low]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def rank(
    near: Any,
    proposed: Any,
    queries: Any,
    items: Any,
    words: Any,
    b: Any,
    known: Any,
    shares: Any,
    trend: Any,
    scores: Any,
    rows: Any,
    heads: Any,
) -> None:
    """The best of all candidates of query b, as many as `scores`, `rows` and `heads` (K,) hold.

    Of equal scores the lower row comes first; places that are left over stay as they are.
    """
    every = np.empty(len(near) + len(proposed) + len(known), np.int64)
    every[: len(near)] = near
    every[len(near) : len(near) + len(proposed)] = proposed
    every[len(near) + len(proposed) :] = known
    every.sort()
    number = 0
    for place in range(len(every)):
        if every[place] >= 0 and (number == 0 or every[place] != every[number - 1]):
            every[number] = every[place]
            number += 1
    found = every[:number]
    fused, best = np.empty(number, np.float32), np.empty(number, np.int8)
    score(found, queries, items, words, b, known, shares, trend, fused, best)
    kept = _largest(fused, len(scores))
    order = kept[np.argsort(-fused[kept], kind="mergesort")]
    for place in range(min(len(order), len(scores))):
        at = order[place]
        scores[place], rows[place], heads[place] = fused[at], found[at], best[at]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def rank_batch(
    near: Any,
    vectors: Any,
    items: Any,
    words: Any,
    which: Any,
    weights: Any,
    postings: Any,
    wide: Any,
    slate: Any,
    touched: Any,
    known: Any,
    shares: Any,
    known_starts: Any,
    trend: Any,
    scores: Any,
    rows: Any,
    heads: Any,
) -> None:
    """`rank` for B queries: `near` (B, M), and up to `wide` that stream `which` of the words proposes by the tokens'
    own `weights`; none where which is -1."""
    proposed = touched[:0]
    for b in range(len(vectors)):
        if which >= 0:
            tokens, _, starts, _, _ = words[which]
            part = slice(starts[b], starts[b + 1])
            number = accumulate(tokens[part], weights[part], *postings, slate, touched)
            proposed = proposals(touched[:number], slate, wide)
        some = slice(known_starts[b], known_starts[b + 1])
        rank(
            near[b], proposed, vectors[b], items, words, b, known[some], shares[some], trend,
            scores[b], rows[b], heads[b],
        )  # fmt: skip


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _largest(values: Any, count: Any) -> Any:
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
