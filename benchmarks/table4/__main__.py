"""Table 4 of the paper (6.3) by simulation: `python -m benchmarks.table4`.

Shoppers of a simulated market, whose truth is known, visit a shop over HTTP: `twinspire serve` with an experiment of
two arms. The arm's retrieval adds candidates to those of an inverted index, one ranking shared by both arms orders
them, and shoppers look, click, buy, ask anew or leave as the truth has it; what they do goes back to /v1/feedback. Then
the platform's report of the events is compared with what is true: the lift of the same visits, many more of them, paid
to both arms in this process. Experiments: BM25 alone against BM25 and DPSR, one head against two, without against with
the shopper's profile, and the same against the same.
"""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import Progress

from benchmarks import report as results
from benchmarks.table4 import market
from benchmarks.table4.counterfactual import lifts, pay
from benchmarks.table4.figure import draw
from benchmarks.table4.server import serving, wait_until_running
from benchmarks.table4.shop import Catalogue, Ranking
from benchmarks.table4.show import PAPER, show
from benchmarks.table4.traffic import Played, pace, send
from benchmarks.table4.trials import ARMS, TRIALS, Trial, retrieval
from benchmarks.table4.verdict import found, rows_of, title_of
from benchmarks.workspace import workspace
from twinspire.bundle import Bundle
from twinspire.experiments.analysis import analyse
from twinspire.experiments.spec import read_experiment
from twinspire.simulation import draw_visits, truth

if TYPE_CHECKING:
    from benchmarks.table4.measures import Lift
    from twinspire.experiments.report import Report
    from twinspire.simulation import Truth

FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "table4.png"
LEAST_USERS = 30_000
SHOPS = {shop: [trial for trial in TRIALS if trial.shop == shop] for shop in dict.fromkeys(t.shop for t in TRIALS)}
SEARCHES_EACH, RESERVE_S = 2, 30  # what an experiment is planned to last: searches of a shopper, and seconds more
OF_CONTROL = 20_000  # shoppers of the experiment whose arms are the same
POWER_RESERVE = 1.2  # more shoppers than the plan asks for


def planned(trial: Trial, true: dict[tuple[str, str], Lift], most: int) -> int:
    """Shoppers of both arms with which conversion's lift is found, within what there are."""
    if trial.control == trial.treatment:
        return min(OF_CONTROL, most)
    return int(np.clip(2 * POWER_RESERVE * true["all", "ucvr"].users, min(LEAST_USERS, most), most))


