"""Autoscaling under a load step, as a plot: `python -m benchmarks.autoscale`.

One replica, two at most, and an open loop of searches whose rate steps up and down again: the client sends each request
when it is due, whether or not the server keeps up. Told are, second by second, searches answered, refused, their 99th
percentile, and the replicas that run. Steps are shares of what one replica was just measured to carry, so that the
second one is needed. On two cores the second replica takes processor time from the client and from HAProxy: the picture
shows that replicas come and go under load and that nothing fails meanwhile, not what a cluster gains.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import orjson
from rich.console import Console

from benchmarks import report
from benchmarks.over_http import market
from benchmarks.over_http.client import load, require_wrk
from serving.launch import Options, Server
from twinspire import processes
from twinspire.evaluation.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

# Share of what one replica carries, and for how many seconds.
STEPS = ((0.15, 30.0), (1.1, 60.0), (0.15, 90.0))
UPSCALE_S, DOWNSCALE_S = 5.0, 30.0
SETTLE_S = 5.0
PICTURE = Path("docs/figures/autoscale.png")
CLIENT = """
import json, sys
from pathlib import Path
from benchmarks.over_http.open_loop import measure
url, path, rate, seconds = sys.argv[1:5]
seen = measure(url, Path(path).read_bytes().splitlines(), float(rate), float(seconds))
print(json.dumps({"due": seen.due, "ms": seen.ms, "status": seen.status}))
"""


def step(url: str, bodies: Path, rate: float, seconds: float) -> dict[str, np.ndarray]:
    """One rate for some seconds, in a process of its own: when each request was due, its milliseconds and status."""
    command = [sys.executable, "-c", CLIENT, f"{url}/v1/search", str(bodies), str(rate), str(seconds)]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return {name: np.array(values) for name, values in orjson.loads(told).items()}


class Replicas:
    """How many replicas run, looked at every half second."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        from ray import serve

        while not self._stop.wait(0.5):
            applications = serve.status().applications.values()
            states = [one.replica_states for app in applications for one in app.deployments.values()]
            running = sum(each.get("RUNNING", 0) for each in states)
            self.seen.append((time.perf_counter(), running))

    def end(self) -> list[tuple[float, int]]:
        """What was seen: seconds and replicas."""
        self._stop.set()
        self._thread.join()
        return self.seen


def by_second(parts: Sequence[tuple[float, dict[str, np.ndarray]]]) -> dict[str, list[Any]]:
    """Of each second: requests due, answered with 200, refused (429, 503), failed, and the 99th percentile in ms."""
    due = np.concatenate([begun + part["due"] for begun, part in parts])
    ms = np.concatenate([part["ms"] for _, part in parts])
    status = np.concatenate([part["status"] for _, part in parts])
    rows: dict[str, list[Any]] = {name: [] for name in ("second", "asked", "answered", "refused", "failed", "p99_ms")}
    for second in range(int(due.max()) + 1):
        here = (due >= second) & (due < second + 1)
        good, refused = here & (status == 200), here & np.isin(status, (429, 503))
        rows["second"].append(second)
        rows["asked"].append(int(here.sum()))
        rows["answered"].append(int(good.sum()))
        rows["refused"].append(int(refused.sum()))
        rows["failed"].append(int(here.sum() - good.sum() - refused.sum()))
        rows["p99_ms"].append(round(float(np.percentile(ms[good], 99)), 1) if good.any() else None)
    return rows


def failures(parts: Sequence[tuple[float, dict[str, np.ndarray]]]) -> dict[str, int]:
    """How many requests failed, by what came back: a status, or 0 where the connection ended."""
    status = np.concatenate([part["status"] for _, part in parts])
    kinds, counts = np.unique(status[~np.isin(status, (200, 429, 503))], return_counts=True)
    return {str(kind): int(count) for kind, count in zip(kinds, counts, strict=True)}


