"""What a head costs and brings: the same log learnt with 1, 2 and 4 heads: `python -m benchmarks.heads`.

Quality is on the validation window, later clicks that training never saw, with 95 % intervals by drawing queries anew
and paired differences over the first number of heads. Search is one call for all heads of a batch over the same index
of `--search-items` vectors around the catalogue's own; the numbers of heads take turns, so that all meet the same
machine.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import report
from benchmarks.in_process import Fitted, fit
from twinspire import dataset
from twinspire.config import load_config
from twinspire.evaluation.bootstrap import Estimate, means
from twinspire.evaluation.heads import measure_heads
from twinspire.index.build import build_index
from twinspire.index.config import IndexConfig
from twinspire.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.index.vectors import VectorIndex

METRICS = ("hit@1", "recall@10", "mrr")
K, BATCH = 100, 32
BLOCK = 256


def case_metrics(fitted: Fitted) -> np.ndarray:
    """METRICS of each case of the window, (Q, 3), by exact search with the best head."""
    target = fitted.window["item"].to_numpy()
    ranks = []
    for start in range(0, len(target), BLOCK):
        scores = (fitted.queries[start : start + BLOCK] @ fitted.vectors.T).max(1)
        own = np.take_along_axis(scores, target[start : start + BLOCK, None], 1)
        ranks.append(1 + (scores > own).sum(1))
    rank = np.concatenate(ranks)
    return np.stack([rank <= 1, rank <= 10, 1 / rank], axis=1).astype(np.float64)


def quality(fits: dict[int, list[Fitted]]) -> dict[int, dict[str, Any]]:
    """Metrics by number of heads, means over seeds, and differences over the first."""
    heads = list(fits)
    values = np.concatenate([np.mean([case_metrics(f) for f in fits[h]], axis=0) for h in heads], axis=1)
    queries = fits[heads[0]][0].window["query"].to_numpy()
    mean, resampled = means(values, queries, rounds=1000, seed=0)
    found: dict[int, dict[str, Any]] = {}
    for number, h in enumerate(heads):
        measured = [measure_heads(f.queries, f.vectors).model_dump(mode="json") for f in fits[h]]
        found[h] = {"heads": measured}
        for m, name in enumerate(METRICS):
            column, first = number * len(METRICS) + m, m
            found[h][name] = Estimate.of(mean[column], resampled[:, column]).model_dump()
            difference = Estimate.of(mean[column] - mean[first], resampled[:, column] - resampled[:, first])
            found[h][f"{name} difference"] = difference.model_dump()
    return found


def search_cost(fits: dict[int, list[Fitted]], items: int, repetitions: int) -> dict[int, dict[str, float]]:
    """Milliseconds of one query alone and a query's share of 32 at a time, K = 100, medians, wall clock and CPU."""
    first = next(iter(fits.values()))[0].vectors
    vectors = _crowd(first, items)
    index, _ = build_index(vectors, first[:200, None], IndexConfig())
    times: dict[int, list[tuple[float, ...]]] = {h: [] for h in fits}
    for turn in range(repetitions):
        for h, (fitted, *_) in fits.items():
            start = turn * BATCH % (len(fitted.queries) - BATCH)
            asked = fitted.queries[start : start + BATCH]
            times[h].append((*_timed(index, asked[:1]), *_timed(index, asked)))
    names = ("one_ms", "one_cpu_ms", "of_32_ms", "of_32_cpu_ms")
    return {
        h: dict(zip(names, (np.median(np.array(t), axis=0) * 1000).round(4).tolist(), strict=True))
        for h, t in times.items()
    }


def _timed(index: VectorIndex, asked: np.ndarray) -> tuple[float, float]:
    """Seconds a query, by the wall clock and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    index.search(asked, K)
    return (time.perf_counter() - wall) / len(asked), (time.process_time() - cpu) / len(asked)


def _crowd(vectors: np.ndarray, items: int) -> np.ndarray:
    """The catalogue's vectors repeated up to `items`, each copy moved a little."""
    rng = np.random.default_rng(0)
    rows = np.arange(items) % len(vectors)
    crowd = vectors[rows] + rng.normal(0, 0.3 * vectors.shape[1] ** -0.5, (items, vectors.shape[1])).astype(np.float32)
    return np.asarray(crowd / np.linalg.norm(crowd, axis=1, keepdims=True), np.float32)


