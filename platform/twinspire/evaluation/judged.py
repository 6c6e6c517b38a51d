"""Judged pairs: AUC pooled and within query, condensed NDCG, with intervals over queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.evaluation import metrics
from twinspire.evaluation.bootstrap import Estimate, means, resamples
from twinspire.evaluation.report import Section
from twinspire.text import normalise_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_WEIGHTS_A_BLOCK = 1 << 22


def judged_pairs(judgements: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Judgements of known items as `query`, `item` (int32 row in `items`) and `grade`."""
    rows = items.select("item_id", pl.int_range(pl.len(), dtype=pl.Int32).alias("item"))
    joined = judgements.join(rows, on="item_id", how="inner", maintain_order="left")
    return joined.select("query", "item", "grade")


def judged_section(
    pairs: pl.DataFrame,
    scores: Mapping[str, NDArray[np.float32]],
    *,
    positive_grade: float,
    negative_grade: float,
    rounds: int,
    seed: int,
    compare: Sequence[tuple[str, str]] = (),
) -> Section:
    """Figures of each system's `scores` (P,) on `pairs`, and differences as `differences` has them.

    AUC sets grades of at least `positive_grade` against grades below `negative_grade`; pairs between are
    left out.
    """
    distinct, query = np.unique(normalise_column(pairs["query"]).to_numpy(), return_inverse=True)
    grades = pairs["grade"].to_numpy().astype(np.float64)
    decided = np.flatnonzero((grades >= positive_grade) | (grades < negative_grade))
    positive = grades[decided] >= positive_grade
    names, figures, resampled = list(scores), [], []
    for of_pair in scores.values():
        by_query = np.stack(
            [
                metrics.auc_by_query(of_pair[decided], positive, query[decided], len(distinct)),
                metrics.ndcg_by_query(of_pair, grades, query, len(distinct)),
            ],
            axis=1,
        )
        mean, rounds_mean = means(by_query, np.arange(len(distinct)), rounds=rounds, seed=seed)
        pooled = metrics.auc(of_pair[decided], positive)
        rounds_pooled = _resampled_auc(of_pair[decided], positive, query[decided], len(distinct), rounds, seed)
        figures.append(np.concatenate([pooled, mean]))
        resampled.append(np.column_stack([rounds_pooled, rounds_mean]))
    values, rounded = np.stack(figures), np.stack(resampled)
    columns = ["auc", "auc_within_query", "ndcg@10"]
    return Section(
        description=f"AUC: grade >= {positive_grade:g} against grade < {negative_grade:g}; judged items only",
        cases=len(pairs),
        queries=len(distinct),
        systems=estimates(names, columns, values, rounded),
        differences=differences(names, columns, values, rounded, compare),
    )


def estimates(
    names: list[str], columns: list[str], values: NDArray[np.float64], resampled: NDArray[np.float64]
) -> dict[str, dict[str, Estimate]]:
    """From `values` (S, M) of S systems and M metrics and their `resampled` values (S, R, M)."""
    return {
        name: {column: Estimate.of(values[s, m], resampled[s, :, m]) for m, column in enumerate(columns)}
        for s, name in enumerate(names)
    }


def differences(
    names: list[str],
    columns: list[str],
    values: NDArray[np.float64],
    resampled: NDArray[np.float64],
    compare: Sequence[tuple[str, str]] = (),
) -> dict[str, dict[str, Estimate]]:
    """The first system less each other one, then the pairs of names in `compare`, the first less the second.

    They are paired: both systems are measured on the same resamples.
    """
    pairs = list(dict.fromkeys([*((names[0], name) for name in names[1:]), *compare]))
    labels = [f"{one} - {other}" for one, other in pairs]
    left, right = ([names.index(pair[side]) for pair in pairs] for side in (0, 1))
    return estimates(labels, columns, values[left] - values[right], resampled[left] - resampled[right])


def _resampled_auc(
    scores: NDArray[np.float32],
    positive: NDArray[np.bool_],
    query: NDArray[np.intp],
    n_queries: int,
    rounds: int,
    seed: int,
) -> NDArray[np.float64]:
    step = max(1, _WEIGHTS_A_BLOCK // max(len(scores), 1))
    parts = [
        metrics.auc(scores, positive, drawn[start : start + step, query])
        for drawn in resamples(n_queries, rounds, seed)
        for start in range(0, len(drawn), step)
    ]
    return np.concatenate(parts)
