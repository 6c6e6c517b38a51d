"""A `twinspire serve` in a process of its own, and what it started."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from twinspire import processes

COMMAND = [sys.executable, "-c", "from twinspire.cli import main; main()", "serve"]


class Running:
    """A `twinspire serve` and what it started."""

    def __init__(self, bundle, folder, *options, environment=None):
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        arguments = ["--bundle", str(bundle), "--port", str(self.port), "--events", str(folder / "events")]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments, *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | (environment or {}),
            )

    def wait_until_ready(self):
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                ready = httpx.get(f"{self.url}/readyz").status_code == 200
                if ready and "/docs" in self.log.read_text():
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        self.end(signal.SIGTERM)
        pytest.fail(f"not ready: {self.log.read_text()}")

    def end(self, number):
        """Ask it to end; returns the processes it had and the ports they listened on that are still there."""
        had = processes.descendants(self.process.pid)
        self.process.send_signal(number)
        self.process.wait(120)
        return had & processes.descendants(1)
