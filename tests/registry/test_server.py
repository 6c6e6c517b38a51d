"""The same against a tracking server: what is registered on one machine is fetched on another."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from twinspire import registry
from twinspire.bundle import Bundle
from twinspire.features.query import Query


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(empty_store, tmp_path):
    """An MLflow tracking server that keeps and serves the artifacts."""
    uri = f"http://127.0.0.1:{_free_port()}"
    shutil.copy(empty_store, tmp_path / "server.db")
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", uri.rpartition(":")[2]]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "server-artifacts")]
    settings = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # its workers take long to start
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path, env=settings)
    try:
        for _ in range(600):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            try:
                urllib.request.urlopen(f"{uri}/health").close()
                break
            except OSError:
                time.sleep(0.1)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_bundle_goes_there_and_back(server, tiny_bundle, tmp_path):
    version = registry.register(tiny_bundle, "shop", uri=server, alias="champion", metrics={"mrr": 0.5})
    assert registry.show("shop@champion", uri=server).metrics["mrr"] == 0.5
    assert registry.list_versions(uri=server)[0].aliases == ("champion",)
    folder = registry.fetch(version.uri, uri=server, cache=tmp_path / "cache")
    found = Bundle.load(folder).search([Query("red shoes")], 3)
    assert found.items.tolist() == Bundle.load(tiny_bundle).search([Query("red shoes")], 3).items.tolist()
