"""Time to the K best items of one query, one query at a time on one thread, by each system's own retrieval."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import track
from threadpoolctl import threadpool_limits

from twinspire.features.query import Query, Shopper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from twinspire.evaluation import System

WARM_UP = 10


def asked(cases: pl.DataFrame, judgements: pl.DataFrame | None, count: int, seed: int) -> list[Query]:
    """`count` later searches with their shoppers, or judged queries where there is no log, the same for all systems."""
    table = cases if len(cases) or judgements is None else judgements
    rows = table[np.random.default_rng(seed).integers(len(table), size=count)].to_dicts()
    return [Query(row["query"], Shopper(row["user_id"]) if row.get("user_id") else None) for row in rows]


def times(systems: Mapping[str, System], queries: Sequence[Query], k: int) -> dict[str, dict[str, float]]:
    """Median and 99th percentile in milliseconds of each system over the queries, which take turns between systems."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            warm_up = queries[:WARM_UP]
            for number, query in enumerate(track([*warm_up, *queries], "timing", transient=True)):
                for name, system in systems.items():
                    started = time.perf_counter()
                    system.best(query, k)
                    if number >= len(warm_up):
                        seconds[name].append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return {
        name: {
            "median": round(1e3 * float(np.median(taken)), 3),
            "p99": round(1e3 * float(np.quantile(taken, 0.99)), 3),
        }
        for name, taken in seconds.items()
    }
