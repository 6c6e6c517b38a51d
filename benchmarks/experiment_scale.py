"""What a report costs at size: `python -m benchmarks.experiment_scale`.

Simulated events of two weeks, and the two weeks before, are written to disk; a process of its own then makes the report
from them. Told are its seconds and its greatest memory, at two sizes, so that one sees how both grow.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks import report
from twinspire.experiments.analysis import analyse
from twinspire.experiments.spec import Experiment
from twinspire.simulation.traffic import Traffic, write_events

START = datetime(2026, 11, 2, tzinfo=UTC)
NAME = "scale"


def experiment() -> Experiment:
    return Experiment.model_validate(
        {
            "name": NAME,
            "arms": [{"name": "control"}, {"name": "treatment"}],
            "start": START,
            "status": "running",
            "guardrails": {"p99_ms": 50, "empty_share": 0.02, "error_share": 0.01},
        }
    )


def answer(folder: Path) -> dict[str, Any]:
    """Make the report, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    found = analyse(folder, experiment())
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "units": found.units,
        "searches": found.searches,
        "seconds": round(seconds, 2),
        "processor seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "greatest memory, MiB": round(after.ru_maxrss / 1024),
        "of it before the report, MiB": round(before.ru_maxrss / 1024),
        "verdict": found.verdict.sentence,
    }


def measure(units: int) -> dict[str, Any]:
    """Write events and have another process answer."""
    with tempfile.TemporaryDirectory(prefix="twinspire-experiment-") as folder:
        write_events(Path(folder), NAME, START, Traffic(units=units, lift=0.05, visits_a_day=0.2, seed=units))
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))
        told = subprocess.run(
            [sys.executable, "-m", "benchmarks.experiment_scale", "--answer", folder],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return {**json.loads(told.stdout), "Parquet, MiB": round(size / 2**20)}


@click.command()
@click.option("--units", "sizes", multiple=True, default=(250_000, 1_000_000), show_default=True)
@click.option("--answer", "folder", type=click.Path(path_type=Path), hidden=True)
def main(sizes: tuple[int, ...], folder: Path | None) -> None:
    """Measure, print, write the figures."""
    if folder is not None:
        print(json.dumps(answer(folder)))
        return
    figures = [measure(units) for units in sizes]
    print(json.dumps(figures, indent=2))
    print(report.write("experiment_scale", {"reports": figures}))


if __name__ == "__main__":
    main()
