"""Training examples a second with one worker and with two, through Ray Data and Ray Train: `python -m
benchmarks.training`.

Two Ray Train workers take turns, a segment of steps each, so that all ways meet the same machine:

- one: the first worker trains by itself, the second waits;
- two: both train the product's way, the rows that they touched exchanged;
- two, DDP: both train with PyTorch's DistributedDataParallel instead.

Each worker's batches come from the product's stream of its share. A segment opens with steps that are not timed. Ratios
are taken repetition by repetition: of the wall clock, and of the CPU time of the workers (all their threads), which a
busy machine disturbs less: with a core for each worker, examples a second can grow by as much as examples a second of
CPU time of one worker, times the workers.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import ray.train
import ray.train.torch
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from benchmarks import report
from twinspire import cluster, dataset
from twinspire.config import Config, load_config
from twinspire.features.encode import Encoded, encode
from twinspire.simulation import simulate
from twinspire.training.build import new_model
from twinspire.training.exchange import GradientExchange
from twinspire.training.feed import BATCHES_AT_ONCE, ReadPart, Share, batches, stream
from twinspire.training.learner import Learner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twinspire.training.batches import Columns

WORKERS = 2
UNTIMED = BATCHES_AT_ONCE
WAYS = {"one": 1, "two": WORKERS, "two, DDP": WORKERS}  # and how many train


class Bench:
    """What runs in each Ray Train worker."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.config = Config.model_validate_json(settings["config"])
        self.encoded = Encoded.open(Path(settings["folder"]))
        self.steps, self.repetitions = settings["steps"], settings["repetitions"]
        self.rank = ray.train.get_context().get_world_rank()
        self.learners = {way: self._learner(way) for way in WAYS}
        self.sources = {workers: self._source(workers) for workers in (1, WORKERS)}

    def _learner(self, way: str) -> Learner:
        model = new_model(self.encoded.dictionaries, self.config.model, seed=0, sparse=True)
        wrapped = DistributedDataParallel(model) if way == "two, DDP" else model
        learner = Learner(wrapped, self.encoded.store, self.encoded.clicks("all"), self.config, 10**9)
        if way == "two":
            exchange = GradientExchange(model.parameters())
            learner.optimiser.register_step_pre_hook(lambda *_: exchange())
        return learner

    def _source(self, workers: int) -> Iterator[Columns]:
        training, encoded = self.config.training, self.encoded
        share = Share(self.rank, workers) if workers > 1 else Share()
        read = ReadPart(
            self.config.negatives,
            training.batch_size,
            encoded.store.n_items,
            training.seed,
            share,
            self.config.supervision,
        )
        needed = len(WAYS) * (self.repetitions + 1) * (self.steps + UNTIMED) * training.batch_size * workers
        rounds = -(-needed // encoded.meta.rows["all"]) + 1
        return batches(stream(encoded.folder / "rows" / "all", read, rounds), training.batch_size)

    def segment(self, way: str) -> tuple[float, float]:
        """Seconds of the timed steps, and CPU seconds of this worker."""
        workers = WAYS[way]
        learner, source = self.learners[way], self.sources[workers]
        self._train(learner, source, UNTIMED, workers)
        distributed.barrier()
        started, cpu = time.perf_counter(), time.process_time()
        self._train(learner, source, self.steps, workers)
        spent = time.process_time() - cpu
        distributed.barrier()
        return time.perf_counter() - started, spent

    def _train(self, learner: Learner, source: Iterator[Columns], steps: int, workers: int) -> None:
        if self.rank < workers:
            for batch in itertools.islice(source, steps):
                learner.step(batch)


def worker(settings: dict[str, Any]) -> None:
    """Alternate the ways, write the times to the file that the driver reads."""
    torch.set_num_threads(settings["threads"])
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    bench = Bench(settings)
    for way in WAYS:  # warm up
        bench.segment(way)
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for repetition in range(settings["repetitions"]):
        for way in list(WAYS) if repetition % 2 == 0 else list(WAYS)[::-1]:
            times[way].append(bench.segment(way))
    if bench.rank == 0:
        Path(settings["result"]).write_text(json.dumps(times))


def run(encoded: Encoded, config: Config, scratch: Path, steps: int, repetitions: int) -> dict[str, Any]:
    """One Ray Train run that measures; gives the times of rank 0."""
    settings = {
        "config": config.model_dump_json(),
        "folder": str(encoded.folder),
        "result": str(scratch / "times.json"),
        "steps": steps,
        "repetitions": repetitions,
        "threads": config.training.threads,
    }
    ray.train.torch.TorchTrainer(
        worker,
        train_loop_config=settings,
        scaling_config=ray.train.ScalingConfig(num_workers=WORKERS),
        run_config=ray.train.RunConfig(name="training", storage_path=str(scratch / "train")),
    ).fit()
    times: dict[str, Any] = json.loads((scratch / "times.json").read_text())
    return times


def summary(times: dict[str, Any], examples: int) -> dict[str, Any]:
    """Rates of segments of so many examples a worker and, repetition by repetition, ratios to one worker."""
    rates = {
        kind: {way: workers * examples / np.array(times[way])[:, column] for way, workers in WAYS.items()}
        for column, kind in enumerate(("wall", "cpu"))
    }
    ratios = {kind: {way: of[way] / of["one"] for way in WAYS if way != "one"} for kind, of in rates.items()}
    return {
        "examples_a_second": {way: report.spread(values, 0) for way, values in rates["wall"].items()},
        "over_one_worker": {way: report.spread(values, 3) for way, values in ratios["wall"].items()},
        "over_one_worker_by_cpu_time": {way: report.spread(values, 3) for way, values in ratios["cpu"].items()},
    }


def show(figures: dict[str, Any]) -> None:
    table = Table(title="Training", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "min", "median", "max"):
        table.add_column(column, justify="left" if not column else "right")
    for way, values in figures["examples_a_second"].items():
        table.add_row(f"examples/s, {way}", *(f"{value:,.0f}" for value in values.values()))
    for kind, of in (("", "over_one_worker"), (", CPU time", "over_one_worker_by_cpu_time")):
        for way, values in figures[of].items():
            table.add_row(f"{way} / one{kind}", *(f"{value:.2f}" for value in values.values()))
    Console().print(table)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Dataset folder instead of a simulated market.")
@click.option("--items", default=20_000, show_default=True, help="Items of the simulated market.")
@click.option("--interactions", default=1_000_000, show_default=True, help="Interactions of the simulated market.")
@click.option("--steps", default=80, show_default=True, help="Timed steps of a segment.")
@click.option("--repetitions", default=15, show_default=True, help="Timed segments of each way.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of the config.")
def main(
    data: Path | None, items: int, interactions: int, steps: int, repetitions: int, settings: tuple[str, ...]
) -> None:
    """Measure one worker against two, side by side."""
    config = load_config(None, settings)
    with tempfile.TemporaryDirectory() as folder, cluster.session(workers=WORKERS):
        scratch = Path(folder)
        if data is None:
            data = scratch / "market"
            simulate(data, items=items, users=items // 4, interactions=interactions, seed=0)
        source = dataset.read(data, quarantine=scratch / "quarantine", require_interactions=True)
        encoded, _ = encode(source, config.features, config.log, config.text, scratch / "encoded", 0)
        times = run(encoded, config, scratch, steps, repetitions)
    figures = {
        "positives": encoded.meta.positives,
        "items": len(source.items),
        "batch_size": config.training.batch_size,
        "threads_a_worker": config.training.threads,
        "steps_a_segment": steps,
        "repetitions": repetitions,
        **summary(times, steps * config.training.batch_size),
    }
    show(figures)
    Console().print(f"written to {report.write('training', figures)}")


if __name__ == "__main__":
    main()
