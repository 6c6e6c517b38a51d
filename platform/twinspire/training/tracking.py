"""MLflow at the edge of training: one run a fit, found again after a restart."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.exceptions import MlflowException

from twinspire.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PARAM = 500


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else an SQLite file in the working directory, as MLflow itself has it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def start_run(experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> tuple[str, str]:
    """Open a run and log its params; gives the tracking URI and the run id.

    Errors: EnvironmentProblem where MLflow does not answer.
    """
    uri = tracking_uri()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        client = mlflow.MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment, _artifacts(uri))
        run = client.create_run(experiment_id, run_name=name, tags=dict(tags))
        for key, value in params.items():
            client.log_param(run.info.run_id, key, str(value)[:MAX_PARAM])
    except MlflowException as error:
        raise EnvironmentProblem(f"MLflow at {uri}: {_first_line(error)}") from None
    return uri, run.info.run_id


def log_manifest(uri: str, run_id: str, manifest: Mapping[str, Any]) -> None:
    """Keep a bundle's manifest with the run: resolved config, table sizes, measured recall, checksums."""
    client = mlflow.MlflowClient(uri)
    client.log_dict(run_id, dict(manifest), "manifest.json")
    index = manifest["index"]
    client.log_metric(run_id, "index/recall_at_100", index["recall_at_100"])
    client.log_metric(run_id, "index/search_ms", index["search_ms"])


def finish_run(uri: str, run_id: str, *, ok: bool) -> None:
    """Close the run as finished or failed."""
    mlflow.MlflowClient(uri).set_terminated(run_id, "FINISHED" if ok else "FAILED")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config to `section.key` params."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _artifacts(uri: str) -> str | None:
    """Beside an SQLite store; a tracking server decides for itself."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").absolute().as_uri()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
