"""Serving on a cluster by `serve deploy`: it answers as the bundle does, and a node that is lost loses no request."""

import shutil
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import orjson
import pytest
import yaml
from ray_head import ROOT, ray_head, wait_for

from benchmarks.over_http.open_loop import measure
from serving.launch import Options, _own_environment, own_folder
from twinspire import processes
from twinspire.bundle import Bundle
from twinspire.features.query import Query

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
RATE, SECONDS = 100, 25
BODIES = [orjson.dumps({"query": query, "k": 5}) for query in ("red shoes", "blue mug", "green lamp", "white tent")]


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs and two nodes that hold a replica each."""
    folder = own_folder()
    with ray_head(cpus=0, **_own_environment(Options(""), folder)) as head:
        for _ in range(2):
            head.add_node(1)
        yield head
    processes.end(processes.naming(str(folder)))  # HAProxy outlives what started it
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def url(cluster, tiny_bundle, tmp_path_factory):
    """Where serving/deploy.yaml serves the tiny bundle with two replicas, behind the head's HAProxy alone: nodes on one
    machine cannot each have one."""
    folder, port = tmp_path_factory.mktemp("served"), processes.free_port()
    config = yaml.safe_load((ROOT / "serving" / "deploy.yaml").read_text())
    config |= {"proxy_location": "HeadOnly", "http_options": {"host": "127.0.0.1", "port": port}}
    config["applications"][0]["args"] |= {
        "bundle": str(tiny_bundle),
        "state_dir": str(folder / "state"),
        "events_dir": str(folder / "events"),
        "min_replicas": 2,
        "max_replicas": 2,
    }
    (folder / "deploy.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "ray.serve.scripts", "deploy", "deploy.yaml", "--address", cluster.url]
    subprocess.run(command, cwd=folder, env=cluster.environment, check=True, capture_output=True, timeout=120)
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: status(f"{url}/readyz") == 200 and len(replicas(cluster)) == 2)
    return url


def status(url):
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.HTTPError:
        return None


def replicas(cluster):
    """Process ids of replicas, and the nodes whose they are."""
    found = processes.naming("ray::ServeReplica")
    return {
        pid: node
        for node in cluster.nodes
        if node.process.poll() is None
        for pid in found & processes.descendants(node.process.pid)
    }


def test_a_deployed_application_answers_as_the_bundle_does(url, tiny_bundle):
    answer = httpx.post(f"{url}/v1/search", json={"query": "red shoes", "k": 5}).json()
    bundle = Bundle.load(tiny_bundle)
    rows = bundle.search([Query("red shoes")], 5).items[0]
    assert [item["item_id"] for item in answer["items"]] == [bundle.item_ids[row] for row in rows]


def test_a_node_that_is_lost_loses_no_request(cluster, url):
    seen = []
    load = threading.Thread(target=lambda: seen.append(measure(f"{url}/v1/search", BODIES, RATE, SECONDS)))
    load.start()
    time.sleep(5)
    lost = next(iter(replicas(cluster).values()))
    lost.kill()
    load.join(SECONDS + 60)
    assert Counter(seen[0].status) == {200: RATE * SECONDS}
    assert len(replicas(cluster)) == 1
    cluster.add_node(1)
    wait_for(lambda: len(replicas(cluster)) == 2)
    assert status(f"{url}/readyz") == 200