class Benchmark:
    """A market with its bundles, loaded."""

    def __init__(self, workdir: Path, folder: Path, seed: int, say: Console) -> None:
        self.workdir, self.seed, self.say = workdir, seed, say
        self.truth: Truth = truth.load(folder)
        self.bundles = {name: Bundle.load(market.bundle_of(workdir, name)) for name in market.BUNDLES}
        self.catalogue = Catalogue(folder, self.truth)
        model = self.bundles[market.RANKING]
        self.rankings = {shop: Ranking(self.catalogue, model, own=shop.own) for shop in SHOPS}

    def true_lifts(self, users: int, blocks: int) -> dict[str, dict[tuple[str, str], Lift]]:
        """By trial, of `blocks` visits of each shopper to every arm's shop."""
        some, queries = self._shoppers(users), len(self.catalogue.texts)
        arms = {
            shop: [name for name in ARMS if any(name in (t.control, t.treatment) for t in trials)]
            for shop, trials in SHOPS.items()
        }
        found = {}
        with Progress(console=self.say, transient=True) as progress:
            total = blocks * sum(len(names) for names in arms.values())
            task = progress.add_task(f"{blocks * users:,} visits to the shop of each arm", total=total)
            for shop, names in arms.items():
                adds = {name: retrieval(name, self.catalogue, self.bundles, shop.k) for name in names}
                paid = pay(
                    self.truth, self.rankings[shop], adds, some, blocks, self.seed + 1,
                    lambda searches: progress.advance(task),
                )  # fmt: skip
                for one in SHOPS[shop]:
                    found[one.name] = lifts(paid[one.control], paid[one.treatment], users, queries)
        return found

    def run(self, trial: Trial, users: int) -> tuple[Played, Report, float]:
        """One visit of each of these shoppers over HTTP; what they did, the report, and the seconds of traffic."""
        folder = self.workdir / "trials" / trial.name
        shutil.rmtree(folder, ignore_errors=True)
        declared, events = folder / "experiments", folder / "events"
        declared.mkdir(parents=True)
        trial.declare(declared, self.workdir)
        visits = draw_visits(self.truth, self.seed + 2, self._shoppers(users), block=TRIALS.index(trial))
        server = serving(market.bundle_of(self.workdir, "1-head"), declared, events, folder / "serve.log")
        ranking, k = self.rankings[trial.shop], trial.shop.k
        with server as url, Progress(console=self.say, transient=True) as progress:
            task = progress.add_task(f"{trial.name}: {users:,} shoppers", total=users)
            lasting = SEARCHES_EACH * users / pace(visits, ranking, url, k) + RESERVE_S
            path = trial.declare(declared, self.workdir, timedelta(seconds=lasting))
            wait_until_running(url, folder / "serve.log")
            started = time.monotonic()
            played = send(
                self.truth, visits, ranking, url, trial.name, k, self.seed + 2,
                lambda some: progress.advance(task, some),
            )  # fmt: skip
            seconds = time.monotonic() - started
        return played, analyse(events, read_experiment(path)), seconds

    def _shoppers(self, count: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        drawn = np.random.default_rng(self.seed).permutation(len(self.catalogue.user_ids))[:count]
        return drawn.astype(np.int32)


def lost(events: Path, played: Played) -> dict[str, int]:
    """How many searches and outcomes of the client are not among the events, or twice."""
    exposures = pl.scan_parquet(events / "exposures" / "*.parquet").select(pl.len()).collect().item()
    told = pl.scan_parquet(events / "interactions" / "*.parquet").select(pl.len(), pl.col("value").sum()).collect()
    searches = played.searches
    outcomes = int(searches.clicks.sum() + searches.carts.sum() + searches.purchases.sum())
    return {"searches": len(searches.visit) - exposures, "outcomes": outcomes - told.item(0, 0)}


@click.command()
@click.option("--items", default=market.SIZES["items"], show_default=True, help="Items of the market.")
@click.option("--shoppers", default=market.SIZES["users"], show_default=True, help="Its shoppers.")
@click.option("--interactions", default=market.SIZES["interactions"], show_default=True, help="Its log.")
@click.option("--most", default=60_000, show_default=True, help="Shoppers of an experiment at the most.")
@click.option("--blocks", default=1, show_default=True, help="Visits of each to every arm, for the truth.")
@click.option("--seed", default=0, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", default=("training.rounds=4",))
@click.option("--workdir", type=click.Path(path_type=Path), help="Keeps market, bundles and events; takes those there.")
def main(
    items: int,
    shoppers: int,
    interactions: int,
    most: int,
    blocks: int,
    seed: int,
    settings: tuple[str, ...],
    workdir: Path | None,
) -> None:
    """Find by experiment what is true of a simulated market."""
    say = Console(stderr=True, highlight=False)
    started = time.monotonic()
    with workspace(workdir, "table4") as work:
        sizes = {"items": items, "users": shoppers, "interactions": interactions, "seed": seed}
        folder, fits = market.make(work, sizes, settings, say)
        most = min(most, shoppers)
        bench = Benchmark(work, folder, seed, say)
        true = bench.true_lifts(most, blocks)
        trials: dict[str, Any] = {}
        for trial in TRIALS:
            users = planned(trial, true[trial.name], most)
            say.print(f"[bold]{trial.name}[/bold]: {users:,} shoppers, {trial.control} against {trial.treatment}")
            played, told, seconds = bench.run(trial, users)
            trials[trial.name] = {
                "control": trial.names[0],
                "treatment": trial.names[1],
                "users": users,
                "candidates added": trial.shop.k,
                "beside the shop's own": trial.shop.own,
                "searches": len(played.searches.visit),
                "searches_a_second": round(len(played.searches.visit) / seconds, 1),
                "lost": lost(work / "trials" / trial.name / "events", played),
                "sample ratio p": round(told.ratio.p, 4),
                "verdict": told.verdict.sentence,
                "rows": rows_of(true[trial.name], told),
            }
    figures = {
        **sizes,
        "settings": settings,
        "fit seconds": fits,
        "true lifts of visits": blocks * most,
        "trials": trials,
        "found": found(trials),
        "paper, %": PAPER,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    show(figures, Console(highlight=False))
    say.print(f"drawn in {draw(figures, title_of(trials), FIGURE)}, written to {results.write('table4', figures)}")


if __name__ == "__main__":
    main()