def measure(data: Path, heads: Sequence[int], seeds: int, settings: tuple[str, ...], config: str | None,
            items: int, repetitions: int) -> dict[str, Any]:  # fmt: skip
    """Fit with each number of heads and each seed, then compare."""
    source = dataset.read(data, require_interactions=True)
    fits: dict[int, list[Fitted]] = {h: [] for h in heads}
    jobs = [(seed, h) for seed in range(seeds) for h in heads]
    seconds = dict.fromkeys(heads, 0.0)
    for seed, h in track(jobs, f"fit {data.name}"):
        chosen = ("log.validation_cap=20000", *settings, f"training.seed={seed}", f"model.heads={h}")
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            fits[h].append(fit(source, load_config(config, chosen), Path(folder) / "encoded"))
        seconds[h] += (time.process_time() - started) / seeds
    found, cost = quality(fits), search_cost(fits, items, repetitions)
    return {str(h): {**found[h], "search": cost[h], "fit_cpu_s": round(seconds[h], 1)} for h in heads}


def show(results: dict[str, dict[str, Any]]) -> None:
    table = Table(title="Heads side by side", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = ("data", "heads", *METRICS[:2], "over the first", "share of results", "alone", "cosine", "in common",
               "CPU ms alone", "CPU ms of 32")  # fmt: skip
    for column in columns:
        table.add_column(column, justify="left" if column == "data" else "right")
    for name, by_heads in results.items():
        for h, figures in by_heads.items():
            first = figures["heads"][0]
            gain = figures["recall@10 difference"]
            table.add_row(
                name,
                h,
                *(f"{figures[m]['value']:.3f}" for m in METRICS[:2]),
                f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})",
                " ".join(f"{share:.2f}" for share in first["share"]),
                f"{first['alone']:.2f}",
                f"{first['cosine']:.2f}",
                f"{first['overlap']:.2f}",
                f"{figures['search']['one_cpu_ms']:.2f}",
                f"{figures['search']['of_32_cpu_ms']:.2f}",
            )
        table.add_section()
    Console(width=150).print(table)


@click.command()
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="Dataset folders to measure as well.")
@click.option("--items", default=5_000, show_default=True, help="Items of the simulated market.")
@click.option("--users", default=2_000, show_default=True, help="Shoppers of the simulated market.")
@click.option("--interactions", default=100_000, show_default=True, help="Interactions of the simulated market.")
@click.option("--heads", multiple=True, default=(1, 2, 4), show_default=True, type=click.IntRange(1, 16))
@click.option("--seeds", default=2, show_default=True, help="Fits of each number of heads.")
@click.option("--config", help="A config for all fits, such as dpsr-paper.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of all fits.")
@click.option("--search-items", default=100_000, show_default=True, help="Vectors that are searched.")
@click.option("--repetitions", default=30, show_default=True, help="Searches timed of each kind.")
@click.option("--name", default="heads", show_default=True, help="Name of the file of results.")
def main(data: tuple[Path, ...], items: int, users: int, interactions: int, heads: tuple[int, ...], seeds: int,
         config: str | None, settings: tuple[str, ...],
         search_items: int, repetitions: int, name: str) -> None:  # fmt: skip
    """Compare numbers of heads by quality, collapse and cost, on a simulated market and on datasets of yours."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder) / "market", items=items, users=users, interactions=interactions, seed=0)
        for path in (Path(folder) / "market", *data):
            results[path.name] = measure(path, heads, seeds, settings, config, search_items, repetitions)
    show(results)
    Console().print(f"written to {report.write(name, results)}")


if __name__ == "__main__":
    main()
