"""Training examples a second through Ray Data and Ray Train against the same step on batches in memory:
`python benchmarks/feed.py`.

One Ray Train worker runs one learner and takes its batches in turn from three sources, a segment of steps from each:

- feed: the product's stream, Ray Data in the worker's process, features looked up in the worker;
- memory: the same batches of ids, made beforehand and held in the worker, features looked up in the same way;
- gathered: batches in memory whose features were looked up beforehand too; only the step is left.

Segments alternate, so that all three meet the same machine, and each opens with steps that are not timed, so that what
one source did ahead in another's time is used up before its own begins. Making the batches goes on in Ray Data's
processes at any time; what that costs is measured on its own and printed. The start of `fit()` is told apart.
Ratios are taken repetition by repetition, of the wall clock and of the CPU time of the worker (all its threads), which
a busy machine disturbs less.
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

from benchmarks import report
from twinspire import cluster, dataset
from twinspire.config import Config, load_config
from twinspire.features.encode import Encoded, encode
from twinspire.simulation import simulate
from twinspire.training.batches import Columns, candidates, split
from twinspire.training.build import new_model
from twinspire.training.feed import BATCHES_AT_ONCE, ReadPart, batches, stream
from twinspire.training.learner import Learner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twinspire.features.store import Bags, FeatureStore
    from twinspire.ragged import Ints

UNTIMED = 3 * BATCHES_AT_ONCE  # steps at the start of a segment: what was taken ahead of it
Times = tuple[float, float]
SOURCES = ("feed", "memory", "gathered")


class Gathered:
    """Stands where the store does and gives features that were looked up beforehand."""

    def __init__(self, store: FeatureStore, made: list[Columns], config: Config) -> None:
        self.n_items = store.n_items
        self._queries = iter([store.query_features(b["query"], b["user"], b["stop"]) for b in made])
        self._items = iter([store.item_features(candidates(b, config.negatives, config.supervision)[0]) for b in made])

    def query_features(self, query: Ints, user: Ints, stop: Ints) -> Bags:
        """The next batch's."""
        return next(self._queries)

    def item_features(self, rows: Ints) -> Bags:
        """The next batch's."""
        return next(self._items)


