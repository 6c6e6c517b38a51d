"""A log that is refused before there is a model to judge: kept in MLflow as a run of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from twinspire.mlflow_client import clear_errors, connect
from twinspire.training.mlflow_run import finish_run, start_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.dataset import Report

OUTCOME_TAG = "retrain_outcome"


def keep_refusal(name: str, experiment: str, report: Report, reasons: Sequence[str]) -> str:
    """One run for each log that a model is refused for, however often it is tried; gives its id.

    It has the counts as metrics, the reasons as `reasons.txt`, and the dataset's report. Errors: EnvironmentProblem.
    """
    told = hashlib.sha256(f"{name} {report.fingerprint} {' '.join(reasons)}".encode()).hexdigest()[:32]
    tags = {"dataset_fingerprint": report.fingerprint, "retrain_model": name, OUTCOME_TAG: "refused: the log"}
    uri, run_id = start_run(experiment, f"retrain {name}", {}, tags, f"refusal-{told}")
    client = connect(uri)
    with clear_errors(client):
        for table, found in report.tables.items():
            client.log_metric(run_id, f"rows/{table}", found.rows)
            client.log_metric(run_id, f"bad_rows/{table}", found.bad_rows)
        client.log_text(run_id, "\n".join(reasons) + "\n", "reasons.txt")
        client.log_text(run_id, report.model_dump_json(indent=2), "dataset_report.json")
        finish_run(uri, run_id, "FINISHED")
    return run_id
