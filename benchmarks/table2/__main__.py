"""Table 2 of the paper (6.2): Top-1 and Top-10 among 1,024 random items, AUC on judged pairs, time to the 1,000 best
items of one query: `python -m benchmarks.table2`.

Rows are the paper's (BM25, with bigrams, DSSM, DPSR, DPSR-p, DPSR-h), then popularity, query memory and, where
given, a sentence encoder. Without --data a market is simulated. The models are the named configs, each fitted on the
log less its last days; all systems are measured on the clicks of those days and on the judgements. Figures have 95 %
intervals over queries, differences are paired, and whether the order is the paper's is read from both. A row that the
data cannot feed is left out, with the reason.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from benchmarks import report as results
from benchmarks.table2 import clock
from benchmarks.table2.rows import PAPER, ROWS, TRAINED, impossible
from benchmarks.table2.show import show
from benchmarks.table2.verdict import COMPARED, METRICS, section, verdict
from benchmarks.workspace import workspace
from pipelines.fit import fit
from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.config import load_config
from twinspire.errors import TwinspireError
from twinspire.evaluation import EvaluationConfig, Report, baselines, evaluate
from twinspire.evaluation.encoder import EncoderSystem
from twinspire.evaluation.ground import Ground
from twinspire.evaluation.model_system import ModelSystem
from twinspire.simulation import simulate
from twinspire.teacher.encoder import load_encoder

if TYPE_CHECKING:
    from twinspire.dataset import Dataset
    from twinspire.evaluation import System

K = 1000


@dataclass(frozen=True)
class Table2:
    """What was measured: the evaluation, times, and the rows that are not there."""

    report: Report
    milliseconds: dict[str, dict[str, float]]
    fit_seconds: dict[str, float]
    left_out: dict[str, str]


def fit_models(
    source: Dataset, workdir: Path, settings: tuple[str, ...], left_out: dict[str, str], say: Console
) -> tuple[dict[str, Bundle], dict[str, float]]:
    """Bundles of the named configs and how long each fit took; one that is in `workdir` already is taken as it is.

    A config that the data cannot feed after all is added to `left_out`.
    """
    bundles, seconds = {}, {}
    for name in TRAINED:
        if name in left_out:
            continue
        folder = workdir / "bundles" / name
        if not (folder / "manifest.json").is_file():
            say.print(f"[bold]fit {name}[/bold]: --config {name} --set {' --set '.join(settings)}")
            started = time.monotonic()
            try:
                fit(source.path, folder, load_config(name, settings), quarantine=workdir / "quarantine")
            except TwinspireError as refused:
                left_out[name] = str(refused)
                continue
            seconds[name] = round(time.monotonic() - started, 1)
        bundles[name] = Bundle.load(folder)
    return bundles, seconds


def systems_of(
    source: Dataset, ground: Ground, bundles: dict[str, Bundle], encoder: Any, left_out: dict[str, str]
) -> dict[str, System]:
    """All systems by name, in the order of the rows."""
    titles = ground.items["title"]
    every: list[System] = [
        *(ModelSystem(bundle, ground.positives, source.users, name) for name, bundle in bundles.items()),
        *baselines(titles, ground.training),
    ]
    if encoder is not None:
        every.append(EncoderSystem(encoder, titles, show_progress=True))
    named = {system.name: system for system in every}
    return {name: named[name] for name in ROWS if name in named and name not in left_out}


def measure(
    source: Dataset,
    workdir: Path,
    settings: tuple[str, ...],
    encoder: Any,
    config: EvaluationConfig,
    queries: int,
    say: Console,
) -> Table2:
    left_out = impossible(source)
    bundles, seconds = fit_models(source, workdir, settings, left_out, say)
    ground = Ground.of(source, list(bundles.values()))
    systems = systems_of(source, ground, bundles, encoder, left_out)
    say.print(f"[bold]evaluate[/bold] {', '.join(systems)}")
    found = evaluate(
        list(systems.values()),
        ground.cases,
        titles=ground.items["title"],
        training=ground.training,
        judgements=ground.judgements,
        config=config,
        compare=[pair for pair in COMPARED if set(pair) <= set(systems)],
        show_progress=True,
    )
    asked = clock.asked(ground.cases, ground.judgements, queries, config.seed)
    milliseconds = clock.times(systems, asked, K)
    return Table2(found, milliseconds, seconds, left_out)


def figures_of(table: Table2) -> dict[str, Any]:
    """The table as data: rows, paired differences, rows left out, the verdict, and the paper's own figures."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in table.milliseconds}
    differences: dict[str, dict[str, Any]] = {}
    for metric, name in METRICS.items():
        place = section(table.report, metric)
        if place is None:
            continue
        for row, of_row in place.systems.items():
            rows[row][metric] = _rounded(of_row[name].model_dump())
        for pair, of_pair in place.differences.items():
            differences.setdefault(pair, {})[metric] = _rounded(of_pair[name].model_dump())
    for row, taken in table.milliseconds.items():
        rows[row]["milliseconds"] = taken
    for row, taken_s in table.fit_seconds.items():
        rows[row]["fit_seconds"] = taken_s
    clicks = section(table.report, "top1")
    return {
        "items": table.report.items,
        "clicks": 0 if clicks is None else clicks.cases,
        "queries": 0 if clicks is None else clicks.queries,
        "judged pairs": 0 if table.report.judgements is None else table.report.judgements.cases,
        "rows": rows,
        "left out": table.left_out,
        "verdict": verdict(table.report),
        "differences": differences,
        "paper": {name: row._asdict() for name, row in PAPER.items()},
    }


