"""`twinspire serve`."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console

from twinspire.errors import EnvironmentProblem

if TYPE_CHECKING:
    from serving.launch import Options, Server

EPILOG = """\b
Examples:
  twinspire serve --bundle bundles/demo
  twinspire serve --bundle models:/twinspire@champion --port 8080
  twinspire serve --bundle models:/shop@champion --experiments experiments --events events
  twinspire serve --bundle bundles/demo --host 0.0.0.0 --replicas 2 --max-replicas 8
  twinspire serve --bundle bundles/demo --device cuda --replicas 2 --gpus-per-replica 0.5
  twinspire serve --bundle bundles/demo --host 0.0.0.0 --api-keys keys.txt --rate-limit 100
  curl -s localhost:8000/v1/search -H 'content-type: application/json' -d '{"query": "red shoes"}'
"""


@click.command(epilog=EPILOG)
@click.option("--bundle", required=True, help="A bundle folder, or models:/NAME@ALIAS from the registry.")
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="NAME=BUNDLE",
    help="One more bundle, answering requests that name this arm; repeatable.",
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 to be reached from other machines.")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(1), help="Copies of tower and index.")
@click.option("--max-replicas", type=click.IntRange(1), help="Let Serve add replicas under load, up to this many.")
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    type=click.Choice(["cpu", "cuda"]),
    help="Where query tower and index are; cuda: on a GPU, both on the same one.",
)
@click.option(
    "--gpus-per-replica",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="With --device cuda, the share of a GPU that each replica has; by its memory.",
)
@click.option(
    "--proxy",
    default="haproxy",
    show_default=True,
    type=click.Choice(["haproxy", "http"]),
    help="haproxy is many times as fast; http is Serve's own proxy, for systems without it.",
)
@click.option(
    "--follow",
    "follow_s",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds between two looks for a new bundle in the folder, or a new version at the alias.",
)
@click.option(
    "--state-dir", help="Where it is kept what each arm serves, rollbacks too; default: nowhere beyond this run."
)
@click.option(
    "--experiments",
    "experiments_dir",
    metavar="DIR",
    help="Split traffic by the experiments in this folder, one YAML file each; followed while serving.",
)
@click.option(
    "--events",
    "events_dir",
    default="events",
    show_default=True,
    metavar="DIR",
    help="Where exposures and outcomes are kept, as Parquet.",
)
@click.option(
    "--api-keys", metavar="FILE", help="Search for holders of a key only; lines of name:key. [env: TWINSPIRE_API_KEYS]"
)
@click.option("--admin-keys", metavar="FILE", help="Keys for /v1/admin/. [env: TWINSPIRE_ADMIN_KEYS]")
@click.option(
    "--webhook-secret-file",
    "webhook_secret",
    metavar="FILE",
    help="Take MLflow's webhooks at /v1/webhooks/mlflow, signed with this secret. [env: TWINSPIRE_WEBHOOK_SECRET]",
)
@click.option(
    "--rate-limit", type=click.FloatRange(0, min_open=True), help="Searches a second, for each key and replica."
)
@click.option(
    "--max-wait-ms",
    default=500.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="A search that would wait longer in its replica is answered 503.",
)
@click.option(
    "--slow-ms",
    default=1000.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Log requests that take longer.",
)
@click.option("--log-dir", help="Where refused, failed and slow requests are logged; else among Ray's own logs.")
@click.option("--dashboard-port", type=click.IntRange(1, 65535), help="Start the Ray dashboard on this port.")
def command(**given: Any) -> None:
    """Serve a bundle over HTTP until Ctrl-C.

    A new bundle in the same folder, or a new version at the registry's alias, is loaded beside the old one, verified,
    and takes its place without a pause; one that is refused leaves the old one serving, and /v1/status says why.

    Starts a Ray of its own on this machine, with replicas that hold query tower and index in one process. It is
    ready when /readyz says 200. The web page is at /, the API at /docs.

    Without --api-keys everyone who reaches the port may search; the API listens on this machine only, unless --host
    says otherwise. HAProxy's two ports for statistics, free ones chosen at the start, listen on all interfaces
    whatever --host says, and show numbers, no content; close them at the firewall.
    """
    from serving.launch import Options, Server

    given["arms"] = _arms(given["arms"])
    given["max_replicas"] = given["max_replicas"] or given["replicas"]
    options = Options(**given)
    _heed_signals(_interrupt)
    console = Console(stderr=True, highlight=False)
    server = Server(options)
    try:
        with console.status("starting") as status:
            server = Server(options, say=lambda line: _progress(console, status, line))
            server.start()
        _heed_signals(_interrupt)  # Ray has put its own in place
        _announce(server, options)
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        _heed_signals(signal.SIG_IGN)
        server.stop()


def _arms(given: tuple[str, ...]) -> dict[str, str]:
    arms: dict[str, str] = {}
    for one in given:
        name, equals, bundle = one.partition("=")
        if not (equals and name and bundle) or name == "default" or name in arms:
            raise EnvironmentProblem(f"--arm {one}: write NAME=BUNDLE, each name once; `default` is --bundle")
        arms[name] = bundle
    return arms


def _heed_signals(handler: Any) -> None:
    """Ctrl-C too: a shell that starts us in the background has told us to ignore it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _progress(console: Console, status: Any, line: str) -> None:
    status.update(line)
    if not console.is_terminal:
        console.print(line)


def _announce(server: Server, options: Options) -> None:
    lines = [
        ("web page", f"{server.url}/"),
        ("API", f"{server.url}/docs"),
        ("metrics", server.metrics_url),
        ("HAProxy metrics", server.proxy_metrics_url),
        ("events", options.events_dir),
        ("experiments", options.experiments_dir),
        ("Ray dashboard", f"http://127.0.0.1:{options.dashboard_port}" if options.dashboard_port else ""),
    ]
    click.echo(f"serving {options.bundle}; Ctrl-C ends it")
    if server.gate.keys is None and options.host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(f"  without --api-keys, everyone who reaches {options.host}:{options.port} may search")
    for name, place in lines:
        if place:
            click.echo(f"  {name:16} {place}")
