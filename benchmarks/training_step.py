"""The training step against the plain loop, side by side: `python -m benchmarks.training_step`.

- plain: each encoder looks its bags up in an `nn.EmbeddingBag(sparse=True)`, `torch.optim.Adagrad` learns;
- ours: `Learner` as it is.

Features, loss and layers are the same code. Both start from the same weights and learn from the same batches, made
beforehand, with the same dropout, in one process on `training.threads` threads, and take turns of a few steps each, so
that both meet the same machine. Ratios are taken round by round, of the wall clock and of CPU time, which a busy
machine disturbs less. At the end each has made the same number of steps: the losses of the rounds and the validation
MRR say whether both learnt the same. Then ours runs with batches of several sizes: its time for each row of a bag.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import polars as pl
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from benchmarks import report
from twinspire import dataset
from twinspire.config import Config, load_config
from twinspire.features.encode import Encoded, encode
from twinspire.simulation import simulate
from twinspire.training.batches import Columns, candidates, shuffled_with_negatives, split
from twinspire.training.build import new_model
from twinspire.training.learner import Learner
from twinspire.training.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinspire.model import Features, TwoTower

BATCH_SIZES = (64, 128, 256, 512)
STEPS_A_TURN = 5
UNTIMED = 10  # steps before the first round: what is compiled is compiled


class PlainTwoTower(nn.Module):
    """A TwoTower whose encoders look up one by one."""

    def __init__(self, module: TwoTower) -> None:
        super().__init__()
        self.module = module

    def forward(self, queries: Features, items: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of B queries and M items to (B, H, D) and (M, D)."""
        return self.module.queries(queries), self.module.items(items)


def learner(encoded: Encoded, config: Config, steps: int, *, plain: bool = False) -> Learner:
    model = new_model(encoded.dictionaries, config.model, seed=0, sparse=True)
    made = Learner(PlainTwoTower(model) if plain else model, encoded.store, encoded.clicks("training"), config, steps)
    if plain:
        rate = made.schedule.lr_lambdas[0]
        made.optimiser = torch.optim.Adagrad(model.parameters(), lr=config.training.learning_rate)
        made.schedule = torch.optim.lr_scheduler.LambdaLR(made.optimiser, rate)
    return made


def endless(encoded: Encoded, config: Config, size: int) -> Iterator[Columns]:
    """Batches of pass after pass over the training rows."""
    frame = pl.read_parquet(encoded.folder / "rows" / "training" / "*.parquet")
    rows = {name: frame[name].to_numpy() for name in frame.columns}
    rng = np.random.default_rng(0)
    while True:
        yield from split(shuffled_with_negatives(rows, config.negatives, size, encoded.store.n_items, rng), size)


def timed(subject: Learner, batches: list[Columns], seed: int) -> tuple[float, float, float]:
    """Seconds of these steps, CPU seconds, and the sum of their losses."""
    torch.manual_seed(seed)  # of dropout
    total = torch.zeros(())
    started, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        total += subject.step(batch)
    return time.perf_counter() - started, time.process_time() - cpu, float(total)