def draw(seconds: dict[str, list[Any]], replicas: list[tuple[float, int]], path: Path) -> Path:
    """Three panels over time: rates, the 99th percentile, replicas."""
    figure = style.new_figure(5.2)
    axes_of = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 1))
    at = seconds["second"]
    for row, (name, label) in enumerate((("asked", "asked"), ("answered", "answered"), ("refused", "refused (503)"))):
        axes_of[0].plot(at, seconds[name], color=style.colour(row), linewidth=1.6, label=label)
    axes_of[0].legend(frameon=False, fontsize=style.FONT - 0.5, ncols=3, loc="upper right")
    axes_of[1].plot(at, [value or np.nan for value in seconds["p99_ms"]], color=style.colour(0), linewidth=1.6)
    axes_of[1].set_yscale("log")
    axes_of[2].step([when for when, _ in replicas], [count for _, count in replicas], where="post", color=style.INK)
    axes_of[2].set_yticks([0, 1, 2])
    axes_of[2].set_ylim(0, 2.4)
    titles = ("searches a second", "99th percentile of the answered, ms", "replicas")
    for axes, title in zip(axes_of, titles, strict=True):
        axes.set_title(title, fontsize=style.FONT, loc="left", fontweight="bold", color=style.INK)
        axes.grid(axis="y", color="#EEEEEE")
        axes.tick_params(labelsize=style.FONT - 0.5, colors="#555555")
        axes.spines[["top", "right"]].set_visible(False)
    axes_of[2].set_xlabel("seconds", fontsize=style.FONT)
    failed = sum(seconds["failed"])
    most = max(count for _, count in replicas)
    style.heading(
        figure,
        f"Load steps up and down: {most} replicas at most, {failed or 'none'} of the requests failed",
        "Open loop, client on the server's two cores; the step is 1.1 times what one replica carries.",
    )
    return style.save_png(figure, path)


def summary(seconds: dict[str, list[Any]], replicas: list[tuple[float, int]]) -> dict[str, Any]:
    """When the second replica came and went, and what callers got in each step."""
    up = next((when for when, count in replicas if count > 1), None)
    down = next((when for when, count in replicas if up is not None and when > up and count == 1), None)
    parts = {}
    first = 0.0
    for number, (share, length) in enumerate(STEPS):
        here = slice(int(first), int(first + length))
        p99 = [value for value in seconds["p99_ms"][here] if value is not None]
        parts[f"{number + 1}: {share:g} of one replica"] = {
            name: sum(seconds[name][here]) for name in ("asked", "answered", "refused", "failed")
        } | {"median of the seconds' p99, ms": round(float(np.median(p99)), 1) if p99 else None}
        first += length
    step_up, step_down = STEPS[0][1], STEPS[0][1] + STEPS[1][1]
    return {
        "seconds from the step up to two replicas": None if up is None else round(up - step_up, 1),
        "seconds from the step down to one replica": None if down is None else round(down - step_down, 1),
        "steps": parts,
    }


@click.command()
@click.option("--workdir", default=Path("build/benchmarks"), show_default=True, type=click.Path(path_type=Path))
@click.option("--items", default=1_000_000, show_default=True, type=click.IntRange(1000))
def main(workdir: Path, items: int) -> None:
    """Step the load up and down and watch the replicas."""
    require_wrk()
    console = Console()
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    folder, bundle = market.make(workdir, items, console)
    bodies = workdir / f"requests-{items}.jsonl"
    market.write_requests(market.requests(folder), bodies)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    with tempfile.TemporaryDirectory() as scratch:
        options = Options(
            str(bundle), port=processes.free_port(), max_replicas=2, events_dir=scratch,
            upscale_s=UPSCALE_S, downscale_s=DOWNSCALE_S,
        )  # fmt: skip
        with Server(options, say=console.print) as server:
            time.sleep(SETTLE_S)
            load(server.url, bodies, 8, 3)
            carries = load(server.url, bodies, 16, 4).per_second  # too short for a second replica
            console.print(f"one replica carries {carries:,.0f} a second")
            time.sleep(SETTLE_S)
            replicas = Replicas()
            begun = time.perf_counter()
            parts = []
            for share, length in STEPS:
                first = time.perf_counter() - begun
                parts.append((first, step(server.url, bodies, share * carries, length)))
            seen = [(when - begun, count) for when, count in replicas.end()]
    seconds = by_second(parts)
    figures = {
        "items": items, "one replica carries, searches a second": round(carries), "upscale delay s": UPSCALE_S,
        "downscale delay s": DOWNSCALE_S, **summary(seconds, seen),
        "failed by status": failures(parts), "seconds": seconds, "replicas": seen,
    }  # fmt: skip
    console.print_json(data={name: value for name, value in figures.items() if name not in ("seconds", "replicas")})
    console.print(f"written to {report.write('autoscale', figures)} and {draw(seconds, seen, PICTURE)}")


if __name__ == "__main__":
    main()
