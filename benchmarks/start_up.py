"""From the command to the first answer: `python -m benchmarks.start_up --items 100000 --items 1000000`.

`twinspire serve` of a bundle, timed from outside: until it answers `/readyz` with 200, and until it has answered one
search. Beside it the parts that depend on the catalogue, each in a process of its own with the files already read once:
verifying the checksums, loading without that, warming up. What is left is Python, Ray and HAProxy, which a hot swap and
a second replica do not pay again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from benchmarks import report
from benchmarks.over_http import market
from benchmarks.over_http.servers import running

PARTS = """
import json, resource, sys, time
from pathlib import Path
from serving.service import Service
from twinspire.bundle import Bundle, Manifest
folder = Path(sys.argv[1])
told = {}
started = time.perf_counter()
Manifest.read(folder).verify(folder)
told["verify checksums"] = time.perf_counter() - started
started = time.perf_counter()
bundle = Bundle.load(folder, verify=False)
told["load"] = time.perf_counter() - started
service = Service(sys.argv[2])
started = time.perf_counter()
service.put("default", bundle)
told["warm up"] = time.perf_counter() - started
service.close()
told = {name: round(value, 2) for name, value in told.items()}
told["memory with mapped pages, GiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
print(json.dumps(told))
"""


def first_answer(bundle: Path, workdir: Path, body: bytes) -> dict[str, float]:
    """Seconds until the server is ready, and until it has answered."""
    started = time.perf_counter()
    with running("twinspire", bundle, workdir) as url:
        ready = time.perf_counter() - started
        asked = urllib.request.Request(f"{url}/v1/search", body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            answer.read()
        return {"ready": round(ready, 2), "first answer": round(time.perf_counter() - started, 2)}


def parts(bundle: Path, workdir: Path) -> dict[str, Any]:
    """Seconds of what depends on the catalogue."""
    command = [sys.executable, "-c", PARTS, str(bundle), str(workdir / "events")]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


@click.command()
@click.option("--workdir", default=Path("build/benchmarks"), show_default=True, type=click.Path(path_type=Path))
@click.option("--items", "sizes", multiple=True, type=click.IntRange(1000), default=(100_000, 1_000_000))
def main(workdir: Path, sizes: tuple[int, ...]) -> None:
    """Start each size; the file keeps what it has of other sizes."""
    console = Console()
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    figures = report.read("start_up")
    for items in sizes:
        folder, bundle = market.make(workdir, items, console)
        body = orjson.dumps(market.requests(folder)[0])
        figures[f"{items:,}"] = {
            "bundle on disk, GiB": round(sum(f.stat().st_size for f in bundle.rglob("*") if f.is_file()) / 2**30, 2),
            "seconds from the command": first_answer(bundle, workdir, body),
            "seconds of its parts": parts(bundle, workdir),
        }
        console.print_json(data={f"{items:,}": figures[f"{items:,}"]})
    console.print(f"written to {report.write('start_up', figures)}")


if __name__ == "__main__":
    main()
