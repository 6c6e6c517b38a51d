"""HTTP queries a second and latency, side by side: `python -m benchmarks.over_http`.

K = 100 of a million items of d = 64, or `--k` of another `--bundle`; the client (wrk) beside the server on the same
cores, over loopback. In every round each system is started, warmed up, measured at each concurrency and ended, so that
it is alone with the client; the order turns from round to round. Ratios are taken within a round; told are their
least, median and greatest. The systems are in servers.py: twinspire, two no-ops in the same mode, Serve's default
configuration, FastAPI by hand. Each round also asks the batch endpoint, sends an open loop of half and of twice the
rate that was reached at 32, and runs the bare encode-and-search loop at the batch sizes that the server reached: the
limit.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.over_http import bare, batches, market, open_loop
from benchmarks.over_http.client import Figures, load, require_wrk
from benchmarks.over_http.servers import SYSTEMS, running

CONCURRENCIES = (1, 8, 32)
OPEN = {  # share of the top rate, and connections at most
    "half of the top rate": (0.5, 1024),
    "twice the top rate": (2.0, 1024),
    "twice the top rate over 4,096 connections": (2.0, 4096),
}
INDEX = ("factory", "parameters", "recall_at_100", "recall_at_1000", "search_ms")  # of the manifest
SETTLE_S = 3.0  # after a start, Ray's own processes still work
Measured = dict[str, dict[int, list[Figures]]]


def batch_mean(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Searches a batch between two answers of /v1/status."""
    return float((after["searches"] - before["searches"]) / max(after["batches"] - before["batches"], 1))


