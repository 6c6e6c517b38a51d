"""A Ray head as `ray start --head` gives it, with job server and token auth, on ports and in a folder of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from ray.util import get_node_ip_address

from twinspire import processes

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-of-the-tests-" + "0123456789" * 4
WITHIN_S = 120
NODE_STARTS = 3
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
SOURCES = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
OPEN = ("--min-worker-port=0", "--max-worker-port=0")
STORE = "--object-store-memory=100000000"
PORTS = ("ray-client-server", "dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export", "node-manager")
CLEAN = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI", "OMP_NUM_THREADS")


def environment(**more):
    """This process's, without what says where Ray and MLflow are, with the head's token."""
    kept = {name: value for name, value in os.environ.items() if name not in CLEAN}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": path, "PYTHONPATH": SOURCES, "RAY_USAGE_STATS_ENABLED": "0"}
    return kept | own | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN} | more


class Started:
    """A `ray start --block` and what it started."""

    def __init__(self, folder, command, environment, before=()):
        self.folder, self.environment = folder, environment
        self.log = folder / f"{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *before,
                    *RAY,
                    "start",
                    "--block",
                    "--disable-usage-stats",
                    STORE,
                    *command,
                ],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self):
        """As a machine that loses its power."""
        for pid in processes.descendants(self.process.pid) | {self.process.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


class Head(Started):
    """A head that runs; `url` is its job server, `address` what drivers connect to."""

    def __init__(self, folder, *options, cpus, autoscaling=None, **more):
        port, dashboard, *others = _free_ports(7)
        # Ray's fake nodes are at this machine's own address.
        self.host = "127.0.0.1" if autoscaling is None else get_node_ip_address()
        self.url, self.address = f"http://127.0.0.1:{dashboard}", f"{self.host}:{port}"
        self.nodes = []
        if autoscaling is not None:
            autoscaling["provider"]["gcs_address"] = self.address
            (folder / "autoscaling.json").write_text(json.dumps(autoscaling))
            options = (*options, f"--autoscaling-config={folder / 'autoscaling.json'}")
        own = ["--head", f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"]
        own += [f"--{name}-port={number}" for name, number in zip(PORTS, others, strict=True)]
        own += ["--include-dashboard=true", f"--num-cpus={cpus}", f"--node-ip-address={self.host}"]
        super().__init__(folder, [*own, *OPEN, *options], environment(**more))

    def add_node(self, cpus, before=()):
        """A node on this machine that has joined the head; `before` is what starts it.

        One at a time, and again where it did not come: Ray gives a node 30 seconds, which two at once can need.
        """
        there = self._ids()
        for _ in range(NODE_STARTS):
            started = self._start_node(cpus, before)
            wait_for(lambda: started.process.poll() is not None or self._ids() - there)  # noqa: B023
            if started.process.poll() is None:
                self.nodes.append(started)
                return started
        raise AssertionError(f"no node: {started.log.read_text()}")

    def _ids(self):
        return {node["node_id"] for node in self.workers()}

    def _start_node(self, cpus, before):
        ports = [f"--{name}-port={port}" for name, port in zip(PORTS[1:], _free_ports(4), strict=True)]
        command = [f"--address={self.address}", f"--node-ip-address={self.host}", *ports, f"--num-cpus={cpus}", *OPEN]
        return Started(self.folder, command, self.environment, before)

    def wait_until_ready(self):
        """Its job server answers."""
        until = time.monotonic() + WITHIN_S
        while time.monotonic() < until and self.process.poll() is None:
            with suppress(httpx.HTTPError):
                if self._ask("/api/jobs/").status_code == 200:
                    return
            time.sleep(0.3)
        raise AssertionError(f"no head: {self.log.read_text()}")

    def jobs(self):
        """What the job server says of each job, by id."""
        return {job["submission_id"]: job for job in self._ask("/api/jobs/").json() if job["submission_id"]}

    def workers(self):
        """Nodes that live, without the head."""
        nodes = self._ask("/api/v0/nodes?limit=100").json()["data"]["result"]["result"]
        return [node for node in nodes if node["state"] == "ALIVE" and not node["is_head_node"]]

    def end(self):
        """End every process of it."""
        roots = [started.process for started in [self, *self.nodes]]
        pids = set().union(*(processes.descendants(root.pid) | {root.pid} for root in roots))
        processes.end(pids | processes.naming(str(self.folder)))
        for root in roots:
            root.wait(30)

    def _ask(self, path):
        return httpx.get(self.url + path, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)


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


def wait_for(there, within=WITHIN_S):
    """Wait until `there()`, and give what it gives."""
    until = time.monotonic() + within
    while not (found := there()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.3)
    return found


def _free_ports(count):
    ports = set()
    while len(ports) < count:
        ports.add(processes.free_port())
    return sorted(ports)
