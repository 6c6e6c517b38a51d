"""Filters inside the search: `python -m benchmarks.filters --bundle BUNDLE`.

Queries of the bundle's log, alone, on one core, K = 100, each within a price range that allows a given share of the
catalogue, another range for each query: so nothing that is kept of an earlier filter helps. Recall is against the exact
scores of all allowed items; filled is the share of the K results that came of those that there were.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import faiss
import numpy as np
import polars as pl
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from twinspire.bundle import Bundle
from twinspire.features.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARES = (1.0, 0.5, 0.1, 0.03, 0.01, 0.001, 0.0001)
K = 100


def ranges(bundle: Bundle, share: float, count: int) -> list[dict[str, dict[str, float]] | None]:
    """Price ranges that allow about this share of the items each; None where all are allowed."""
    if share == 1:
        return [None] * count
    prices = np.sort(bundle.items["price"].drop_nulls().to_numpy())
    wide = max(int(share * len(prices)), 1)
    starts = np.random.default_rng(0).integers(0, len(prices) - wide, count)
    return [{"price": {"min": float(prices[at]), "max": float(prices[at + wide - 1])}} for at in starts]


def measure(bundle: Bundle, texts: Sequence[str], share: float, exact: int) -> dict[str, Any]:
    """Milliseconds a query, recall of the first `exact` queries, and how many results came."""
    asked = [Query(text, None, given) for text, given in zip(texts, ranges(bundle, share, len(texts)), strict=True)]
    for query in asked[:20]:
        bundle.search([query], K)
    spent, found = [], []
    for query in asked[20:]:
        started = time.perf_counter()
        found.append(bundle.search([query], K).items[0])
        spent.append((time.perf_counter() - started) * 1000)
    recalls, filled = [], []
    every = np.arange(len(bundle.item_ids))
    for query, rows in zip(asked[20 : 20 + exact], found, strict=False):
        (one,) = bundle.ask([query])
        allowed = every if one.within is None else one.within.every()
        best = allowed[np.argsort(-bundle.index.scores(one, allowed)[0])[:K]]
        recalls.append(np.isin(best, rows).mean())
        filled.append((rows >= 0).sum() / max(len(best), 1))
    return {
        "p50 ms": round(float(np.percentile(spent, 50)), 3),
        "p99 ms": round(float(np.percentile(spent, 99)), 3),
        "recall@100": round(float(np.mean(recalls)), 4),
        "filled": round(float(np.mean(filled)), 4),
    }


@click.command()
@click.option("--bundle", "folder", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--queries", default=1020, show_default=True, type=click.IntRange(40))
@click.option("--exact", default=200, show_default=True, type=click.IntRange(1), help="Queries whose recall is taken.")
def main(folder: Path, queries: int, exact: int) -> None:
    """Measure time and recall of searches within filters of different selectivity."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    bundle = Bundle.load(folder, verify=False)
    texts = (
        pl.read_parquet(folder / "queries.parquet")["query"].sample(queries, seed=2, with_replacement=True).to_list()
    )
    told = {str(share): measure(bundle, texts, share, exact) for share in SHARES}
    index = bundle.manifest.index
    figures = {
        "items": len(bundle.item_ids),
        "dimensions": bundle.manifest.dimensions,
        "k": K,
        "index": f"{index.factory} {index.parameters}".strip(),
        "fusion": bundle.manifest.fusion.model_dump(),
        "by share of the catalogue": told,
    }
    table = Table("allowed", "p50 ms", "p99 ms", "recall@100", "filled", box=box.SIMPLE)
    for share, row in told.items():
        table.add_row(f"{float(share):.2%}", *map(str, row.values()))
    console = Console()
    console.print(table)
    console.print(f"written to {report.write('filters', figures)}")


if __name__ == "__main__":
    main()
