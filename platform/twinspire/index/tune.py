"""How widely to search and how many candidates to compare exactly: the cheapest measured that finds enough."""

from __future__ import annotations

import time
from bisect import bisect_left
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from twinspire.index.parameters import SHALLOW, breadth_name, innermost
from twinspire.index.tensors import on_gpu
from twinspire.index.vectors import VectorIndex, merge_heads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

BLOCK_ROWS = 262_144  # of the memory-mapped vectors in memory at once
COST_BATCH = 16  # queries searched together when time is taken: about what a server under load has
COST_REPEATS = 2
# Steps of some 12 %: a coarser grid overshoots the target, and every list costs.
BREADTHS = sorted({round(1.12**step) for step in range(68)})  # 1 to 1,985
AROUND = (-12, -8, -4, 4, 8)  # steps from the chosen breadth that complete the curve: a quarter to two and a half times
# Candidates compared exactly, as a multiple of the results asked for.
FACTORS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
WORSE = 1.1  # a factor that costs so much more than the best so far ends the search: more would cost yet more


class Measured(BaseModel):
    """One point of the curve: recall@k against exact search and a query's processor milliseconds on one core, on a GPU
    the time it takes, of queries that come 16 at a time. `items` were in the index then."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: str
    parameters: str
    items: int
    recall: float
    ms: float
    k: int = SHALLOW
    reaches: bool = Field(description="recall reaches the target by one standard error")
    trial: bool = Field(False, description="to choose the kind of index, on a sample of the items")
    chosen: bool = False


def tune(
    index: Any,
    factory: str,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    truth: NDArray[np.int64],
    target: float,
    limit: float = np.inf,
) -> tuple[VectorIndex, list[Measured]]:
    """The index with the search parameters that cost least of those whose recall@K reaches `target`, and all measured.

    `queries` (Q, H, D) have the exact results `truth` (Q, K) among `vectors` (n, D). Recall reaches the target where it
    does so by one standard error, as other queries will come. Where nothing reaches it, the parameters of the highest
    recall are taken. What costs more than `limit` milliseconds a query is not looked into further.
    """
    name = breadth_name(index)
    most = min(getattr(innermost(index), "nlist", BREADTHS[-1]), BREADTHS[-1])
    least = truth.shape[1] if name == "itopk_size" else 1  # CAGRA keeps at least what it is asked for
    steps = [*(step for step in BREADTHS if least <= step < most), most] if name else [0]
    trials: dict[tuple[int, float], Measured] = {}

    def measured(step: int, factor: float) -> Measured:
        if (step, factor) not in trials:
            parameters = f"{name}={steps[step]},refine={factor:g}" if name else f"refine={factor:g}"
            trials[step, factor] = measure(VectorIndex(index, parameters, vectors), factory, queries, truth, target)
        return trials[step, factor]

    crossings = _crossings(measured, len(steps), limit)
    if crossings:
        best = min(crossings, key=lambda at: measured(*at).ms)
        for away in AROUND:
            measured(min(max(best[0] + away, 0), len(steps) - 1), best[1])
    else:
        best = max(trials, key=lambda at: (trials[at].recall, -trials[at].ms))
    curve = [trial.model_copy(update={"chosen": at == best}) for at, trial in sorted(trials.items())]
    return VectorIndex(index, trials[best].parameters, vectors), curve


def _crossings(measured: Callable[[int, float], Measured], steps: int, limit: float) -> list[tuple[int, float]]:
    """Of each factor worth a trial the least step that reaches the target."""
    found: list[tuple[int, float]] = []
    least, last, highest = np.inf, steps, 0.0
    for factor in FACTORS:

        def enough(step: int, factor: float = factor) -> bool:
            return (trial := measured(step, factor)).reaches or trial.ms > limit

        # A wider search never finds less, nor does a higher factor: the least step is found by halving what is left.
        at = bisect_left(range(last), True, key=enough)
        if at == steps or not measured(at, factor).reaches:
            recall = measured(max(at - 1, 0), factor).recall  # the most within the limit
            if recall <= highest:  # dearer candidates bring no more than they cost
                break
            highest = recall
            continue
        found.append((at, factor))
        cost, last = measured(at, factor).ms, at
        if cost > min(WORSE * least, limit):
            break
        least = min(least, cost)
    return found


def measure(
    searched: VectorIndex, factory: str, queries: NDArray[np.float32], truth: NDArray[np.int64], target: float
) -> Measured:
    """Recall and cost of one index with its parameters, searched for as many as `truth` (Q, K) has."""
    k = truth.shape[1]
    clock = time.perf_counter if on_gpu(innermost(searched.index)) else time.thread_time
    seconds, found = [], np.zeros((0, k), np.int64)
    with one_thread():
        for _ in range(COST_REPEATS):
            started = clock()
            batches = (queries[first : first + COST_BATCH] for first in range(0, len(queries), COST_BATCH))
            parts = [searched.search(batch, k)[1] for batch in batches]
            seconds.append(clock() - started)
        found = np.concatenate(parts) if parts else found
    shares = recalls(found, truth)
    return Measured(
        factory=factory,
        parameters=searched.parameters,
        items=searched.size,
        recall=recall_at(found, truth),
        k=k,
        ms=round(min(seconds) / max(len(queries), 1) * 1000, 4),
        reaches=not len(shares) or bool(shares.mean() - shares.std() / np.sqrt(len(shares)) >= target),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS on one core, as a server's replica has it."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def exact(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    k: int,
    said: Callable[[int], None] = lambda rows: None,
) -> NDArray[np.int64]:
    """Rows (Q, K) of the best items of queries (Q, H, D) among `vectors` (n, D), a block of which is in memory at once.

    `said(rows)` hears of each block. Rows are -1 where there are fewer than K.
    """
    count, heads, dim = queries.shape
    flat = np.ascontiguousarray(queries.reshape(count * heads, dim))
    scores, rows = np.full((len(flat), k), -np.inf, np.float32), np.full((len(flat), k), -1, np.int64)
    for first in range(0, len(vectors), BLOCK_ROWS):
        block = np.ascontiguousarray(vectors[first : first + BLOCK_ROWS])
        new, found = faiss.knn(flat, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        scores, rows = np.hstack([scores, new]), np.hstack([rows, found + first])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
        said(len(block))
    if heads == 1:
        return rows
    return merge_heads(scores.reshape(count, heads, k), rows.reshape(count, heads, k), k)[1]


def recalls(found: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each row of `truth` (Q, K) that `found` (Q, K) holds; -1 does not count, nor rows of nothing else."""
    there = truth >= 0
    apart = max(found.max(initial=0), truth.max(initial=0)) + 1  # so that no two queries share a number
    own = np.arange(len(truth))[:, None] * apart
    hits = np.isin(truth + own, (found + own)[found >= 0]) & there
    asked = there.any(axis=1)
    return np.asarray(hits.sum(1)[asked] / there.sum(1)[asked])


def recall_at(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Mean of `recalls`; 1 where there is nothing to find."""
    shares = recalls(found, truth)
    return float(shares.mean()) if len(shares) else 1.0
