"""The loops of hybrid retrieval, compiled: a whole batch in one call that holds no GIL."""

from __future__ import annotations

from typing import Any

import numpy as np

from twinspire.compiled import compiled
from twinspire.index.lexical import cover
from twinspire.index.postings import propose
from twinspire.index.rerank import largest, products, put_best


@compiled
def _beside(rows: Any, known: Any, shares: Any, trend: Any, scores: Any) -> None:
    """Add what memory and trend say of items (M,); `known` items (sorted) are remembered with `shares`."""
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


@compiled
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
    k: Any,
) -> None:
    """Fused scores of the `k` best of items (M,) for query b, and the heads of the largest inner product, into `scores`
    and `heads`; the other items get less than their own.

    Of each stream in `words` there are the queries' tokens, their weights and where those of each query begin, then the
    items' tokens and where those of each item begin. Before a stream is looked at, items that even all of its tokens
    and those of the streams behind it would not bring among the best are left as they are.
    """
    products(queries, items, rows, scores, heads)
    _beside(rows, known, shares, trend, scores)
    left = np.float32(0)  # what the streams that were not looked at yet can add
    for _, weights, starts, _, _ in words:
        left += weights[starts[b] : starts[b + 1]].sum()
    for tokens, weights, starts, values, offsets in words:
        part = slice(starts[b], starts[b + 1])
        if len(rows) <= k:
            cover(tokens[part], weights[part], values, offsets, rows, scores)
            continue
        # The k-th best so far will be no worse; the last digits may.
        least = -np.partition(-scores, k - 1)[k - 1] - np.float32(1e-5)
        hopeful = np.flatnonzero(scores + left >= least)
        some = scores[hopeful]
        cover(tokens[part], weights[part], values, offsets, rows[hopeful], some)
        scores[hopeful] = some
        left -= weights[part].sum()


@compiled
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
    score(found, queries, items, words, b, known, shares, trend, fused, best, len(scores))
    put_best(fused, found, best, scores, rows, heads)


@compiled
def _nearest(rows: Any, queries: Any, items: Any, count: Any) -> Any:
    """Of an index's candidates (M,), -1 where short, the `count` of the largest inner product."""
    if len(rows) <= count:
        return rows
    there = np.unique(rows[rows >= 0])
    values, heads = np.empty(len(there), np.float32), np.empty(len(there), np.int8)
    products(queries, items, there, values, heads)
    return there[largest(values, count)]


@compiled
def rank_batch(
    near: Any,
    vectors: Any,
    items: Any,
    words: Any,
    which: Any,
    weights: Any,
    postings: Any,
    most: Any,
    wide: Any,
    known: Any,
    shares: Any,
    known_starts: Any,
    trend: Any,
    scores: Any,
    rows: Any,
    heads: Any,
) -> None:
    """`rank` for B queries: the `wide` nearest of `near` (B, M), and up to `wide` that stream `which` of the words
    proposes by the tokens' own `weights`, of at most `most` postings; none where which is -1."""
    proposed, every = postings.order[:0], np.zeros(0, np.uint8)
    for b in range(len(vectors)):
        if which >= 0:
            tokens, _, starts, _, _ = words[which]
            part = slice(starts[b], starts[b + 1])
            proposed = propose(tokens[part], weights[part], postings, most, every, wide)
        some = slice(known_starts[b], known_starts[b + 1])
        nearest = _nearest(near[b], vectors[b], items, wide)
        rank(
            nearest, proposed, vectors[b], items, words, b, known[some], shares[some], trend,
            scores[b], rows[b], heads[b],
        )  # fmt: skip
