"""Intervals by resampling queries: cases of one query are not independent, so they go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CONFIDENCE = 0.95
_ROUNDS_A_BLOCK = 50


class Estimate(BaseModel):
    """A figure and its 95 % bootstrap interval; all None where there is nothing to measure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, value: float, resampled: NDArray[np.float64]) -> Estimate:
        """From the figure itself and its resampled values (R,), less those that are not numbers."""
        resampled = resampled[~np.isnan(resampled)]
        if np.isnan(value) or len(resampled) == 0:
            return cls(value=None, low=None, high=None)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(resampled, [tail, 1 - tail])
        return cls(value=float(value), low=float(low), high=float(high))


def resamples(n_queries: int, rounds: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each query is drawn, blocks of (up to 50, Q), `rounds` rows in all."""
    generator = np.random.default_rng(seed)
    for start in range(0, rounds, _ROUNDS_A_BLOCK):
        block = min(_ROUNDS_A_BLOCK, rounds - start)
        drawn = generator.integers(n_queries, size=(block, n_queries))
        drawn += n_queries * np.arange(block)[:, None]
        yield (np.bincount(drawn.ravel(), minlength=block * n_queries).reshape(block, n_queries).astype(np.float64))


def means(
    values: NDArray[np.float64], queries: NDArray[np.integer], *, rounds: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over the cases (M,) and in each resample of queries (R, M).

    `values` (B, M) holds M figures of each case; a case that is not a number does not count in that figure.
    `queries` (B,) is each case's query, any integers. Differences of columns are paired: all share the
    resamples.
    """
    _, row = np.unique(queries, return_inverse=True)
    n_queries = int(row.max()) + 1 if len(row) else 0
    counted = ~np.isnan(values)
    sums = _sum_by_query(np.where(counted, values, 0.0), row, n_queries)
    counts = _sum_by_query(counted.astype(np.float64), row, n_queries)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(axis=0) / counts.sum(axis=0)
        if n_queries == 0:
            return mean, np.full((rounds, values.shape[1]), np.nan)
        blocks = [(drawn @ sums) / (drawn @ counts) for drawn in resamples(n_queries, rounds, seed)]
    return mean, np.concatenate(blocks)


def _sum_by_query(values: NDArray[np.float64], row: NDArray[np.intp], n_queries: int) -> NDArray[np.float64]:
    sums = np.zeros((n_queries, values.shape[1]))
    np.add.at(sums, row, values)
    return sums
