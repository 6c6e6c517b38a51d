"""What one query costs on one core before and with the index: `python -m benchmarks.query_cost --bundle B`.

Queries are the bundle's own training queries, each asked alone: to its vector (tokens, look-up, tower), to what the
hybrid index takes (words and memory too), and searched, K = 100. Percentiles over queries, in milliseconds.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import faiss
import numpy as np
import polars as pl
import torch

from benchmarks import report
from twinspire.bundle import Bundle
from twinspire.features.query import Query

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 200
K = 100


def milliseconds(call: Callable[[list[Query]], object], queries: list[Query]) -> dict[str, float]:
    """Percentiles of the time of one query alone."""
    for query in queries[:WARM_UP]:
        call([query])
    gc.collect()
    gc.disable()
    try:
        times = []
        for query in queries:
            started = time.perf_counter()
            call([query])
            times.append(1000 * (time.perf_counter() - started))
    finally:
        gc.enable()
    return {f"p{share}": round(float(np.percentile(times, share)), 4) for share in (50, 95, 99)}


@click.command()
@click.option("--bundle", "folder", required=True, type=click.Path(path_type=Path))
@click.option("--queries", "count", default=5000, show_default=True, help="Queries asked.")
def main(folder: Path, count: int) -> None:
    """Measure a bundle."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    bundle = Bundle.load(folder)
    texts = pl.read_parquet(folder / "queries.parquet")["query"]
    chosen = texts.sample(count, with_replacement=True, seed=0)
    queries = [Query(text) for text in chosen]
    figures = {
        "items": len(bundle.item_ids),
        "dimensions": bundle.manifest.dimensions,
        "query to vector": milliseconds(bundle.embed, queries),
        "query to vector, words and memory": milliseconds(bundle.ask, queries),
        f"search, K = {K}": milliseconds(lambda asked: bundle.search(asked, K), queries),
    }
    for name, figure in figures.items():
        click.echo(f"{name}: {figure}")
    click.echo(f"written: {report.write('query_cost', figures)}")


if __name__ == "__main__":
    main()
