"""A real server that follows a real MLflow: a webhook tells it at once, and an MLflow that dies changes nothing."""

import shutil
import signal
import threading
import time
from collections import Counter

import httpx
import orjson
import pytest
from edited import edit_manifest
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from mlflow_server import MlflowServer
from running import Running

from benchmarks.over_http.open_loop import measure
from twinspire import registry
from twinspire.mlflow_client import connect

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
RATE, SECONDS = 100, 15
BODIES = [orjson.dumps({"query": query, "k": 5}) for query in ("red shoes", "blue mug", "green lamp")]
SECRET = "a secret of this test alone"
MOVED = WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)


@pytest.fixture
def mlflow_server(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'server.db'}"
    connect(uri, create=True)
    monkeypatch.setenv("TWINSPIRE_CACHE", str(tmp_path / "cache"))
    with MlflowServer(uri, tmp_path) as running:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
        yield running


@pytest.fixture
def served(mlflow_server, tiny_bundle, tmp_path):
    """A server that follows the champion of two versions; it would look by itself only every hour, or as told."""
    for number in (1, 2):
        folder = tmp_path / f"bundle-{number}"
        shutil.copytree(tiny_bundle, folder)
        edit_manifest(folder, version=str(number))
        registry.register(folder, "shop")
    registry.promote(registry.unjudged("shop", 1), force="the first")
    servers = []

    def start(follow="3600"):
        environment = {"TWINSPIRE_WEBHOOK_SECRET": SECRET}
        options = ("--follow", follow, "--replicas", "2")
        servers.append(Running("models:/shop@champion", tmp_path, *options, environment=environment))
        servers[0].wait_until_ready()
        return servers[0]

    yield start
    assert not servers[0].end(signal.SIGINT), "processes stay"


def versions_served(server, asks=40):
    """Versions that the replicas serve: several connections, so that each of them answers some."""
    return Counter(httpx.get(f"{server.url}/v1/status").json()["model"]["version"] for _ in range(asks))


def until_all_serve(server, version, within):
    started = time.monotonic()
    while set(versions_served(server)) != {version}:
        assert time.monotonic() - started < within, versions_served(server)
        time.sleep(0.1)
    return time.monotonic() - started


def test_a_webhook_of_mlflow_moves_all_replicas_at_once(served):
    server = served()
    hook = MlflowClient().create_webhook("serving", f"{server.url}/v1/webhooks/mlflow", [MOVED], secret=SECRET)
    tried = MlflowClient().test_webhook(hook.webhook_id)
    assert (tried.success, tried.response_status) == (True, 202), tried
    assert set(versions_served(server)) == {"1"}
    registry.promote(registry.unjudged("shop", 2), force="better")
    until_all_serve(server, "2", within=20)
    registry.rollback("shop")
    until_all_serve(server, "1", within=20)
    MlflowClient().update_webhook(hook.webhook_id, secret="not the secret of the server")
    assert MlflowClient().test_webhook(hook.webhook_id).response_status == 401


def test_shoppers_do_not_notice_that_mlflow_dies(served, mlflow_server):
    server = served(follow="0.5")
    seen = {}

    def load():
        seen["all"] = measure(f"{server.url}/v1/search", BODIES, RATE, SECONDS)

    loading = threading.Thread(target=load)
    loading.start()
    time.sleep(4)
    mlflow_server.kill()
    deadline = time.monotonic() + 30
    while not (told := httpx.get(f"{server.url}/v1/status").json())["unreachable"]:
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
    assert "does not answer" in told["unreachable"]["default"] or "MLflow" in told["unreachable"]["default"]
    assert told["model"]["version"] == "1"
    loading.join(SECONDS + 60)
    assert Counter(seen["all"].status) == {200: RATE * SECONDS}
