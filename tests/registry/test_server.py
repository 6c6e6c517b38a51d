"""The same against a tracking server: what is registered on one machine is fetched on another."""

import shutil
import subprocess
import sys

import pytest
from mlflow_server import MlflowServer

from twinspire import registry
from twinspire.bundle import Bundle
from twinspire.features.query import Query

# What someone writes who has never heard of us.
STRANGER = """
import mlflow, sys
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/shop@champion")
print(model.metadata.signature.inputs.input_names())
print(len(model.predict(model.input_example)))
print(",".join(model.predict({"query": "red shoes"}, params={"k": 3})["item_id"]))
"""


@pytest.fixture(scope="module")
def server(empty_store, tmp_path_factory):
    """An MLflow tracking server that keeps and serves the artifacts."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "server.db")
    with MlflowServer(f"sqlite:///{folder / 'server.db'}", folder) as running:
        yield running.uri


def test_a_bundle_goes_there_and_back_and_plain_mlflow_loads_it(server, tiny_bundle, tmp_path):
    version = registry.register(tiny_bundle, "shop", uri=server, alias="champion", metrics={"mrr": 0.5})
    assert registry.show("shop@champion", uri=server).metrics["mrr"] == 0.5
    assert registry.list_versions(uri=server)[0].aliases == ("champion",)
    folder = registry.fetch(version.uri, uri=server, cache=tmp_path / "cache")
    found = Bundle.load(folder).search([Query("red shoes")], 3)
    assert found.items.tolist() == Bundle.load(tiny_bundle).search([Query("red shoes")], 3).items.tolist()
    told = subprocess.run(
        [sys.executable, "-c", STRANGER, server], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    bundle = Bundle.load(tiny_bundle)
    ids = ",".join(bundle.item_ids[row] for row in found.items[0])
    assert told.splitlines()[-3:] == ["['query', 'user_id']", "10", ids]
