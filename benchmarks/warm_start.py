"""What a warm start saves and loses: `python -m benchmarks.warm_start`, after `python -m benchmarks.month`.

On days of the month each of which had warm starts alone for a while before it, the model is fitted once more: from
nothing, and from the champion of the day before in several ways. All are measured on the next day's clicks, which none
has seen. Told are the seconds of each fit, and its quality less that of the full fit, paired.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.month.__main__ import NAME, done
from benchmarks.month.days import Shop
from benchmarks.month.quality import measured

HELD_OUT = "log.holdout_days=1"


def settings_of(way: str) -> tuple[str, ...]:
    """`full`, or ROUNDS x LEARNING RATE of a warm start."""
    if way == "full":
        return ("training.start=full",)
    rounds, rate = way.split(" x ")
    return ("training.start=warm", f"training.warm_rounds={rounds}", f"training.warm_learning_rate={rate}")


def fitted(shop: Shop, day: int, way: str, start: Path, out: Path, common: tuple[str, ...]) -> float:
    """Fit a day in one way; gives the seconds. What is there already is not made again."""
    from pipelines.fit import fit
    from twinspire.config import load_config

    note = out.with_name(f"{out.name}.seconds")
    if not note.exists():
        shop.open(day)
        started = time.perf_counter()
        fit(shop.data, out, load_config(None, (HELD_OUT, *common, *settings_of(way))), start=start)
        note.write_text(json.dumps(time.perf_counter() - started))
    return round(float(json.loads(note.read_text())), 1)


def compare(shop: Shop, day: int, version: int, ways: tuple[str, ...], work: Path, common: tuple[str, ...]) -> Any:
    """All ways to fit a day from a registered version, on the next day's clicks."""
    from twinspire import registry
    from twinspire.bundle import Bundle, Manifest

    start = registry.fetch(f"models:/{NAME}/{version}")
    folders = {way: work / f"{way.replace(' ', '')}-day-{day}" for way in ("full", *ways)}
    seconds = {way: fitted(shop, day, way, start, folder, common) for way, folder in folders.items()}
    bundles = {way: Bundle.load(folder) for way, folder in folders.items()}
    found = measured(shop, day + 1, bundles, old_items_of="full")["all"]
    before = Manifest.read(start).training["warm_starts"]
    return {"day": day, "from version": version, "warm starts before": before, "seconds": seconds, **found}


def show(days: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("day", "way", "warm starts in a row", "seconds", "mrr", "less the full fit's", "95 %"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for one in days:
        for way, seconds in one["seconds"].items():
            cells = [str(one["day"]), way, "" if way == "full" else str(one["warm starts before"] + 1)]
            cells += [f"{seconds:.0f}", f"{one[way]['mrr'][0]:.3f}"]
            if way != "full":
                value, low, high = one["difference"][way]["mrr"]  # the full fit's less this one's
                cells += [f"{-value:+.4f}", f"{-high:+.4f} to {-low:+.4f}"]
            table.add_row(*cells)
    Console(width=110).print(table)


@click.command()
@click.option("--month", default="build/benchmarks/month", show_default=True, type=click.Path(path_type=Path))
@click.option("--work", default="build/benchmarks/warm_start", show_default=True, type=click.Path(path_type=Path))
@click.option("--day", "days", multiple=True, type=int, help="Of the month's; by default those before a full fit.")
@click.option("--way", "ways", multiple=True, default=("1 x 0.01", "2 x 0.01", "2 x 0.02"), show_default=True,
              help="ROUNDS x LEARNING RATE of a warm start; may be repeated.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="What the month was given.")
def main(month: Path, work: Path, days: tuple[int, ...], ways: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Fit and compare."""
    month, work = month.absolute(), work.absolute()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{month / 'mlflow.db'}"
    os.environ["TWINSPIRE_CACHE"] = str(month / "cache")
    from twinspire import cluster

    champions = {one["day"]: one["champion"] for one in done(month)}
    full = [one["day"] for one in done(month) if one.get("warm starts") == 0 and one["day"] - 1 in champions]
    shop, chosen = Shop(month / "market", work / "data"), days or tuple(day - 1 for day in full)
    with cluster.session():
        found = [compare(shop, day, champions[day - 1], ways, work, settings) for day in chosen]
    shutil.rmtree(work / "data", ignore_errors=True)
    show(found)
    Console().print(f"written to {report.write('warm_start', {'settings': settings, 'days': found})}")


if __name__ == "__main__":
    main()
