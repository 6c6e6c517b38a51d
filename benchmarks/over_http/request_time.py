"""Where each microsecond of a request goes: `python -m benchmarks.over_http.request_time`.

Two views of the same search (K = 100 of a million items, hybrid as the defaults have it), as one picture:

- one request at a time, wall time: what the replica's stages take, of the real application called in this process; the
  rest of the median over HTTP is the way there and back (client, HAProxy, sockets, uvicorn);
- 32 at a time, processor time of one request: of each process, under the real load; the replica's is split by the
  stages' own time in batches of the size that the server reached, and what they do not explain is HTTP and the event
  loop.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import faiss
import orjson
import psutil
import torch
import uvloop
from rich.console import Console

from benchmarks import report
from benchmarks.over_http import market
from benchmarks.over_http.__main__ import SETTLE_S, batch_mean, status
from benchmarks.over_http.client import load, require_wrk
from benchmarks.over_http.servers import running
from serving.deployment import set_interpreter
from serving.endpoints import application
from serving.schema import SearchRequest
from serving.service import Service, to_shopper
from serving.versions import Version
from twinspire.bundle import Bundle
from twinspire.evaluation.figures import style
from twinspire.features.query import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving.application import Application

CONCURRENCY = 32
LOOPS = 3000  # requests of the stages' measurement
STAGES = ("parse and validate", "wait for a batch", "encode", "hand over", "search", "serialise", "back and reply")
PICTURE = Path("docs/figures/request.png")
HTTP, LOOP, PROXY, CLIENT, OTHERS = (
    "client, HAProxy, sockets",
    "HTTP and event loop",
    "HAProxy",
    "client",
    "Ray's others",
)
AROUND = {HTTP: "#6B6B6B", CLIENT: "#C4C4C4", PROXY: "#A8A8A8", LOOP: "#7F7F7F", OTHERS: "#4D4D4D"}


class Stages:
    """Times the stages of a service's batches by wrapping the two halves of its pipeline and the search between."""

    def __init__(self, service: Service, bundle: Bundle) -> None:
        self.marks: dict[str, float] = {}
        self.seconds: dict[str, list[float]] = defaultdict(list)  # of each batch
        pipeline: Any = service._pipeline
        pipeline._prepare = self._timed("queued", "encode", pipeline._prepare)
        pipeline._handle = self._timed("hand over", "handled", pipeline._handle)
        searched: Any = bundle
        searched.nearest = self._timed("", "search", bundle.nearest)

    def _timed(self, before: str, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            if before == "queued":
                self.seconds["wait for a batch"] += [started - job.queued for job in arguments[0]]
                self.seconds["queued at"] += [job.queued for job in arguments[0]]
            elif before:
                self.seconds[before].append(started - self.marks["encode"])
            result = call(*arguments)
            self.marks[name] = time.perf_counter()
            self.seconds[name].append(self.marks[name] - started)
            return result

        return timed

    def mean_microseconds(self, requests: int, whole: float) -> dict[str, float]:
        """Microseconds of each stage a request, of `requests` one after the other that took `whole` seconds."""
        each = {name: 1e6 * sum(values) / requests for name, values in self.seconds.items() if name != "queued at"}
        each["serialise"] = each.pop("handled") - each["search"]
        each["back and reply"] = 1e6 * whole / requests - sum(each.values())
        return each


def stages_alone(bundle: Bundle, bodies: Sequence[bytes], scratch: Path) -> dict[str, float]:
    """Microseconds of each stage of one request, one after the other, without HTTP."""
    service = Service(scratch)
    service.put("default", bundle)
    app = application(service, names_requests=False)
    stages = Stages(service, bundle)
    endless = itertools.cycle(bodies)

    async def go() -> tuple[float, float]:
        for _ in range(200):
            await call(app, next(endless))
        stages.seconds.clear()
        parsing = whole = 0.0
        for _ in range(LOOPS):
            started = time.perf_counter()
            await call(app, next(endless))
            whole += time.perf_counter() - started
            parsing += stages.seconds["queued at"][-1] - started
        return parsing, whole

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        parsing, whole = runner.run(go())
    service.close()
    stages.seconds["parse and validate"] = [parsing]
    found = stages.mean_microseconds(LOOPS, whole)
    return {name: round(found[name], 1) for name in STAGES}


async def call(app: Application, body: bytes) -> None:
    """One POST to /v1/search, as a server would hand it over."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"answered {message['status']}")

    scope = {
        "type": "http", "method": "POST", "path": "/v1/search", "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    await app(scope, receive, send)


def stages_in_batches(bundle: Bundle, bodies: Sequence[bytes], size: int) -> dict[str, float]:
    """Microseconds of each stage of one request in batches of `size`, one thread, without event loop."""
    version = Version("default", bundle)
    seconds: dict[str, float] = defaultdict(float)
    endless = itertools.cycle(bodies)
    rounds = max(LOOPS // size, 20)
    for number in range(rounds + 5):
        if number == 5:
            seconds.clear()
        batch = list(itertools.islice(endless, size))
        marks = [time.perf_counter()]
        asked = [SearchRequest.model_validate_json(body) for body in batch]
        queries = [Query(each.query, to_shopper(each.user)) for each in asked]
        marks.append(time.perf_counter())
        prepared = bundle.ask(queries)
        marks.append(time.perf_counter())
        found = bundle.nearest(prepared, market.K)
        marks.append(time.perf_counter())
        version.encoder.encode(found.items, found.scores)
        marks.append(time.perf_counter())
        names = ("parse and validate", "encode", "search", "serialise")
        for name, first, last in zip(names, marks, marks[1:], strict=False):
            seconds[name] += last - first
    return {name: round(1e6 * value / rounds / size, 1) for name, value in seconds.items()}


def processor_seconds() -> dict[str, float]:
    """Of the processes below this one: HAProxy, the replica, Ray's others."""
    found = {PROXY: 0.0, "replica": 0.0, OTHERS: 0.0}
    for each in psutil.Process(os.getpid()).children(recursive=True):
        try:
            command, times = " ".join(each.cmdline()), each.cpu_times()
        except psutil.Error:
            continue
        kind = PROXY if each.name() == "haproxy" else "replica" if "ServeReplica" in command else OTHERS
        found[kind] += times.user + times.system
    return found


def under_load(bundle: Path, bodies: Path, workdir: Path, seconds: float) -> dict[str, Any]:
    """The real server: median at one at a time, and processor microseconds a request at 32."""
    with running("twinspire", bundle, workdir) as url:
        time.sleep(SETTLE_S)
        load(url, bodies, 1, 2)
        alone = load(url, bodies, 1, seconds)
        load(url, bodies, CONCURRENCY, 2)
        before, told, client = processor_seconds(), status(url), _children()
        loaded = load(url, bodies, CONCURRENCY, seconds)
        after, told_after = processor_seconds(), status(url)
        requests = told_after["searches"] - told["searches"]
        spent = {name: after[name] - before[name] for name in after} | {CLIENT: _children() - client}
    return {
        "p50 at 1, microseconds": round(1000 * alone.p50_ms, 1),
        "queries a second at 32": round(loaded.per_second),
        "searches a batch": round(batch_mean(told, told_after), 1),
        "processor microseconds a request": {name: round(1e6 * value / requests, 1) for name, value in spent.items()},
    }


def _children() -> float:
    """Processor seconds of children that have ended: the client."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def draw(alone: dict[str, float], loaded: dict[str, float], path: Path) -> Path:
    """Two bars, each from the first stage to the last."""
    figure = style.new_figure(3.4)
    axes_of = figure.subplots(2, 1)
    # Stages of ours in colours, in both bars the same; what is around them in greys.
    colour = {name: style.colour(at) for at, name in enumerate(STAGES)} | AROUND
    names = [name for name in colour if name in alone or name in loaded]
    for axes, parts, title in (
        (axes_of[0], alone, "one at a time: wall time"),
        (axes_of[1], loaded, "32 at a time: processor time of one request, all processes"),
    ):
        start = 0.0
        total = sum(parts.values())
        for name, value in parts.items():
            axes.barh(0, value, left=start, color=colour[name], edgecolor="white", linewidth=1)
            if value > 0.045 * total:
                axes.text(
                    start + value / 2, 0, f"{value:,.0f}", ha="center", va="center", fontsize=style.FONT - 1,
                    color="white", fontweight="bold",
                )  # fmt: skip
            start += value
        axes.set_title(f"{title}, {total:,.0f} µs", fontsize=style.FONT, loc="left", fontweight="bold", color=style.INK)
        axes.set_yticks([])
        axes.set_xlim(0, total)
        axes.tick_params(labelsize=style.FONT - 1, colors="#555555")
        axes.spines[["top", "right", "left"]].set_visible(False)
    axes_of[1].set_xlabel("microseconds", fontsize=style.FONT)
    handles = [axes_of[0].barh([0], [0], color=colour[name]) for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=style.FONT - 0.5)
    longest = max(loaded, key=lambda name: loaded[name])
    style.heading(
        figure,
        f"Under load, {loaded[longest] / sum(loaded.values()):.0%} of a request's processor time is {longest}",
        "One search over HTTP, from the client's socket and back. What is not worth a number has none.",
    )
    return style.save_png(figure, path)


@click.command()
@click.option("--workdir", default=Path("build/benchmarks"), show_default=True, type=click.Path(path_type=Path))
@click.option("--items", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--seconds", default=8.0, show_default=True, type=click.FloatRange(1))
def main(workdir: Path, items: int, seconds: float) -> None:
    """Measure a request's stages and draw them."""
    require_wrk()
    console = Console()
    workdir = workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    folder, bundle = market.make(workdir, items, console)
    asked = market.requests(folder)
    bodies = workdir / f"requests-{items}.jsonl"
    market.write_requests(asked, bodies)
    server = under_load(bundle, bodies, workdir, seconds)
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    set_interpreter()
    loaded_bundle = Bundle.load(bundle, verify=False)
    singles = [orjson.dumps(body) for body in asked]
    in_batches = stages_in_batches(loaded_bundle, singles, max(1, round(server["searches a batch"])))
    alone = stages_alone(loaded_bundle, singles, workdir / "feedback")
    alone = {HTTP: round(max(server["p50 at 1, microseconds"] - sum(alone.values()), 0), 1)} | alone
    spent = dict(server["processor microseconds a request"])
    replica = spent.pop("replica")
    loaded = {
        CLIENT: spent[CLIENT],
        PROXY: spent[PROXY],
        LOOP: round(max(replica - sum(in_batches.values()), 0), 1),
        **in_batches,
        OTHERS: spent[OTHERS],
    }
    figures = {"items": items, "k": market.K, "server": server, "one at a time": alone, "32 at a time": loaded}
    console.print_json(data=figures)
    console.print(f"written to {report.write('request_time', figures)} and {draw(alone, loaded, PICTURE)}")


if __name__ == "__main__":
    main()
