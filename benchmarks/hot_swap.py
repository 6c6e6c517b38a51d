"""What callers feel of a hot swap: `python -m benchmarks.hot_swap`.

An open loop of searches at a steady rate over HTTP, client on the server's cores; meanwhile a new version of the bundle
takes the old one's place in its folder (loaded beside, verified, warmed up, swapped), and then is rolled back. Told are
failed requests, and the 99th percentile of each part over that of the steady part before it.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
from rich.console import Console

from benchmarks import report
from benchmarks.over_http import market
from benchmarks.over_http.__main__ import status
from benchmarks.over_http.open_loop import Seen, measure
from benchmarks.over_http.servers import running

STEADY_S = 10.0  # before, between and after
AROUND_S = 1.0  # after a swap and around a rollback that counts to it
KEY = "a-key-of-the-benchmark"


def part(seen: Seen, first: float, last: float) -> dict[str, Any]:
    """Requests due from `first` to `last` seconds."""
    due, ms, answers = np.array(seen.due), np.array(seen.ms), np.array(seen.status)
    inside = (due >= first) & (due < last)
    return {
        "requests": int(inside.sum()),
        "failed": int((answers[inside] != 200).sum()),
        "p50 ms": round(float(np.percentile(ms[inside], 50)), 3),
        "p99 ms": round(float(np.percentile(ms[inside], 99)), 3),
        "longest ms": round(float(ms[inside].max()), 3),
    }


class Run:
    """A server of a copy of the bundle, and the load on it."""

    def __init__(self, url: str, live: Path, bodies: list[bytes], rate: float, seconds: float) -> None:
        self.url, self.live = url, live
        self.seen = Seen()
        self._started = time.perf_counter()
        self._load = threading.Thread(
            target=lambda: setattr(self, "seen", measure(f"{url}/v1/search", bodies, rate, seconds))
        )
        self._load.start()

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._started

    def swap(self, new: Path) -> tuple[float, float]:
        """Put `new` in the live folder's place; when that was, and when it answered."""
        old = self.live.with_name("old")
        began = self.now
        self.live.rename(old)
        new.rename(self.live)
        while status(self.url)["model"]["version"] != "2":
            time.sleep(0.2)
        shutil.rmtree(old)
        return began, self.now

    def roll_back(self) -> float:
        """Roll back; when that was."""
        asked = urllib.request.Request(
            f"{self.url}/v1/admin/rollback",
            b"{}",
            {"x-api-key": KEY, "content-type": "application/json"},
        )
        urllib.request.urlopen(asked, timeout=10).close()
        return self.now

    def end(self) -> Seen:
        """What came back, when all has."""
        self._load.join()
        return self.seen


@click.command()
@click.option("--workdir", default=Path("build/benchmarks"), show_default=True, type=click.Path(path_type=Path))
@click.option("--items", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--rate", default=200.0, show_default=True, type=click.FloatRange(1), help="Searches a second.")
def main(workdir: Path, items: int, rate: float) -> None:
    """Swap and roll back a bundle under load."""
    console = Console()
    workdir = workdir.absolute()
    folder, bundle = market.make(workdir, items, console)
    live, new = workdir / "live", workdir / "new"
    market.linked(bundle, live, version="1")
    market.linked(bundle, new, version="2")
    bodies = [orjson.dumps(body) for body in market.requests(folder)]
    os.environ["TWINSPIRE_ADMIN_KEYS"] = f"benchmark:{KEY}"
    seconds = 3 * STEADY_S + 60
    with running("twinspire", live, workdir) as url:
        time.sleep(STEADY_S)
        measure(f"{url}/v1/search", bodies, rate, 3)
        run = Run(url, live, bodies, rate, seconds)
        time.sleep(STEADY_S)
        began, swapped = run.swap(new)
        time.sleep(STEADY_S)
        rolled_back = run.roll_back()
        seen = run.end()
    shutil.rmtree(live)
    steady = part(seen, 1, began)
    parts = {
        "steady": steady,
        "loading and swapping": part(seen, began, swapped + AROUND_S),
        "rolling back": part(seen, rolled_back - AROUND_S, rolled_back + AROUND_S),
        "afterwards": part(seen, rolled_back + AROUND_S, seconds),
    }
    figures = {
        "items": items,
        "k": market.K,
        "asked a second": rate,
        "seconds from the new folder to its first answer": round(swapped - began, 2),
        "parts": parts,
        "p99 over the steady one": {
            name: round(told["p99 ms"] / steady["p99 ms"], 3) for name, told in parts.items() if name != "steady"
        },
    }
    console.print_json(json.dumps(figures))
    console.print(f"written to {report.write('hot_swap', figures)}")


if __name__ == "__main__":
    main()
