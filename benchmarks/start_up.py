"""From the command to the first answer: `python -m benchmarks.start_up --items 100000 --items 1000000`.

`--bundle scaled-15000000` takes one that `python -m benchmarks.index_scale --bundles` has made, with vectors alone.
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
from twinspire.bundle import Manifest

DEFAULT = (100_000, 1_000_000)
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
@click.option("--items", "sizes", multiple=True, type=click.IntRange(1000), help="[default: 100000 and 1000000]")
@click.option("--bundle", "others", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(workdir: Path, sizes: tuple[int, ...], others: tuple[Path, ...]) -> None:
    """Start each size and each bundle; the file keeps what it has of others."""
    console = Console()
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    figures = report.read("start_up")
    made = [market.make(workdir, items, console) for items in sizes or (() if others else DEFAULT)]
    fitted = made[0][0] if made else market.make(workdir, DEFAULT[0], console)[0]
    body = orjson.dumps(market.requests(fitted)[0])
    for bundle in [bundle for _, bundle in made] + [other.absolute() for other in others]:
        told = {
            "items": Manifest.read(bundle).items,
            "bundle on disk, GiB": round(sum(f.stat().st_size for f in bundle.rglob("*") if f.is_file()) / 2**30, 2),
            "seconds from the command": first_answer(bundle, workdir, body),
            "seconds of its parts": parts(bundle, workdir),
        }
        figures[bundle.name] = told
        console.print_json(data={bundle.name: told})
    console.print(f"written to {report.write('start_up', figures)}")


if __name__ == "__main__":
    main()
