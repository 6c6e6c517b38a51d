"""A node that is lost with its worker: training waits for capacity and goes on from the last checkpoint."""

import time
from concurrent.futures import ThreadPoolExecutor

import mlflow
import pytest
import ray

from twinspire import cluster, dataset
from twinspire.config import load_config
from twinspire.features.encode import encode
from twinspire.training.mlflow_run import start_run
from twinspire.training.run import train

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray, of its own settings
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # MLflow, of its own queries
]

ROUNDS = 3
WORKER_NODE = {"num_cpus": 6}
WITHIN_S = 300


@pytest.fixture
def two_nodes(monkeypatch):
    """A head that runs nothing but the driver and the controller, and one node for the workers."""
    cluster.quiet_environment()
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    node = nodes.add_node(**WORKER_NODE)
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    with cluster.session():
        yield nodes, node
    nodes.shutdown()


def lose(nodes, node, checkpoints):
    """Once there is a checkpoint, kill the node; some seconds later, start another."""
    until = time.monotonic() + WITHIN_S
    while not list(checkpoints.glob("[0-9]*")) and time.monotonic() < until:
        time.sleep(0.1)
    nodes.remove_node(node, allow_graceful=False)
    time.sleep(5)  # nothing to train on
    nodes.add_node(**WORKER_NODE)


def test_training_goes_on_when_there_is_capacity_again(two_nodes, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    short = (f"training.rounds={ROUNDS}", "training.patience=9", "training.refit=false", "training.batch_size=8")
    config = load_config(None, (*short, "training.checkpoint_minutes=0.005"))
    source = dataset.read(tiny_dataset, require_interactions=True)
    encoded, _ = encode(source, config.features, config.log, config.text, tmp_path / "encoded", 0)
    uri, run_id = start_run("ray", "test", {}, {})
    storage = tmp_path / "train"
    with ThreadPoolExecutor(1) as beside:  # Ray starts nodes in the main thread only
        training = beside.submit(train, encoded, config, storage, mlflow_uri=uri, run_id=run_id)
        lose(*two_nodes, storage / "checkpoints")
        summary = training.result(WITHIN_S).summary
    assert summary["phase"] == "done"
    assert summary["steps"] == ROUNDS * (encoded.meta.rows["training"] // 8)
    assert len(list(storage.glob("train-*"))) >= 2, "the workers were started again"
    steps = [point.step for point in mlflow.MlflowClient(uri).get_metric_history(run_id, "validation/mrr")]
    assert steps == list(range(1, ROUNDS + 1))
    assert len(ray.nodes()) == 3
