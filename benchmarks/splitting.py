"""What splitting traffic costs of the throughput: `python -m benchmarks.splitting`.

Three servers of one bundle stand side by side and are asked in turn, in rounds whose order turns: without experiments;
with one whose arms do not differ, so that what is measured is assigning and keeping exposures; and with one whose arms
are two copies of the bundle, so that batches are cut in two as well. Every request names a session, and all of them
are in the experiment. Told are ratios within a round: of queries a second, and of latency.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl
import yaml
from rich.console import Console

from benchmarks import report
from benchmarks.over_http import market
from benchmarks.over_http.__main__ import SETTLE_S
from benchmarks.over_http.client import Figures, load, require_wrk
from benchmarks.over_http.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT, COUNTED, CUT = "twinspire", "split one bundle", "split two bundles"
SYSTEMS = (WITHOUT, COUNTED, CUT)
MEASURES: dict[str, Callable[[Figures], float]] = {
    "queries a second": lambda one: one.per_second,
    "p50": lambda one: one.p50_ms,
    "p99": lambda one: one.p99_ms,
}
SESSIONS = 997  # of the requests, in turn


def declare(workdir: Path, bundle: Path) -> None:
    """The folders of experiments of the two servers that have one."""
    copy = market.linked(bundle, workdir / "copy")
    for system, other in ((COUNTED, None), (CUT, str(copy))):
        folder = workdir / system
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        arms = [{"name": "control"}, {"name": "treatment"} | ({"bundle": other} if other else {})]
        declared = {"name": "benchmark", "unit": "session", "status": "running", "arms": arms}
        (folder / "benchmark.yaml").write_text(yaml.safe_dump(declared))


def bodies(folder: Path, path: Path) -> None:
    """The requests, each of a session."""
    asked = market.requests(folder)
    for number, body in enumerate(asked):
        body.setdefault("user", {})["session_id"] = f"session-{number % SESSIONS}"
    market.write_requests(asked, path)


def status(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/v1/status", timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def kept(folder: Path) -> int:
    """Exposures in the table."""
    files = list((folder / "exposures").glob("*.parquet"))
    return int(pl.scan_parquet(files).select(pl.len()).collect().item()) if files else 0


@click.command()
@click.option("--workdir", default=Path("build/benchmarks"), show_default=True, type=click.Path(path_type=Path))
@click.option("--items", default=100_000, show_default=True, type=click.IntRange(1000))
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=4.0, show_default=True, type=click.FloatRange(1), help="Of each measurement.")
@click.option("--concurrency", default=32, show_default=True, type=click.IntRange(1))
def main(workdir: Path, items: int, rounds: int, seconds: float, concurrency: int) -> None:
    """Measure a server that splits its traffic against one that does not."""
    require_wrk()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    console = Console()
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    folder, bundle = market.make(workdir, items, console)
    bodies(folder, workdir / "split-requests.jsonl")
    declare(workdir, bundle)
    shutil.rmtree(workdir / "events", ignore_errors=True)
    measured: dict[str, list[Figures]] = defaultdict(list)
    counted = 0
    with contextlib.ExitStack() as stack:
        urls = {system: stack.enter_context(running(system, bundle, workdir)) for system in SYSTEMS}
        time.sleep(SETTLE_S)
        for system in SYSTEMS:
            load(urls[system], workdir / "split-requests.jsonl", concurrency, seconds)
        for number in range(rounds):
            turn = number % len(SYSTEMS)
            for system in SYSTEMS[turn:] + SYSTEMS[:turn]:
                told = load(urls[system], workdir / "split-requests.jsonl", concurrency, seconds)
                measured[system].append(told)
                console.print(
                    f"round {number + 1}  {system:18}: {told.per_second:7,.0f}/s, p50 {told.p50_ms:.2f} ms, "
                    f"p99 {told.p99_ms:.2f} ms, {told.failed} failed"
                )
        for system in (COUNTED, CUT):
            told_of = status(urls[system])["experiments"]["running"]["benchmark"]["arms"]
            counted += sum(arm["exposures"] for arm in told_of.values())
    figures = {
        "items": items,
        "k": market.K,
        "concurrency": concurrency,
        "rounds": rounds,
        "seconds a measurement": seconds,
        "failed": {system: sum(one.failed for one in measured[system]) for system in SYSTEMS},
        "exposures counted by the servers": counted,
        "exposures in the table": kept(workdir / "events"),
        "ratios": {
            f"{system} / without": {
                name: report.spread([of(a) / of(b) for a, b in zip(measured[system], measured[WITHOUT], strict=True)])
                for name, of in MEASURES.items()
            }
            for system in (COUNTED, CUT)
        },
    }
    shutil.rmtree(workdir / "events")
    shutil.rmtree(workdir / "copy")
    console.print_json(json.dumps(figures))
    console.print(f"written to {report.write('splitting', figures)}")


if __name__ == "__main__":
    main()
