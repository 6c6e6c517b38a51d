"""How the cost of a fit grows with the log: `python -m benchmarks.fit_scale`.

One market is simulated; fits of one round take growing parts of its log, the catalogue staying the same. Of each are
reported the processor seconds of all its processes (wall time would show what else the machine did), and the most
memory that they had together: their own pages, shared ones divided between those who share them, Ray's included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import psutil

from benchmarks import report
from twinspire.bundle import Manifest

ITEMS, SHOPPERS = 20_000, 20_000
SAMPLE_SECONDS = 1.0
SETTINGS = ("training.rounds=1", "training.refit=false", "training.seed=0", "model.dim=64")


def simulated(folder: Path, interactions: int) -> Path:
    """A market's tables."""
    sizes = {"items": ITEMS, "users": SHOPPERS, "interactions": interactions}
    flags = [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    command = [sys.executable, "-m", "twinspire", "simulate", *flags, "--seed", "7", "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def part_of(market: Path, share: float, folder: Path) -> tuple[Path, int]:
    """The same tables with the first `share` of the log, and how many rows that is."""
    folder.mkdir()
    for table in ("items", "users"):
        for found in market.glob(f"{table}*"):
            (folder / found.name).symlink_to(found, target_is_directory=found.is_dir())
    log = pl.concat([pl.read_parquet(file) for file in sorted((market / "interactions").glob("*.parquet"))])
    log = log.sort("timestamp")
    rows = round(share * len(log))
    log.head(rows).write_parquet(folder / "interactions.parquet")
    return folder, rows


def fitted(data: Path, out: Path) -> dict[str, Any]:
    """Fit in processes of its own and watch them."""
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "twinspire", "fit", "--data", str(data), "--out", str(out), *settings]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{out.parent}/mlflow.db"}
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=out.parent) as process:
        seconds, memory = watch(process)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return {
        "wall seconds": round(time.perf_counter() - started, 1),
        "processor seconds": round(seconds, 1),
        "peak memory, GiB": round(memory / 2**30, 2),
        "positives": Manifest.read(out).positives,
    }


def watch(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Processor seconds and peak bytes of a process and all that came from it, sampled until it ends."""
    root = psutil.Process(process.pid)
    seconds: dict[tuple[int, float], float] = {}
    peak = 0
    while process.poll() is None:
        memory = 0
        for each in family(root):
            try:
                with each.oneshot():
                    times = each.cpu_times()
                    seconds[each.pid, each.create_time()] = times.user + times.system
                    memory += each.memory_full_info().pss
            except psutil.Error:  # it has ended meanwhile
                continue
        peak = max(peak, memory)
        time.sleep(SAMPLE_SECONDS)
    return sum(seconds.values()), peak


def family(root: psutil.Process) -> list[psutil.Process]:
    """The process and its descendants; none where it has ended."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


@click.command()
@click.option("--interactions", default=4_000_000, show_default=True, help="Rows of the longest log.")
@click.option("--parts", default=4, show_default=True, help="Logs, each twice as long as the one before.")
def main(interactions: int, parts: int) -> None:
    """Fit each part and see how cost and memory grow."""
    rows, found = [], []
    with tempfile.TemporaryDirectory() as scratch:
        market = simulated(Path(scratch) / "market", interactions)
        for at in range(parts):
            data, count = part_of(market, 2.0 ** (at + 1 - parts), Path(scratch) / f"log-{at}")
            rows.append(count)
            found.append({"rows": count, **fitted(data, Path(scratch) / f"bundle-{at}")})
            click.echo(json.dumps(found[-1]))
    seconds = np.array([each["processor seconds"] for each in found])
    slope, start = np.polyfit(rows, seconds, 1)
    departures = np.abs(start + slope * np.array(rows) - seconds) / seconds
    figures = {
        "items": ITEMS,
        "settings": SETTINGS,
        "fits": found,
        "processor seconds a million rows": round(slope * 1e6, 1),
        "processor seconds before the first row": round(start, 1),
        "largest departure from that line, share": round(float(departures.max()), 3),
    }
    click.echo(json.dumps({name: value for name, value in figures.items() if name != "fits"}, indent=2))
    click.echo(f"written: {report.write('fit_scale', figures)}")


if __name__ == "__main__":
    main()
