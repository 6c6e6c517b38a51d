"""MLflow at the edge of training: one run a fit, found again after any restart, each figure in it once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric, Param, RunStatus

from twinspire.mlflow_client import artifact_root, clear_errors, connect, tracking_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient

MAX_PARAM = 500
MAX_METRICS = 1000  # of one request
FIT_TAG = "twinspire.fit"


def start_run(
    experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str], fit: str | None = None
) -> tuple[str, str]:
    """Open a run and log its params; gives the tracking URI and the run id.

    `fit` is the fit's own id: where a run of it is there already, that one goes on.
    Errors: EnvironmentProblem where MLflow does not answer.
    """
    uri = tracking_uri()
    client = connect(uri, create=True)
    with clear_errors(client):
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment, artifact_root(uri))
        run_id = _run_of(client, experiment_id, fit) if fit and found else None
        if run_id is None:
            own = {FIT_TAG: fit} if fit else {}
            run_id = client.create_run(experiment_id, run_name=name, tags=dict(tags) | own).info.run_id
        else:
            client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
        entries = [Param(key, str(value)[:MAX_PARAM]) for key, value in params.items()]
        client.log_batch(run_id, params=entries)
    return uri, run_id


def abandon_run(experiment: str, fit: str) -> None:
    """Mark the run of a fit that nobody will continue as killed, where there is one."""
    client = connect(tracking_uri(), create=True)
    with clear_errors(client):
        found = client.get_experiment_by_name(experiment)
        run_id = _run_of(client, found.experiment_id, fit) if found else None
        if run_id is not None:
            client.set_terminated(run_id, "KILLED")


class RoundLog:
    """Brings a training's history to its run: what is there already, from before a restart, is not logged again."""

    def __init__(self, uri: str, run_id: str) -> None:
        self._uri, self._run_id = uri, run_id
        self._there: set[tuple[str, int]] = set()
        self._looked: set[str] = set()

    def bring(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log what the run lacks of `history`: records of metrics by name, with their `round`.

        Errors: EnvironmentProblem where MLflow does not answer; the next call makes up for it.
        """
        client = connect(self._uri)
        with clear_errors(client):
            points = {
                (name, int(record["round"])): value
                for record in history
                for name, value in record.items()
                if name != "round"
            }
            for name in {name for name, _ in points} - self._looked:
                self._there |= {(name, point.step) for point in client.get_metric_history(self._run_id, name)}
                self._looked.add(name)
            missing = sorted(points.keys() - self._there, key=lambda point: point[1])
            now = int(time.time() * 1000)
            metrics = [Metric(name, points[name, step], now, step) for name, step in missing]
            for start in range(0, len(metrics), MAX_METRICS):
                client.log_batch(self._run_id, metrics=metrics[start : start + MAX_METRICS])
            self._there |= set(missing)


def log_manifest(uri: str, run_id: str, manifest: Mapping[str, Any]) -> None:
    """Keep a bundle's manifest with the run: resolved config, table sizes, measured recall, checksums."""
    client = connect(uri)
    client.log_dict(run_id, dict(manifest), "manifest.json")
    index = manifest["index"]
    client.log_metric(run_id, "index/recall_at_100", index["recall_at_100"])
    if index.get("recall_at_1000") is not None:
        client.log_metric(run_id, "index/recall_at_1000", index["recall_at_1000"])
    client.log_metric(run_id, "index/search_ms", index["search_ms"])


def log_metrics(uri: str, run_id: str, metrics: Mapping[str, float]) -> None:
    """Keep figures with the run."""
    client = connect(uri)
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])


def finish_run(uri: str, run_id: str, status: str) -> None:
    """Close the run as FINISHED, FAILED or KILLED."""
    connect(uri).set_terminated(run_id, status)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config to `section.key` params."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _run_of(client: MlflowClient, experiment_id: str, fit: str) -> str | None:
    found = client.search_runs([experiment_id], f"tags.`{FIT_TAG}` = '{fit}'", max_results=1)
    return found[0].info.run_id if found else None
