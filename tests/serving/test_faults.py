"""Faults under load, at the real server: what is counted are failed, wrong and lost requests."""

import os
import shutil
import signal
import threading
import time
from collections import Counter

import httpx
import orjson
import pytest
from edited import edit_manifest
from running import Running

from benchmarks.over_http.open_loop import measure
from twinspire import processes
from twinspire.bundle import Bundle
from twinspire.features.query import Query

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]
RATE, SECONDS = 150, 12
QUERIES = ["red shoes", "blue mug", "green lamp", "white tent", "black chair"]
BODIES = [orjson.dumps({"query": query, "k": 5}) for query in QUERIES]


class Load(threading.Thread):
    """An open loop of searches for SECONDS; `seen` is what came back."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.seen = url, None
        self.start()

    def run(self):
        self.seen = measure(f"{self.url}/v1/search", BODIES, RATE, SECONDS)

    def statuses(self):
        self.join(SECONDS + 60)
        assert len(self.seen.status) == RATE * SECONDS, "requests are lost"
        return Counter(self.seen.status)


@pytest.fixture
def served(tiny_bundle, tmp_path):
    """A server of a copy of the bundle, its version 1."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    edit_manifest(folder, version="1")
    servers = []

    def start(*options):
        servers.append(Running(folder, tmp_path, *options, environment={"TWINSPIRE_ADMIN_KEYS": "boss:" + "k" * 16}))
        servers[0].wait_until_ready()
        return servers[0], folder

    yield start
    assert not servers[0].end(signal.SIGINT), "processes stay"


def put(folder, original, version, damage=None):
    """Another version in the folder's place, as a fit would put it there."""
    new = folder.with_name(f"new-{version}")
    shutil.copytree(original, new)
    edit_manifest(new, version=version)
    if damage is not None:
        path = new / damage
        path.write_bytes(path.read_bytes()[:-3] + b"!!!")
    old = folder.with_name(f"old-{version}")
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


def until(server, what):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told = httpx.get(f"{server.url}/v1/status").json()
        if what(told):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


def test_swaps_refusals_and_rollbacks_under_load_fail_nothing(served, tiny_bundle):
    server, folder = served("--follow", "0.2")
    load = Load(server.url)
    put(folder, tiny_bundle, "2")
    until(server, lambda told: told["model"]["version"] == "2")
    put(folder, tiny_bundle, "bad", damage="model.safetensors")
    told = until(server, lambda told: told["refused_bundles"])
    assert "does not have the checksum" in told["refused_bundles"]["default"]["reason"]
    assert told["model"]["version"] == "2"
    boss = {"authorization": "Bearer " + "k" * 16}
    assert httpx.post(f"{server.url}/v1/admin/rollback", json={}, headers=boss).status_code == 202
    until(server, lambda told: told["model"]["version"] == "1")
    assert load.statuses() == {200: RATE * SECONDS}
    answer = httpx.post(f"{server.url}/v1/search", content=BODIES[0]).json()
    bundle = Bundle.load(tiny_bundle)
    rows = bundle.search([Query(QUERIES[0])], 5).items[0]
    assert [item["item_id"] for item in answer["items"]] == [bundle.item_ids[row] for row in rows]


def replicas(server):
    """Processes of Serve's replicas."""
    return sorted(processes.naming("ray::ServeReplica") & processes.descendants(server.process.pid))


def test_a_replica_that_is_killed_loses_no_request_while_another_one_lives(served):
    server, _ = served("--replicas", "2")
    assert len(replicas(server)) == 2
    load = Load(server.url)
    time.sleep(3)
    os.kill(replicas(server)[0], signal.SIGKILL)
    assert load.statuses() == {200: RATE * SECONDS}
    deadline = time.monotonic() + 90
    while len(replicas(server)) < 2:
        assert time.monotonic() < deadline, "no other replica came"
        time.sleep(0.5)
