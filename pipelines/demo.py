"""Demo: the whole job on a simulated market, as the commands that a user would type, one after the other."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twinspire.bundle import read_items
from twinspire.errors import EnvironmentProblem
from twinspire.features.history import KINDS
from twinspire.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "demo"
QUERIES = ("apple", "shoes", "phone")
SHOWN = 5
READY_WITHIN_S = 180
STOP_WITHIN_S = 40

MARKET = ("--items", "6000", "--users", "3000", "--interactions", "300000", "--seed", "7")
HOLDOUT = "log.holdout_days=7"


@dataclass(frozen=True)
class Shopper:
    """A shopper of the market whom the demo asks as: id, a line that describes them, and what they clicked last."""

    user_id: str
    description: str
    clicked: list[str]


def run_demo(folder: Path, *, wait: bool) -> None:
    """Simulate, fit, evaluate, register, serve, ask; then keep serving until Ctrl-C if `wait`.

    Errors: EnvironmentProblem where a step fails; what was started is ended in any case.
    """
    console = Console(highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    market, bundle, report = folder / "market", folder / "bundle", folder / "report.json"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    step = _Steps(console)
    step("a market with a known truth", "simulate", *MARKET, "--out", market)
    step("train on all but the last week", "fit", "--data", market, "--out", bundle, "--set", HOLDOUT)
    step("compare on that week", "evaluate", "--bundle", bundle, "--data", market, "--out", report)
    register = ("register", "--bundle", bundle, "--name", NAME, "--alias", "challenger", "--report", report)
    step("register", "registry", *register)
    step("promote", "registry", "promote", NAME, "challenger", "--force", "a demo has no champion to judge it against")
    port, dashboard, mlflow = free_port(8000), free_port(8265), free_port(5000)
    url = f"http://127.0.0.1:{port}"
    serve = ("serve", "--bundle", f"models:/{NAME}@champion", "--port", port, "--dashboard-port", dashboard)
    with ExitStack() as stack:
        step.announce("serve", *serve, "--events", folder / "events")
        server = stack.enter_context(_running(_twinspire(*serve, "--events", folder / "events")))
        _wait_until_ready(f"{url}/readyz", server)
        _show_side_by_side(console, url, _two_shoppers(market, bundle))
        console.print(f"\nfrom nothing to answers in [bold]{time.monotonic() - started:.0f} s[/bold]")
        if not wait:
            return
        stack.enter_context(_running(_mlflow(os.environ["MLFLOW_TRACKING_URI"], mlflow)))
        console.print(f"  web page       {url}/\n  API            {url}/docs")
        console.print(f"  MLflow         http://127.0.0.1:{mlflow}\n  Ray dashboard  http://127.0.0.1:{dashboard}")
        console.print("Ctrl-C ends it all")
        _wait_for_interrupt(server)


class _Steps:
    """Says what comes, shows the command, runs it."""

    def __init__(self, console: Console) -> None:
        self.console, self.number = console, 0

    def announce(self, title: str, *arguments: object) -> None:
        self.number += 1
        line = escape(shlex.join(map(str, arguments)))
        self.console.print(f"\n[bold]{self.number}  {title}[/bold]\n[dim]$ twinspire {line}[/dim]")

    def __call__(self, title: str, *arguments: object) -> None:
        self.announce(title, *arguments)
        with _running(_twinspire(*arguments)) as process:
            code = process.wait()
        if code != 0:
            raise EnvironmentProblem(f"demo: `twinspire {arguments[0]}` ended with exit code {code}; see above")


def _twinspire(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "twinspire", *map(str, arguments)]


def _mlflow(uri: str, port: int) -> list[str]:
    return [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1"]


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own, so that Ctrl-C reaches us alone and we end it in order."""
    quiet = subprocess.DEVNULL if "mlflow" in command else None
    process = subprocess.Popen(command, start_new_session=True, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)  # as Ctrl-C would; nothing where it has ended
        try:
            process.wait(STOP_WITHIN_S)
        finally:
            _end_session(process.pid)


def _end_session(leader: int) -> None:
    """Whatever is left of a child's session, such as MLflow's workers."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        if server.poll() is not None:
            raise EnvironmentProblem("demo: the server ended before it was ready; see above")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise EnvironmentProblem(f"demo: the server was not ready within {READY_WITHIN_S} s")


def _wait_for_interrupt(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait()
    except KeyboardInterrupt:
        return
    raise EnvironmentProblem("demo: the server ended by itself; see above")


def _two_shoppers(market: Path, bundle: Path) -> list[Shopper]:
    """Two shoppers as unlike as the profiles allow, each with a long history."""
    users = pl.read_parquet(market / "users.parquet", glob=False)
    items = read_items(bundle)
    known = pl.read_parquet(bundle / "users.parquet", glob=False).select("user_id", "history")
    users = users.join(known, on="user_id").sort(pl.col("history").list.len(), descending=True, maintain_order=True)
    kinds = [("female", "high"), ("male", "low")]
    shoppers = []
    for gender, power in kinds:
        row = users.filter((pl.col("gender") == gender) & (pl.col("purchase_power") == power)).row(0, named=True)
        text = f"{gender}, {power} purchase power"
        last = [event["item"] for event in row["history"] if KINDS[event["kind"]] == "click"][-3:]
        clicked = items["title"].gather(last).to_list()
        shoppers.append(Shopper(row["user_id"], text, clicked))
    return shoppers


def _show_side_by_side(console: Console, url: str, shoppers: list[Shopper]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="the same queries, two shoppers", title_justify="left", expand=True)
    table.add_column("query", style="bold")
    for shopper in shoppers:
        table.add_column(shopper.description, no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_row("shopper", *(shopper.user_id for shopper in shoppers))
    table.add_row(
        "[dim]clicked last[/dim]", *("\n".join(f"[dim]{title}[/dim]" for title in s.clicked) for s in shoppers)
    )
    for query in QUERIES:
        answers = [_ask(url, query, shopper.user_id) for shopper in shoppers]
        table.add_section()
        table.add_row(query, *("\n".join(_line(item) for item in items) for items in answers))
    console.print(table)


def _ask(url: str, query: str, user_id: str) -> list[dict[str, Any]]:
    body = json.dumps({"query": query, "k": SHOWN, "user": {"user_id": user_id}, "explain": True}).encode()
    request = urllib.request.Request(f"{url}/v1/search", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        items: list[dict[str, Any]] = json.load(response)["items"]
    return items


def _line(item: dict[str, Any]) -> str:
    return f"{item['price']:5.0f}  {item['title']}"


if __name__ == "__main__":
    from twinspire.cli import main

    main("demo")
