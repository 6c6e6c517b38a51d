"""What each source of human supervision (4.5) brings: `python -m benchmarks.supervision`.

Arms: none, labelled positives, labelled negatives, most skipped items, all. Each trains on the log before its last part
and is tested on that part's clicks, on judgements, and on the true grade of what it finds. On the simulated market,
the labels are made from its truth (judges.py). Labelled pairs are in no test. An arm is trained with several seeds,
whose figures are averaged case by case; intervals are over queries drawn anew, and differences to `none` are paired.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.supervision.arms import Figures, Test, arms, train
from benchmarks.supervision.judges import label_pairs
from twinspire import dataset
from twinspire.config import load_config
from twinspire.errors import DatasetError
from twinspire.evaluation import judged_pairs
from twinspire.evaluation.bootstrap import Estimate, means
from twinspire.features.log import read_positives
from twinspire.simulation import Truth, simulate, truth
from twinspire.text import normalise_column

RESAMPLES, ASKED = 1000, 1000
BASE = "none"
Estimates = dict[str, dict[str, dict[str, Any]]]


def supervised(source: dataset.Dataset, known: Truth | None, window: float, queries: int, each: int) -> dataset.Dataset:
    """The dataset with its own supervision table or, where the truth is known and there is none, a derived one."""
    if source.supervision is not None or known is None:
        return source
    positives = read_positives(source, load_config().log)
    earlier = slice(0, len(positives) - round(len(positives) * window))
    texts = positives.queries.gather(positives.query[earlier])
    clicks = pl.DataFrame({"query": texts, "item": positives.item[earlier]})
    return replace(source, supervision=label_pairs(known, source.items, clicks, queries, each))


def held_out(source: dataset.Dataset, known: Truth | None, window: float) -> Test:
    """What to test on: nothing that a label says."""
    rows = pl.DataFrame({"item_id": source.items["item_id"]}).with_row_index("item").cast({"item": pl.Int32})
    told = pl.DataFrame(schema={"query": pl.String, "item": pl.Int32, "label": pl.String})
    if source.supervision is not None:
        told = source.supervision.with_columns(query=normalise_column(source.supervision["query"]))
        told = (
            told.join(rows, on="item_id")
            .select("query", "item", "label")
            .unique(["query", "item"], maintain_order=True)
        )
    judged = pl.DataFrame(schema={"query": pl.String, "item": pl.Int32, "grade": pl.Float32})
    if source.judgements is not None:
        judged = judged_pairs(source.judgements, source.items)
        judged = judged.with_columns(query=normalise_column(judged["query"]))
        judged = judged.join(told, on=["query", "item"], how="anti", maintain_order="left")
    positives = read_positives(source, load_config().log)
    later = positives.query[len(positives) - round(len(positives) * window) :]
    asked = positives.queries.gather(np.unique(later))
    asked = asked.sample(min(ASKED, len(asked)), seed=0)
    return Test(positives.queries, told, judged, asked.to_list(), known)


def averaged(runs: list[Figures]) -> Figures:
    """The same cases over seeds."""
    return {name: (np.mean([run[name][0] for run in runs], axis=0), query) for name, (_, query) in runs[0].items()}


def estimates(figures: dict[str, Figures]) -> tuple[Estimates, Estimates]:
    """Figures and paired differences to `none`, each by metric and arm."""
    names = list(figures)
    levels: Estimates = {}
    differences: Estimates = {}
    for metric, (_, query) in figures[BASE].items():
        values = np.stack([figures[name][metric][0] for name in names], axis=1)
        mean, drawn = means(values, query, rounds=RESAMPLES, seed=0)
        levels[metric] = {name: Estimate.of(mean[i], drawn[:, i]).model_dump() for i, name in enumerate(names)}
        differences[metric] = {
            name: Estimate.of(mean[i] - mean[0], drawn[:, i] - drawn[:, 0]).model_dump()
            for i, name in enumerate(names)
            if i
        }
    return levels, differences


def show(levels: Estimates, differences: Estimates, counts: dict[str, dict[str, int]]) -> None:
    table = Table(title="Supervision: level without, differences with", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for arm in counts:
        table.add_column(arm, justify="right")
    for metric, row in levels.items():
        cells = [f"{row[BASE]['value']:.4f}"]
        for arm in list(counts)[1:]:
            found = differences[metric][arm]
            cells.append(f"{found['value']:+.4f}\n[dim]{found['low']:+.4f} {found['high']:+.4f}[/dim]")
        table.add_row(metric, *cells)
    console = Console()
    console.print(table)
    for arm, of in counts.items():
        console.print(f"{arm}: " + (", ".join(f"{count:,} {name}" for name, count in of.items() if count) or "nothing"))


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Dataset folder instead of a simulated market.")
@click.option("--items", default=5_000, show_default=True, help="Items of the simulated market.")
@click.option("--interactions", default=200_000, show_default=True, help="Interactions of the simulated market.")
@click.option("--queries", default=300, show_default=True, help="Queries that are labelled, on the simulated market.")
@click.option("--each", default=3, show_default=True, help="Pairs of either label for each of them, at most.")
@click.option("--skipped", default=0.1, show_default=True, help="Share of skipped items in the arms that have them.")
@click.option("--window", default=0.15, show_default=True, help="Latest share of the clicks, tested on.")
@click.option("--rounds", default=3, show_default=True, help="Passes over the log.")
@click.option("--seeds", default=2, show_default=True, help="Trainings of each arm.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of all arms.")
def main(
    data: Path | None,
    items: int,
    interactions: int,
    queries: int,
    each: int,
    skipped: float,
    window: float,
    rounds: int,
    seeds: int,
    settings: tuple[str, ...],
) -> None:
    """Train every arm and compare."""
    torch.set_num_threads(1)
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    common = (f"log.validation_share={window}", "log.validation_cap=20000", *settings)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if data is None:
            data = scratch / "market"
            simulate(data, items=items, users=items // 2, interactions=interactions, seed=0)
        source = dataset.read(data, quarantine=scratch / "quarantine", require_interactions=True)
        known = truth.load(data) if (data / "truth").is_dir() else None
        source = supervised(source, known, window, queries, each)
        test = held_out(source, known, window)
        figures, counts, seconds = {}, {}, time.process_time()
        for arm, of in arms(skipped).items():
            runs = []
            for seed in range(seeds):
                encoded, model = train(source, (*common, *of, f"training.seed={seed}"), rounds, scratch / "encoded")
                runs.append(test.measure(encoded, model))
            figures[arm], counts[arm] = averaged(runs), encoded.meta.supervision
            Console(stderr=True).print(f"{arm}: {time.process_time() - seconds:.0f} s of CPU so far")
    if not any(any(of.values()) for of in counts.values()):
        raise DatasetError("nothing to compare: no supervision table, and no item that searches skip often")
    levels, differences = estimates(figures)
    show(levels, differences, counts)
    setting = {"items": len(source.items), "rounds": rounds, "seeds": seeds, "window": window, "counts": counts}
    written = report.write("supervision", {**setting, "levels": levels, "differences_to_none": differences})
    Console().print(f"written to {written}")


if __name__ == "__main__":
    main()
