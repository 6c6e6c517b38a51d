"""BM25 of the logging policy against the formula written out."""

from __future__ import annotations

import math
import re

import numpy as np
import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twinspire.simulation.lexical import rank_pool

WORD = st.sampled_from(["red", "blue", "shoe", "phone", "big", "Small-4g", "men's"])
TEXT = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


def by_hand(titles: list[str], query: str) -> list[float]:
    """BM25 with k1 = 1.5 and b = 0.4, one title at a time."""
    documents = [re.findall("[a-z0-9]+", title.lower()) for title in titles]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for words in documents:
        score = 0.0
        for word in re.findall("[a-z0-9]+", query.lower()):
            holders = sum(word in other for other in documents)
            if holders:
                idf = math.log1p((len(documents) - holders + 0.5) / (holders + 0.5))
                count = words.count(word)
                score += idf * count * 2.5 / (count + 1.5 * (1 - 0.4 + 0.4 * len(words) / mean))
        scores.append(score)
    return scores


@settings(max_examples=200, deadline=None)
@example(titles=["red", "red", "blue", "blue"], queries=["blue red red"], depth=3)  # level at the cut, best met last
@given(
    titles=st.lists(TEXT, min_size=1, max_size=12),
    queries=st.lists(TEXT, min_size=1, max_size=4),
    depth=st.integers(1, 14),
)
def test_ranks_as_the_formula_does(titles: list[str], queries: list[str], depth: int) -> None:
    found = rank_pool(pl.Series(titles), pl.Series(queries), np.ones(len(titles)), depth)
    for row, query in enumerate(queries):
        expected = by_hand(titles, query)
        best = sorted((score for score in expected if score > 0), reverse=True)[:depth]
        count = len(best)
        np.testing.assert_allclose(found.scores[row, :count], best, rtol=1e-4)
        np.testing.assert_allclose([expected[item] for item in found.items[row, :count]], best, rtol=1e-4)
        assert (found.items[row, count:] == -1).all()
        everything = np.arange(len(titles), dtype=np.int32)
        shared = found.shares_word(np.full(len(titles), row, dtype=np.int32), everything)
        np.testing.assert_array_equal(shared, np.array(expected) > 0)


def test_queries_that_match_nothing_have_no_results() -> None:
    found = rank_pool(pl.Series(["red shoe"]), pl.Series(["grandpa handset", "red"]), np.ones(1), 3)
    np.testing.assert_array_equal(found.items, [[-1, -1, -1], [0, -1, -1]])
