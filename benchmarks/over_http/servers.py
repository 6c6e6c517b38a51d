"""The systems under load, each a process of its own: `python -m benchmarks.over_http.servers SYSTEM BUNDLE PORT`.

twinspire    what `twinspire serve` runs: HAProxy, throughput-optimised Ray Serve, one replica
no-op        an ASGI application that reads the request and answers a few bytes, with every switch and setting of ours
plain no-op  a deployment whose `__call__` answers a few bytes, HAProxy and throughput-optimised, no other switch
default      the same application as twinspire in Serve's own configuration: no HAProxy, not throughput-optimised
by hand      FastAPI and one uvicorn process
split ...    twinspire with the experiments in the folder of that name beside its events
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from starlette.responses import Response

from serving.launch import NAME, Options, Server, throughput_environment
from twinspire import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMS = ("twinspire", "no-op", "plain no-op", "default", "by hand")
START_WITHIN_S = 180
ANSWER = b'{"ok":true}'


class NoOpServer(Server):
    """`Server` with nothing behind the HTTP."""

    def _deploy(self) -> None:
        from ray import serve

        from serving.deployment import MAX_ONGOING_REQUESTS

        deployment = serve.deployment(
            num_replicas=1,
            max_ongoing_requests=MAX_ONGOING_REQUESTS,
            ray_actor_options={"num_cpus": 1},
            logging_config={"enable_access_log": False, "log_level": "WARNING"},
        )
        serve.start(http_options={"host": self.options.host, "port": self.options.port})
        serve.run(deployment(self._no_op()).bind(), name=NAME, route_prefix="/")

    def _no_op(self) -> Any:
        from ray import serve

        from serving.deployment import set_interpreter

        @serve.ingress()
        class NoOp:
            def __init__(self) -> None:
                set_interpreter()

            def __serve_build_asgi_app__(self) -> Any:
                return no_op

        return NoOp


class PlainNoOpServer(NoOpServer):
    """As Serve's documentation would have it: a class that is called, in Serve's two fast modes."""

    def _start_ray(self) -> None:
        for switch in set(throughput_environment()) - {"RAY_SERVE_THROUGHPUT_OPTIMIZED", "RAY_SERVE_ENABLE_HA_PROXY"}:
            del os.environ[switch]
        super()._start_ray()

    def _no_op(self) -> Any:
        class NoOp:
            async def __call__(self, request: Any) -> Any:
                return Response(ANSWER, media_type="application/json")

        return NoOp


SERVERS = {"no-op": NoOpServer, "plain no-op": PlainNoOpServer}


async def no_op(scope: Any, receive: Any, send: Any) -> None:
    """Read the request, answer."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def options(system: str, bundle: str, port: int, events: str) -> Options:
    experiments = str(Path(events).with_name(system)) if system.startswith("split ") else None
    proxy: Literal["haproxy", "http"] = "http" if system == "default" else "haproxy"
    return Options(bundle, port=port, proxy=proxy, events_dir=events, experiments_dir=experiments)


def main(system: str, bundle: str, port: int, events: str) -> None:
    """Serve until told to end."""
    if system == "by hand":
        from benchmarks.over_http import by_hand

        by_hand.serve(bundle, port)
        return
    with SERVERS.get(system, Server)(options(system, bundle, port, events)):
        signal.signal(signal.SIGTERM, _interrupt)  # Ray has put its own in place
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def running(system: str, bundle: Path, workdir: Path) -> Iterator[str]:
    """Start a system, wait until it answers, give its URL; at the end no process of it is left."""
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", __spec__.name, system, str(bundle), str(port), str(workdir / "events")]
    log = (workdir / f"{system.replace(' ', '-')}.log").open("w")
    with log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
        try:
            _wait(process, url, log.name)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                processes.end(processes.descendants(process.pid) | {process.pid})


def _wait(process: subprocess.Popen[bytes], url: str, log: str) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise RuntimeError(f"{url} did not become ready; see {log}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