class Bench:
    """What runs in the Ray Train worker."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.config = Config.model_validate_json(settings["config"])
        self.encoded = Encoded.open(Path(settings["folder"]))
        self.store, self.steps = self.encoded.store, settings["steps"]
        model = new_model(self.encoded.dictionaries, self.config.model, seed=0, sparse=True)
        total = settings["repetitions"] * 3 * (self.steps + UNTIMED)
        self.learner = Learner(model, self.store, self.encoded.clicks("all"), self.config, 2 * total)
        self.memory = itertools.cycle(self._made())

    def _made(self) -> list[Columns]:
        """A pass over the log as batches, by what Ray Data runs."""
        read = reader(self.encoded, self.config)
        parts = sorted((self.encoded.folder / "rows" / "all").glob("*.parquet"))
        tasks = [{"path": np.array([str(path)]), "round": [0], "part": [n]} for n, path in enumerate(parts)]
        size = self.config.training.batch_size
        started = time.process_time()
        columns = [read(task) for task in tasks]
        self.making_s = (time.process_time() - started) / sum(len(part["item"]) for part in columns)
        return [batch for part in columns for batch in split(part, size)]

    def segment(self, source: Iterator[Columns]) -> Times:
        """Seconds of the timed steps, and CPU seconds."""
        for batch in itertools.islice(source, UNTIMED):
            self.learner.step(batch)
        started, cpu = time.perf_counter(), time.process_time()
        for batch in itertools.islice(source, self.steps):
            self.learner.step(batch)
        return time.perf_counter() - started, time.process_time() - cpu

    def gathered(self) -> Times:
        """A segment whose features are looked up before it."""
        made = list(itertools.islice(self.memory, UNTIMED + self.steps))
        self.learner.store = Gathered(self.store, made, self.config)  # type: ignore[assignment]
        try:
            return self.segment(iter(made))
        finally:
            self.learner.store = self.store


def worker(settings: dict[str, Any]) -> None:
    """Alternate the sources, write the times to the file that the driver reads."""
    reached = time.time()
    torch.set_num_threads(settings["threads"])
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    bench = Bench(settings)
    opened = time.time()
    rows = stream(bench.encoded.folder / "rows" / "all", reader(bench.encoded, bench.config), settings["rounds"])
    feed = batches(rows, bench.config.training.batch_size)
    bench.learner.step(next(feed))
    first = time.time()
    runs: dict[str, Callable[[], Times]] = {
        "feed": lambda: bench.segment(feed),
        "memory": lambda: bench.segment(bench.memory),
        "gathered": bench.gathered,
    }
    for run in runs.values():  # warm up
        run()
    times: dict[str, list[Times]] = {name: [] for name in runs}
    for repetition in range(settings["repetitions"]):
        order = SOURCES if repetition % 2 == 0 else SOURCES[::-1]
        for name in order:
            times[name].append(runs[name]())
    figures = {
        "times": times,
        "start_s": {"worker reached": reached - settings["started"], "first batch and step": first - opened},
        "making_us": bench.making_s * 1e6,
        "threads": torch.get_num_threads(),
    }
    Path(settings["result"]).write_text(json.dumps(figures))


def reader(encoded: Encoded, config: Config) -> ReadPart:
    training = config.training
    return ReadPart(
        config.negatives, training.batch_size, encoded.store.n_items, training.seed, supervision=config.supervision
    )


def run(encoded: Encoded, config: Config, scratch: Path, steps: int, repetitions: int) -> dict[str, Any]:
    """One Ray Train run that measures; gives what the worker wrote, and the length of `fit()`."""
    wanted = (repetitions + 2) * (steps + UNTIMED) * config.training.batch_size
    rounds = -(-wanted // encoded.meta.positives) + 1
    settings = {
        "config": config.model_dump_json(),
        "folder": str(encoded.folder),
        "result": str(scratch / "times.json"),
        "steps": steps,
        "repetitions": repetitions,
        "threads": config.training.threads,
        "rounds": rounds,
        "started": time.time(),
    }
    trainer = ray.train.torch.TorchTrainer(
        worker,
        train_loop_config=settings,
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        run_config=ray.train.RunConfig(name="feed", storage_path=str(scratch / "train")),
    )
    started = time.time()
    trainer.fit()
    figures: dict[str, Any] = json.loads((scratch / "times.json").read_text())
    figures["fit_s"] = time.time() - started
    return figures


def summary(figures: dict[str, Any], examples: int) -> dict[str, Any]:
    """Rates of segments of so many examples and, repetition by repetition, ratios to the memory step."""
    wall = {name: np.array(times)[:, 0] for name, times in figures["times"].items()}
    cpu = {name: np.array(times)[:, 1] for name, times in figures["times"].items()}
    making = figures["making_us"] * examples / 1e6 / float(np.median(cpu["memory"]))
    return {
        "examples_a_second": {name: report.spread(examples / seconds, 0) for name, seconds in wall.items()},
        "ratio": {
            "feed / memory": report.spread(wall["memory"] / wall["feed"], 3),
            "feed / memory, CPU time": report.spread(cpu["memory"] / cpu["feed"], 3),
            "feed / gathered": report.spread(wall["gathered"] / wall["feed"], 3),
            "feed / gathered, CPU time": report.spread(cpu["gathered"] / cpu["feed"], 3),
        },
        "making_batches_elsewhere": {
            "cpu_us_an_example": round(figures["making_us"], 3),
            "share_of_the_memory_step": round(making, 4),
        },
        "start_s": {name: round(value, 1) for name, value in figures["start_s"].items()},
    }


def show(figures: dict[str, Any]) -> None:
    table = Table(title="Feed", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "min", "median", "max"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in figures["examples_a_second"].items():
        table.add_row(f"examples/s, {name}", *(f"{value:,.0f}" for value in values.values()))
    for name, values in figures["ratio"].items():
        table.add_row(name, *(f"{value:.3f}" for value in values.values()))
    console = Console()
    console.print(table)
    making = figures["making_batches_elsewhere"]
    console.print(
        f"making batches: {making['cpu_us_an_example']:.2f} us of CPU an example, in Ray Data's processes; "
        f"{making['share_of_the_memory_step']:.1%} of the memory step"
    )
    console.print("start: " + ", ".join(f"{name} after {value} s" for name, value in figures["start_s"].items()))


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Dataset folder instead of a simulated market.")
@click.option("--items", default=20_000, show_default=True, help="Items of the simulated market.")
@click.option("--interactions", default=1_000_000, show_default=True, help="Interactions of the simulated market.")
@click.option("--steps", default=80, show_default=True, help="Timed steps of a segment.")
@click.option("--repetitions", default=25, show_default=True, help="Timed segments of each source.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of the config.")
def main(
    data: Path | None, items: int, interactions: int, steps: int, repetitions: int, settings: tuple[str, ...]
) -> None:
    """Measure the feed against in-memory batches, side by side."""
    config = load_config(None, settings)
    with tempfile.TemporaryDirectory() as folder, cluster.session():
        scratch = Path(folder)
        if data is None:
            data = scratch / "market"
            simulate(data, items=items, users=items // 4, interactions=interactions, seed=0)
        source = dataset.read(data, quarantine=scratch / "quarantine", require_interactions=True)
        encoded, _ = encode(source, config.features, config.log, config.text, scratch / "encoded", 0)
        measured = run(encoded, config, scratch, steps, repetitions)
    figures = {
        "positives": encoded.meta.positives,
        "items": len(source.items),
        "batch_size": config.training.batch_size,
        "threads": measured["threads"],
        "steps_a_segment": steps,
        "repetitions": repetitions,
        **summary(measured, steps * config.training.batch_size),
    }
    show(figures)
    Console().print(f"written to {report.write('feed', figures)}")


if __name__ == "__main__":
    main()
