"""A month of the daily loop: `python -m benchmarks.month`.

A simulated market with a known truth: 40 % of its items are launched while its log runs, and fashion turns by half a
circle in two months. From its 28th day on, `retrain` runs at the end of each of 30 days. On one day 40 % of the log's
rows are damaged; on another the config is broken (a learning rate of 50, and only the vectors rank). Each day's
champion is measured on the next day's clicks, beside the first one, which is never retrained: on all clicks, and on
those on items that it knows.

A day that is done is not done again; `--days N` does so many and stops, the same command goes on.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.month import picture
from benchmarks.month.days import FIRST, Shop
from benchmarks.month.quality import METRICS, measured

NAME = "shop"
FIRST_DAY, DAYS = 27, 30
BAD_LOG_DAY, BAD_CONFIG_DAY = FIRST_DAY + 9, FIRST_DAY + 19
CORRUPTED = 0.4
BROKEN = ("training.learning_rate=50", "training.warm_learning_rate=50", "retrieval.lexical=0", "retrieval.memory=0")
MARKET = {"items": 2_500, "users": 1_500, "interactions": 240_000, "seed": 6, "new_share": 0.4, "drift": 0.8}


def loop(shop: Shop, day: int, work: Path, settings: tuple[str, ...]) -> dict[str, Any]:
    """One run of the daily loop at the end of a day: how it ended, and what it took."""
    from pipelines.retrain import retrain
    from twinspire.bundle import Manifest
    from twinspire.config import load_config

    shop.open(day, corrupted=CORRUPTED if day == BAD_LOG_DAY else 0.0)
    broken = BROKEN if day == BAD_CONFIG_DAY else ()
    started = time.perf_counter()
    outcome = retrain(shop.data, NAME, work / "retrain", load_config(None, (*settings, *broken)))
    told: dict[str, Any] = {
        "day": day,
        "date": f"{FIRST + timedelta(days=day):%Y-%m-%d}",
        "outcome": outcome.kind if outcome.version else "log refused",
        "version": outcome.version.version if outcome.version else None,
        "reasons": outcome.reasons,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if outcome.version is not None:
        manifest = Manifest.read(next((work / "retrain").glob(f"{NAME}-*/manifest.json")).parent)
        told |= {"items": manifest.items, "warm starts": manifest.training["warm_starts"]}
        tags = outcome.version.tags
        told["gates"] = {key: value for key, value in tags.items() if key.startswith("gate gain")}
    return told


def measure(shop: Shop, day: int, first: int) -> dict[str, Any]:
    """The champion of now and the first version on the clicks of the day after `day`."""
    from twinspire import registry
    from twinspire.bundle import Bundle

    champion = registry.champion_of(NAME)
    assert champion is not None
    named = {"champion": champion.uri, "first": f"models:/{NAME}/{first}"}
    bundles = {name: Bundle.load(registry.fetch(uri)) for name, uri in named.items()}
    figures = measured(shop, day + 1, bundles, old_items_of="first")
    for part in figures.values():
        part["difference"] = part["difference"]["first"]
    return {"champion": champion.version, "quality": figures}


def done(work: Path) -> list[dict[str, Any]]:
    """The days that are done, in order."""
    return [json.loads(path.read_text()) for path in sorted((work / "days").glob("*.json"))]


def show(days: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = ("day", "loop", "start", "s", "champion", "recall@10 next day", "never retrained", "difference")
    for column in columns:
        table.add_column(column, justify="left" if column in ("day", "loop", "start") else "right")
    for one in days:
        found = one["quality"]["all"]
        value, low, high = found["difference"]["recall@10"]
        behind = one.get("warm starts")
        start = "" if behind is None else "warm" if behind else "full"
        level = [f"{found[name]['recall@10'][0]:.3f}" for name in ("champion", "first")]
        cells = (one["outcome"], start, f"{one['seconds']:.0f}", str(one["champion"]), *level)
        table.add_row(one["date"], *cells, f"{value:+.3f} ({low:+.3f} to {high:+.3f})")
    Console(width=130).print(table)


def figures(days: list[dict[str, Any]], settings: tuple[str, ...]) -> dict[str, Any]:
    """What the file holds: the days, and means over the last ten."""
    last = days[-10:]
    means = {
        part: {
            who: {
                metric: round(sum(one["quality"][part][who][metric][0] for one in last) / len(last), 4)
                for metric in METRICS
            }
            for who in ("champion", "first", "difference")
        }
        for part in ("all", "old items")
    }
    return {"market": MARKET, "settings": settings, "means of the last ten days": means, "days": days}


@click.command()
@click.option("--work", default="build/benchmarks/month", show_default=True, type=click.Path(path_type=Path))
@click.option("--days", "most", default=DAYS, show_default=True, help="Days to do now; the same command goes on.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of all days.")
@click.option("--out", default="figures", show_default=True, type=click.Path(path_type=Path), help="Pictures' folder.")
def main(work: Path, most: int, settings: tuple[str, ...], out: Path) -> None:
    """Run the month, or what is left of it, and draw it."""
    work = work.absolute()
    (work / "days").mkdir(parents=True, exist_ok=True)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work / 'mlflow.db'}"
    os.environ["TWINSPIRE_CACHE"] = str(work / "cache")
    from twinspire import cluster, simulation

    if not (work / "market" / "truth" / "truth.json").exists():
        simulation.simulate(work / "market", **MARKET)  # type: ignore[arg-type]
    shop = Shop(work / "market", work / "data")
    missing = [day for day in range(FIRST_DAY, FIRST_DAY + DAYS) if not (work / "days" / f"{day}.json").exists()]
    # One Ray for all days, as on a cluster; to draw what is there needs none.
    with cluster.session() if missing[:most] else nullcontext():
        for day in missing[:most]:
            told = loop(shop, day, work, settings)
            told |= measure(shop, day, first=1)
            path = work / "days" / f"{day}.json"
            path.with_suffix(".new").write_text(json.dumps(told, indent=1))
            path.with_suffix(".new").replace(path)
            Console().print(f"{told['date']}: {told['outcome']} in {told['seconds']} s")
    days = done(work)
    show(days)
    Console().print(f"{len(days)} of {DAYS} days, written to {report.write('month', figures(days, settings))}")
    Console().print(f"drawn in {picture.draw(days, out / 'month.png')}")


if __name__ == "__main__":
    main()
