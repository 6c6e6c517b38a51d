"""A Ray head as `ray start --head` gives it, with its job server and token auth, on ports and in a folder of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from twinspire import processes

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-of-the-tests-" + "0123456789" * 4
WITHIN_S = 120
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SOURCES = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
CLEAN = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI", "OMP_NUM_THREADS")


def environment(**more):
    """This process's, without what says where Ray and MLflow are, with the head's token."""
    kept = {name: value for name, value in os.environ.items() if name not in CLEAN}
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": SOURCES}
    return kept | own | more


class Head:
    """A head that runs; `url` is its job server, `address` what drivers connect to."""

    def __init__(self, folder, *options, cpus, **more):
        self.folder, self.environment = folder, environment(**more)
        self.port, dashboard, *others = _free_ports(7)
        self.url, self.address = f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{self.port}"
        names = ("ray-client-server", "dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export", "node-manager")
        ports = [f"--{name}-port={port}" for name, port in zip(names, others, strict=True)]
        command = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={self.port}"]
        command += ["--include-dashboard=true", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"]
        command += ["--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0"]
        self.log = folder / "head.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*RAY, *command, *ports, f"--num-cpus={cpus}", "--object-store-memory=100000000", *options],
                env=self.environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self):
        """Its job server answers."""
        until = time.monotonic() + WITHIN_S
        headers = {"Authorization": f"Bearer {TOKEN}"}
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/api/jobs/", headers=headers, timeout=20).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.3)
        raise AssertionError(f"no head: {self.log.read_text()}")

    def jobs(self):
        """What the job server says of each job, by id."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        told = json.loads(httpx.get(f"{self.url}/api/jobs/", headers=headers, timeout=20).text)
        return {job["submission_id"]: job for job in told if job["submission_id"]}

    def end(self):
        """End every process of it."""
        started = processes.descendants(self.process.pid) | {self.process.pid}
        processes.end(started | processes.naming(str(self.folder)))
        self.process.wait(30)


@contextmanager
def ray_head(*options, cpus=8, **more):
    """A head for the length of a block; nothing of it stays."""
    folder = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))  # short: sockets' paths have at most 107 characters
    head = Head(folder, *options, cpus=cpus, **more)
    try:
        head.wait_until_ready()
        yield head
    finally:
        head.end()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count):
    ports = set()
    while len(ports) < count:
        ports.add(processes.free_port())
    return sorted(ports)
