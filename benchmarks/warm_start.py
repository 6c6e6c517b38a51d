"""What a warm start costs and loses: `python -m benchmarks.warm_start`.

A market whose fashion turns and whose items are launched as the log runs. From a full fit on its first weeks two chains
go on, every few days: one begins anew each time, one with the weights of the fit before. Each fit holds its newest day
out, and both are measured on it. Told are seconds of each fit, and the paired differences, warm less full.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.month.days import Shop
from pipelines.evaluate import evaluate_bundle
from pipelines.fit import fit
from twinspire import simulation
from twinspire.config import load_config
from twinspire.evaluation import EvaluationConfig

METRICS = ("mrr", "hit@1", "recall@10", "top1_of_1024", "top10_of_1024")
HELD_OUT = "log.holdout_days=1"


@dataclass(frozen=True)
class Way:
    """A way to go on from the fit before; `settings` change what all have."""

    name: str
    settings: tuple[str, ...]


def fitted(shop: Shop, day: int, way: Way, before: Path | None, folder: Path, common: tuple[str, ...]) -> Path:
    """The bundle of a day, made where it is not there yet; its seconds stand beside it."""
    out = folder / f"{way.name.replace(' ', '-')}-{day}"
    note = _note(out)
    if not note.exists():
        shop.open(day)
        started = time.perf_counter()
        fit(shop.data, out, load_config(None, (HELD_OUT, *common, *way.settings)), start=before)
        note.write_text(json.dumps(time.perf_counter() - started))
    return out


def compared(shop: Shop, day: int, warm: Path, full: Path) -> dict[str, Any]:
    """Differences of two bundles of a day on its clicks, with their intervals."""
    shop.open(day)
    found = evaluate_bundle(warm, shop.data, EvaluationConfig(), against=[full])
    difference = next(value for key, value in found.slices["all"].differences.items() if full.name in key)
    levels = found.slices["all"].systems[full.name]
    return {
        "cases": found.cases_evaluated,
        "full": {name: round(float(levels[name].value or 0), 4) for name in METRICS if name in levels},
        "difference": {name: _interval(difference[name]) for name in METRICS if name in difference},
    }


def _interval(estimate: Any) -> list[float]:
    return [round(float(value), 4) for value in (estimate.value, estimate.low, estimate.high)]


def show(days: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("day", "way", "seconds", "full: seconds", "mrr of full", "warm less full", "95 %"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for one in days:
        value, low, high = one["difference"]["mrr"]
        cells = (f"{one['seconds']:.0f}", f"{one['full seconds']:.0f}", f"{one['full']['mrr']:.3f}")
        table.add_row(str(one["day"]), one["way"], *cells, f"{value:+.4f}", f"{low:+.4f} to {high:+.4f}")
    Console(width=110).print(table)


@click.command()
@click.option("--items", default=2_500, show_default=True)
@click.option("--users", default=1_500, show_default=True)
@click.option("--interactions", default=240_000, show_default=True)
@click.option("--day", "days", multiple=True, type=int, default=(30, 32, 34, 36, 38), show_default=True)
@click.option("--every", default=2, show_default=True, help="Full fits for each so many days of the chain.")
@click.option("--way", "ways", multiple=True, default=("1 x 0.01", "2 x 0.01", "2 x 0.02"), show_default=True,
              help="ROUNDS x LEARNING RATE of a warm start; may be repeated.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of all fits.")
@click.option("--work", default="build/benchmarks/warm_start", show_default=True, type=click.Path(path_type=Path))
def main(items: int, users: int, interactions: int, days: tuple[int, ...], every: int, ways: tuple[str, ...],
         settings: tuple[str, ...], work: Path) -> None:  # fmt: skip
    """Fit both chains and compare; what is there already is not made again."""
    market = work / "market"
    if not (market / "truth" / "truth.json").exists():
        simulation.simulate(
            market, items=items, users=users, interactions=interactions, seed=6, new_share=0.4, drift=0.8
        )
    shop, full = Shop(market, work / "data"), Way("full", ("training.start=full",))
    first, *later = days
    start = fitted(shop, first, full, None, work, settings)
    before = dict.fromkeys(ways, start)
    found = []
    for place, day in enumerate(later, 1):
        for name in ways:
            rounds, rate = name.split(" x ")
            own = (f"training.warm_rounds={rounds}", f"training.warm_learning_rate={rate}", "training.start=warm")
            before[name] = fitted(shop, day, Way(f"warm {name}", own), before[name], work, settings)
        if place % every:
            continue
        anew = fitted(shop, day, full, None, work, settings)
        for name in ways:
            seconds = {key: _seconds(path) for key, path in (("seconds", before[name]), ("full seconds", anew))}
            found.append({"day": day, "way": name, **seconds, **compared(shop, day, before[name], anew)})
    show(found)
    figures = {"arguments": {"items": items, "interactions": interactions, "settings": settings}, "days": found}
    Console().print(f"written to {report.write('warm_start', figures)}")


def _seconds(bundle: Path) -> float:
    return round(float(json.loads(_note(bundle).read_text())), 1)


def _note(bundle: Path) -> Path:
    return bundle.with_name(f"{bundle.name}.seconds")


if __name__ == "__main__":
    main()
