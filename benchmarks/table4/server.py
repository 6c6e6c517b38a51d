"""A real `twinspire serve` with one experiment, and the report of the events that it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twinspire import processes
from twinspire.experiments.compact import Compactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_WITHIN_S, END_WITHIN_S = 180, 60


@contextmanager
def serving(bundle: Path, experiments: Path, events: Path, log: Path) -> Iterator[str]:
    """Serve, wait until the experiment is known, give the URL; at the end no process is left and `events` holds all.

    Errors: RuntimeError where the server does not start or does not take the experiment.
    """
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    options = {"--bundle": bundle, "--experiments": experiments, "--events": events, "--port": port}
    command = [sys.executable, "-m", "twinspire", "serve", *(str(part) for pair in options.items() for part in pair)]
    with log.open("w") as told, subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT) as process:
        try:
            _wait(url, log, "draft", process)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                processes.end(processes.descendants(process.pid) | {process.pid})
    Compactor(events).run()  # what a server that ended in a hurry has left


def wait_until_running(url: str, log: Path) -> None:
    """Wait until the server splits its traffic. Errors: RuntimeError."""
    _wait(url, log, "running")


def _wait(url: str, log: Path, status: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        experiments = _experiments(url)
        if experiments["refused"]:
            raise RuntimeError(f"the server refuses the experiment: {experiments['refused']}")
        if any(one["status"] == status for one in experiments["running"].values()):
            return
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not have the experiment as {status}; see {log}")


def _experiments(url: str) -> dict[str, Any]:
    """What the server says of its experiments; nothing while it starts."""
    try:
        with urllib.request.urlopen(f"{url}/v1/status", timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)["experiments"]
    except (urllib.error.URLError, OSError):
        return {"refused": {}, "running": {}}
    return told
