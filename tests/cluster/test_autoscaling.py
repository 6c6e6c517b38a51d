"""The cluster of ray_cluster.yaml on one machine, by Ray's fake nodes: a job asks for workers, they come and go."""

import subprocess
import sys

import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)
from ray.autoscaler._private.util import prepare_config
from ray_head import ROOT, ray_head, wait_for

from twinspire.bundle import Manifest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
MOST_CPUS = 3  # of a fake node: Ray starts a process for each
IDLE_S = 30
FAKE = {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}


@pytest.fixture
def head():
    config = prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))
    # Not by its own name: then Ray looks for a file of defaults that its wheel does not have.
    fake = {"type": "external", "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}"}
    own = {"head_node_id": FAKE_HEAD_NODE_ID, "launch_multiple": True, "disable_node_updaters": True}
    config["provider"] = fake | own
    config["idle_timeout_minutes"] = IDLE_S / 60
    types = config["available_node_types"]
    for kind in types.values():
        kind["resources"]["CPU"] = min(kind["resources"]["CPU"], MOST_CPUS)
        kind["node_config"] = {}
    types[FAKE_HEAD_NODE_TYPE] = types.pop("head")
    config |= {"head_node_type": FAKE_HEAD_NODE_TYPE, "file_mounts": {}, "auth": {}}
    with ray_head(cpus=0, autoscaling=config, **FAKE) as running:
        yield running


def test_workers_come_for_a_fit_and_go_when_it_has_ended(head, tiny_dataset, tmp_path):
    assert head.workers() == []
    out = tmp_path / "bundle"
    settings = ("training.workers=4", "training.rounds=1", "training.refit=false")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    fit = subprocess.Popen(
        [sys.executable, "-m", "twinspire", "fit", "--data", tiny_dataset, "--out", out]
        + [part for setting in settings for part in ("--set", setting)],
        # Not by --submit: fake nodes share a folder, and one that comes or goes takes a job's uploaded files along.
        env=head.environment | {"RAY_ADDRESS": head.address, "MLFLOW_TRACKING_URI": store},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    most, kinds = 0, set[str]()
    while fit.poll() is None:
        workers = head.workers()
        most = max(most, len(workers))
        kinds = kinds.union(*(worker["resources_total"] for worker in workers))
        try:
            fit.wait(2)
        except subprocess.TimeoutExpired:
            continue
    with fit.stdout:
        told = fit.stdout.read()
    assert fit.returncode == 0, told
    assert Manifest.read(out).items > 0
    assert most >= 2
    assert "CPU" in kinds
    assert "GPU" not in kinds, "nobody asked for one"
    wait_for(lambda: not head.workers(), 8 * IDLE_S)
