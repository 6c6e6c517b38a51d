"""MLflow at the edge of training: one run a fit, found again after a restart."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, Param

from twinspire.mlflow_client import artifact_root, clear_errors, connect, tracking_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PARAM = 500


def start_run(experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> tuple[str, str]:
    """Open a run and log its params; gives the tracking URI and the run id.

    Errors: EnvironmentProblem where MLflow does not answer.
    """
    uri = tracking_uri()
    client = connect(uri, create=True)
    with clear_errors(client):
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment, artifact_root(uri))
        run = client.create_run(experiment_id, run_name=name, tags=dict(tags))
        entries = [Param(key, str(value)[:MAX_PARAM]) for key, value in params.items()]
        client.log_batch(run.info.run_id, params=entries)
    return uri, run.info.run_id


def log_manifest(uri: str, run_id: str, manifest: Mapping[str, Any]) -> None:
    """Keep a bundle's manifest with the run: resolved config, table sizes, measured recall, checksums."""
    client = connect(uri)
    client.log_dict(run_id, dict(manifest), "manifest.json")
    index = manifest["index"]
    client.log_metric(run_id, "index/recall_at_100", index["recall_at_100"])
    client.log_metric(run_id, "index/search_ms", index["search_ms"])


def log_metrics(uri: str, run_id: str, metrics: Mapping[str, float]) -> None:
    """Keep figures with the run."""
    client = connect(uri)
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])


def finish_run(uri: str, run_id: str, *, ok: bool) -> None:
    """Close the run as finished or failed."""
    connect(uri).set_terminated(run_id, "FINISHED" if ok else "FAILED")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config to `section.key` params."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