def _rounded(estimate: dict[str, float | None]) -> dict[str, float | None]:
    return {part: None if value is None else round(value, 5) for part, value in estimate.items()}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Dataset folder instead of a simulated market.")
@click.option("--items", default=20_000, show_default=True, help="Items of the simulated market.")
@click.option("--users", default=10_000, show_default=True, help="Its shoppers.")
@click.option("--interactions", default=800_000, show_default=True, help="Its interactions.")
@click.option("--holdout-days", default=7.0, show_default=True, help="The log's last days are the test.")
@click.option("--encoder", type=click.Path(path_type=Path), help="Folder of a sentence encoder for a row of its own.")
@click.option(
    "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of every model."
)
@click.option("--max-cases", default=20_000, show_default=True, help="More clicks are sampled.")
@click.option("--queries", default=300, show_default=True, help="Queries that are timed.")
@click.option("--seed", default=0, show_default=True, help="Of the market, the sampling and the resamples.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Keeps market and bundles, and takes those there.")
def main(
    data: Path | None,
    items: int,
    users: int,
    interactions: int,
    holdout_days: float,
    encoder: Path | None,
    settings: tuple[str, ...],
    max_cases: int,
    queries: int,
    seed: int,
    workdir: Path | None,
) -> None:
    """Table 2 of the paper on a simulated market or on your data."""
    say = Console(stderr=True, highlight=False)
    started = time.monotonic()
    with workspace(workdir, "table2") as folder:
        told: dict[str, Any] = {"data": data.absolute().name if data else "simulated market"}
        loaded = None if encoder is None else load_encoder(encoder, "cpu")
        if data is None:
            data = folder / "market"
            size = {"items": items, "users": users, "interactions": interactions, "seed": seed}
            told |= size
            if not (data / "truth" / "truth.json").is_file():
                say.print(f"[bold]simulate[/bold] {', '.join(f'{n:,} {name}' for name, n in size.items())}")
                simulate(data, items=items, users=users, interactions=interactions, seed=seed)
        source = dataset.read(data, quarantine=folder / "quarantine")
        settings = (f"log.holdout_days={holdout_days:g}", *settings)
        config = EvaluationConfig(max_cases=max_cases, seed=seed)
        table = measure(source, folder, settings, loaded, config, queries, say)
    figures = told | {"settings": settings} | figures_of(table)
    figures["minutes"] = round((time.monotonic() - started) / 60, 1)
    show(figures, Console(highlight=False))
    name = "table2" if told["data"] == "simulated market" else f"table2_{told['data']}"
    say.print(f"written to {results.write(name, figures)}")


if __name__ == "__main__":
    main()
