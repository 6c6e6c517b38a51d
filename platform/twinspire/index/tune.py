"""How many lists to look into and how many candidates to compare exactly: the cheapest measured that finds enough."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from twinspire.index.vectors import VectorIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECALL_AT = 100
COST_BATCH = 16  # queries searched together when time is taken: about what a server under load has
COST_REPEATS = 3
# Steps of some 12 %: a coarser grid overshoots the target, and every list costs.
PROBES = sorted({round(1.12**step) for step in range(62)})  # 1 to 1,006
# Candidates compared exactly, as a multiple of the results asked for.
FACTORS = (1.5, 2.0, 3.0, 4.0, 8.0, 16.0)


def tune(
    index: Any, factory: str, queries: NDArray[np.float32], truth: NDArray[np.int64], target: float
) -> tuple[VectorIndex, float]:
    """The index with the search parameters that cost least of those whose recall reaches `target`, and its recall.

    `queries` (Q, H, D) have the exact results `truth` (Q, K). Recall reaches the target where it does so by one
    standard error, as other queries will come. Where nothing reaches it, the most thorough parameters are taken.
    """
    if "IVF" not in factory:
        found = VectorIndex(index)
        return found, recall_at(found.search(queries, RECALL_AT)[1], truth)

    def reaches(probes: int, factor: float) -> bool:
        shares = recalls(VectorIndex(index, _parameters(probes, factor)).search(queries, RECALL_AT)[1], truth)
        return not len(shares) or bool(shares.mean() - shares.std() / np.sqrt(len(shares)) >= target)

    factors = FACTORS if "RFlat" in factory else (0.0,)
    reached: list[str] = []
    for factor in factors:
        # More probes never find less, so the least that suffice are found by halving.
        at = bisect_left(PROBES, True, key=lambda probes, factor=factor: reaches(probes, factor))  # type: ignore[misc]
        if at < len(PROBES):
            reached.append(_parameters(PROBES[at], factor))
    costs = {parameters: _cost(index, parameters, queries) for parameters in reached}
    best = VectorIndex(index, min(costs, key=lambda one: costs[one]) if costs else _parameters(PROBES[-1], factors[-1]))
    return best, recall_at(best.search(queries, RECALL_AT)[1], truth)


def recalls(found: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each row of `truth` (Q, K) that `found` (Q, K) holds; -1 does not count, nor rows of nothing else."""
    rows = zip(found, truth, strict=True)
    return np.array([np.isin(want[want >= 0], have).mean() for have, want in rows if (want >= 0).any()])


def recall_at(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Mean of `recalls`; 1 where there is nothing to find."""
    shares = recalls(found, truth)
    return float(shares.mean()) if len(shares) else 1.0


def _parameters(probes: int, factor: float) -> str:
    return f"nprobe={probes}" + (f",k_factor_rf={factor:g}" if factor else "")


def _cost(index: Any, parameters: str, queries: NDArray[np.float32]) -> float:
    """Processor seconds of this thread for all queries in batches, the least of some repeats."""
    searched = VectorIndex(index, parameters)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        seconds = []
        for _ in range(COST_REPEATS):
            started = time.thread_time()
            for first in range(0, len(queries), COST_BATCH):
                searched.search(queries[first : first + COST_BATCH], RECALL_AT)
            seconds.append(time.thread_time() - started)
    finally:
        faiss.omp_set_num_threads(threads)
    return min(seconds)
