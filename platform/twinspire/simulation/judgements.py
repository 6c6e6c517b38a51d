"""Judged pairs: grades from the truth for pairs that a judge would be shown, for head and tail queries alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.simulation.arrays import choose

if TYPE_CHECKING:
    from numpy.random import Generator

    from twinspire.simulation.lexical import Lexical
    from twinspire.simulation.log import Tables
    from twinspire.simulation.policy import Explorer
    from twinspire.simulation.truth import Truth

_QUERIES, _LEXICAL, _WANTED, _ANY = 500, 7, 8, 5


def judge(truth: Truth, lexical: Lexical, explorer: Explorer, tables: Tables, rng: Generator) -> pl.DataFrame:
    """About 20 pairs for each of 500 queries: half drawn by traffic, half evenly from the whole pool (the tail).

    Pairs are what BM25 finds, items of the wanted types, and items from anywhere; their grades are the truth's.
    """
    pool = truth.queries
    by_traffic = choose(rng, pool.weight, _QUERIES // 2)
    evenly = rng.integers(len(pool.text), size=_QUERIES // 2).astype(np.int32)
    query = np.unique(np.concatenate([by_traffic, evenly]))
    found = lexical.items[query][:, rng.permutation(min(40, lexical.items.shape[1]))[:_LEXICAL]]
    wanted = explorer.wanted(rng, np.repeat(query, _WANTED)).reshape(-1, _WANTED)
    anywhere = explorer.popular(rng, len(query) * _ANY).reshape(-1, _ANY)
    items = np.concatenate([found, wanted, anywhere], axis=1)
    grades = truth.grades(query, items)
    rows, places = np.nonzero(items >= 0)
    frame = pl.DataFrame(
        {
            "query": tables.queries[query[rows]],
            "item_id": tables.item_ids[items[rows, places]],
            "grade": grades[rows, places],
        }
    )
    return frame.unique(["query", "item_id"], keep="first", maintain_order=True)