def compare(encoded: Encoded, config: Config, steps: int, rounds: int) -> dict[str, Any]:
    """Both ways in turns; speed and quality."""
    source = endless(encoded, config, config.training.batch_size)
    total = UNTIMED + steps * rounds
    learners = {"plain": learner(encoded, config, total, plain=True), "ours": learner(encoded, config, total)}
    untimed = list(itertools.islice(source, UNTIMED))
    for subject in learners.values():
        timed(subject, untimed, 0)
    found: dict[str, list[Any]] = {way: [] for way in learners}
    for number in track(range(rounds), "rounds"):
        spent = {way: np.zeros(3) for way in learners}
        for turn in range(steps // STEPS_A_TURN):
            batches = list(itertools.islice(source, STEPS_A_TURN))
            for way in ("plain", "ours") if turn % 2 == 0 else ("ours", "plain"):
                spent[way] += timed(learners[way], batches, 1 + number * steps + turn)
        for way, sums in spent.items():
            found[way].append(sums)
    columns = {way: np.array(values).T for way, values in found.items()}
    models: dict[str, Any] = {"plain": learners["plain"].model.module, "ours": learners["ours"].model}
    mrr = {way: validate(model, encoded.store, encoded.validation, 0).mrr for way, model in models.items()}
    examples = steps * config.training.batch_size
    return {
        "examples_a_second": {way: report.spread(examples / wall, 0) for way, (wall, _, _) in columns.items()},
        "ours_over_plain": {
            "wall": report.spread(columns["plain"][0] / columns["ours"][0]),
            "cpu": report.spread(columns["plain"][1] / columns["ours"][1]),
        },
        "loss": {way: (losses / steps).round(4).tolist() for way, (_, _, losses) in columns.items()},
        "validation_mrr": mrr,
    }


def by_batch_size(encoded: Encoded, config: Config, steps: int, repetitions: int) -> dict[str, Any]:
    """Ours at each batch size: rows of bags a step, and microseconds a row."""
    runs = {}
    for size in BATCH_SIZES:
        training = config.training.model_copy(update={"batch_size": size})
        sized = config.model_copy(update={"training": training})
        batches = list(itertools.islice(endless(encoded, sized, size), steps))
        rows = sum(bag_rows(encoded, sized, batch) for batch in batches) / steps
        runs[size] = (learner(encoded, sized, 10**9), batches, rows)
    for subject, batches, _ in runs.values():
        timed(subject, batches, 0)
    spent: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    for turn in range(repetitions):
        for size, (subject, batches, _) in runs.items():
            spent[size].append(timed(subject, batches, turn)[1])
    return {
        str(size): {
            "rows_a_step": round(runs[size][2]),
            "cpu_us_a_row": report.spread(1e6 * np.array(spent[size]) / steps / runs[size][2]),
        }
        for size in BATCH_SIZES
    }


def bag_rows(encoded: Encoded, config: Config, batch: Columns) -> int:
    """How many table rows all bags of a batch name."""
    queries = encoded.store.query_features(batch["query"], batch["user"], batch["stop"])
    items = encoded.store.item_features(candidates(batch, config.negatives, config.supervision).items)
    return sum(len(bags.values) for features in (queries, items) for bags in features.values())


def show(figures: dict[str, Any]) -> None:
    table = Table(title="Training step", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "min", "median", "max"):
        table.add_column(column, justify="left" if not column else "right")
    for way, values in figures["examples_a_second"].items():
        table.add_row(f"examples/s, {way}", *(f"{value:,.0f}" for value in values.values()))
    for kind, values in figures["ours_over_plain"].items():
        table.add_row(f"ours / plain, {kind}", *(f"{value:.2f}" for value in values.values()))
    for size, of in figures["by_batch_size"].items():
        values = of["cpu_us_a_row"]
        table.add_row(f"us a row, batch {size}: {of['rows_a_step']:,} rows", *(f"{v:.3f}" for v in values.values()))
    console = Console()
    console.print(table)
    for way, losses in figures["loss"].items():
        told = f"loss of the first round {losses[0]:.4f}, of the last {losses[-1]:.4f}"
        console.print(f"{way}: {told}; validation MRR {figures['validation_mrr'][way]:.4f}")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Dataset folder instead of a simulated market.")
@click.option("--items", default=20_000, show_default=True, help="Items of the simulated market.")
@click.option("--interactions", default=1_000_000, show_default=True, help="Interactions of the simulated market.")
@click.option("--steps", default=40, show_default=True, help=f"Steps of a round, a multiple of {STEPS_A_TURN}.")
@click.option("--rounds", default=24, show_default=True, help="Rounds of each way.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of the config.")
def main(data: Path | None, items: int, interactions: int, steps: int, rounds: int, settings: tuple[str, ...]) -> None:
    """Measure the training step against the plain loop, side by side."""
    config = load_config(None, settings)
    torch.set_num_threads(config.training.threads)
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if data is None:
            data = scratch / "market"
            simulate(data, items=items, users=items // 4, interactions=interactions, seed=0)
        source = dataset.read(data, quarantine=scratch / "quarantine", require_interactions=True)
        encoded, _ = encode(source, config.features, config.log, config.text, scratch / "encoded", 0)
        measured = compare(encoded, config, steps, rounds)
        measured["by_batch_size"] = by_batch_size(encoded, config, steps=10, repetitions=5)
    figures = {
        "positives": encoded.meta.positives,
        "items": len(source.items),
        "batch_size": config.training.batch_size,
        "threads": config.training.threads,
        "steps_a_round": steps,
        "rounds": rounds,
        **measured,
    }
    show(figures)
    Console().print(f"written to {report.write('training_step', figures)}")


if __name__ == "__main__":
    main()