def asked_at(url: str, bodies: Path, rate: float, seconds: float, connections: int) -> dict[str, Any]:
    """An open loop at a rate, from a process of its own."""
    arguments = (f"{url}/v1/search", bodies, rate, seconds, connections)
    command = [sys.executable, "-m", open_loop.__name__, *map(str, arguments)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


def status(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/v1/status", timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


class Run:
    """All rounds and what they gave."""

    def __init__(self, bundle: Path, bodies: Path, workdir: Path, k: int, seconds: float, warm_up: float) -> None:
        self.bundle, self.bodies, self.workdir, self.k = bundle, bodies, workdir, k
        self.seconds, self.warm_up = seconds, warm_up
        self.measured: Measured = defaultdict(lambda: defaultdict(list))
        self.batches: dict[int, list[float]] = defaultdict(list)
        self.limits: list[dict[str, float]] = []
        self.in_batches: list[float] = []
        self.open: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def round(self, number: int, console: Console) -> None:
        """Every system once, then the bare loop."""
        turn = number % len(SYSTEMS)
        for system in SYSTEMS[turn:] + SYSTEMS[:turn]:
            with running(system, self.bundle, self.workdir) as url:
                time.sleep(SETTLE_S)
                for concurrency in CONCURRENCIES:
                    told = self._measure(system, url, concurrency)
                    console.print(
                        f"round {number + 1}  {system:11} at {concurrency:2}: {told.per_second:7,.0f}/s, "
                        f"p50 {told.p50_ms:.2f} ms, p99 {told.p99_ms:.2f} ms, {told.failed} failed"
                    )
                if system == "twinspire":
                    self._beyond_single(url, number, console)
        reached = {concurrency: max(1, round(self.batches[concurrency][-1])) for concurrency in CONCURRENCIES}
        sizes = sorted({1, 32, 64, *reached.values()})
        speeds = bare.measure(self.bundle, self.bodies, self.k, sizes, self.seconds / 2)
        self.limits.append(
            {f"batch {size}": speeds[size] for size in (1, 32, 64)}
            | {f"batch as at concurrency {c}": speeds[size] for c, size in reached.items()}
        )
        console.print(f"round {number + 1}  bare loop: " + ", ".join(f"{b}: {v:,.0f}/s" for b, v in speeds.items()))

    def _beyond_single(self, url: str, number: int, console: Console) -> None:
        """Batches of 256, and the open loops."""
        batches.load(url, self.bodies, self.warm_up)
        self.in_batches.append(batches.load(url, self.bodies, self.seconds))
        console.print(f"round {number + 1}  in batches of 256: {self.in_batches[-1]:7,.0f}/s")
        top = self.measured["twinspire"][CONCURRENCIES[-1]][-1].per_second
        for name, (share, connections) in OPEN.items():
            told = asked_at(url, self.bodies, share * top, self.seconds, connections)
            self.open[name].append(told)
            console.print(f"round {number + 1}  open loop, {name}: {json.dumps(told)}")

    def _measure(self, system: str, url: str, concurrency: int) -> Figures:
        load(url, self.bodies, concurrency, self.warm_up)
        before = status(url) if system == "twinspire" else None
        told = load(url, self.bodies, concurrency, self.seconds)
        if before is not None:
            self.batches[concurrency].append(batch_mean(before, status(url)))
        self.measured[system][concurrency].append(told)
        return told


def ratios(measured: Measured, concurrency: int) -> dict[str, dict[str, float]]:
    """Queries a second of twinspire over those of each other system, round by round; and p50 over that by hand."""
    ours = measured["twinspire"][concurrency]
    against = {
        f"queries a second, twinspire / {system}": report.spread(
            [a.per_second / b.per_second for a, b in zip(ours, measured[system][concurrency], strict=True)]
        )
        for system in SYSTEMS[1:]
    }
    p50 = [a.p50_ms / b.p50_ms for a, b in zip(ours, measured["by hand"][concurrency], strict=True)]
    return against | {"p50, twinspire / by hand": report.spread(p50)}


def summary(run: Run, manifest: dict[str, Any], kinds: dict[str, int]) -> dict[str, Any]:
    """What goes into the file."""
    ours = run.measured["twinspire"]
    figures: dict[str, Any] = {
        "items": manifest["items"],
        "dimensions": manifest["architecture"]["config"]["dim"],
        "k": run.k,
        "index": {name: manifest["index"].get(name) for name in INDEX},
        "fusion": manifest["fusion"],
        "requests": kinds,
        "seconds a measurement": run.seconds,
        "rounds": len(run.limits),
        "systems": {},
        "ratios": {str(c): ratios(run.measured, c) for c in CONCURRENCIES},
        "searches a batch": {str(c): report.spread(run.batches[c], 1) for c in CONCURRENCIES},
        "bare loop, queries a second and thread": {
            name: report.spread([limit[name] for limit in run.limits], 0) for name in run.limits[0]
        },
        "twinspire / bare loop at the same batch size": {
            str(c): report.spread(
                [
                    f.per_second / limit[f"batch as at concurrency {c}"]
                    for f, limit in zip(ours[c], run.limits, strict=True)
                ]
            )
            for c in CONCURRENCIES
        },
    }
    figures["searches a second in batches of 256"] = report.spread(run.in_batches, 0)
    figures["the same / bare loop in batches of 64"] = report.spread(
        [ours / limit["batch 64"] for ours, limit in zip(run.in_batches, run.limits, strict=True)]
    )
    figures["open loop"] = run.open
    for system in SYSTEMS:
        figures["systems"][system] = {
            str(c): {
                "queries a second": report.spread([f.per_second for f in run.measured[system][c]], 0),
                "p50 ms": report.spread([f.p50_ms for f in run.measured[system][c]]),
                "p99 ms": report.spread([f.p99_ms for f in run.measured[system][c]]),
                "bytes an answer": round(statistics.median(f.bytes_each for f in run.measured[system][c])),
                "failed": sum(f.failed for f in run.measured[system][c]),
            }
            for c in CONCURRENCIES
        }
    return figures


def show(figures: dict[str, Any], console: Console) -> None:
    """Two tables: the systems, and the ratios."""
    systems = Table("system", "concurrency", "queries/s", "p50 ms", "p99 ms", box=box.SIMPLE)
    for system, at in figures["systems"].items():
        for concurrency, told in at.items():
            medians = (f"{told[name]['median']:,g}" for name in ("queries a second", "p50 ms", "p99 ms"))
            systems.add_row(system, concurrency, *medians)
    compared = Table("ratio", "concurrency", "least", "median", "greatest", box=box.SIMPLE)
    for concurrency, told in figures["ratios"].items():
        for name, found in told.items():
            compared.add_row(name, concurrency, *(f"{found[part]:.2f}" for part in ("min", "median", "max")))
    console.print(systems, compared)


@click.command()
@click.option(
    "--workdir",
    default=Path("build/benchmarks"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where market and bundle are kept for the next time.",
)
@click.option("--items", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=6.0, show_default=True, type=click.FloatRange(1), help="Of each measurement.")
@click.option("--warm-up", default=2.0, show_default=True, type=click.FloatRange(1), help="Before each measurement.")
@click.option("--vectors-alone", is_flag=True, help="Without words, memory and trend; written to http_vectors.json.")
@click.option(
    "--bundle",
    "other",
    type=click.Path(path_type=Path),
    help="A bundle in place of the one of --items, whose requests it gets.",
)
@click.option("--k", default=market.K, show_default=True, type=click.IntRange(1, 1000))
@click.option("--name", help="Of the file of results, if not http or http_vectors.")
def main(
    workdir: Path,
    items: int,
    rounds: int,
    seconds: float,
    warm_up: float,
    vectors_alone: bool,
    other: Path | None,
    k: int,
    name: str | None,
) -> None:
    """Measure the HTTP API against a no-op, Serve's default configuration, FastAPI by hand, and the bare loop."""
    require_wrk()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that the server under load is ended too
    console = Console()
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    folder, bundle = market.make(workdir, items, console)
    if vectors_alone:
        bundle = market.vectors_alone(bundle)
    bundle = other.absolute() if other else bundle
    asked = market.requests(folder, k)
    bodies = workdir / f"requests-{items}.jsonl"
    market.write_requests(asked, bodies)
    run = Run(bundle, bodies, workdir, k, seconds, warm_up)
    for number in range(rounds):
        run.round(number, console)
    figures = summary(run, orjson.loads((bundle / "manifest.json").read_bytes()), market.kinds(asked))
    show(figures, console)
    console.print(f"written to {report.write(name or ('http_vectors' if vectors_alone else 'http'), figures)}")


if __name__ == "__main__":
    main()
