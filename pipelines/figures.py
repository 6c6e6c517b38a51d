"""Pictures of a bundle: its items by category (Fig. 5) and the results of its heads (Fig. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from mlflow.exceptions import MlflowException

from pipelines.heads import checked
from twinspire.bundle import Bundle, Manifest
from twinspire.errors import DatasetError
from twinspire.evaluation.figures import heads, items, recall
from twinspire.evaluation.figures.page import Part, write_page
from twinspire.evaluation.labels import item_labels
from twinspire.features.query import Query
from twinspire.mlflow_client import NOT_THERE, artifact_root, clear_errors, connect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow import MlflowClient

EXPERIMENT = "twinspire"  # of bundles whose training run this MLflow does not have
FOLDER = "figures"  # where a run keeps them


def draw_bundle(
    bundle_folder: Path,
    out: Path,
    queries: Sequence[str],
    *,
    column: str | None = None,
    level: int = 2,
    size: int = 5000,
    seed: int = 0,
) -> list[Path]:
    """Write `items.png`, `heads.png` and `figures.html`, the same to look closer, into the folder `out`; `recall.png`
    too where the index was tuned.

    Categories are `column` of the bundle's items cut at `level` (see `item_labels`); `size` items are placed.
    Errors: BundleError; ConfigError for a column that the items lack; DatasetError for a folder that cannot be written.
    """
    bundle = Bundle.load(bundle_folder)
    labels = item_labels(bundle.items, column, level, needed=True)
    above = item_labels(bundle.items, column, max(level - 1, 1))
    titles, vectors = bundle.items["title"], np.asarray(bundle.item_vectors)
    by_category = items.item_map(vectors, titles, labels, above, size=size, seed=seed)
    embedded = {text: bundle.embed([Query(text)])[0] for text in checked(queries)}
    finer = item_labels(bundle.items, "brand") if "brand" in bundle.items.columns else labels
    by_head = heads.head_map(embedded, vectors, bundle.items, labels, finer, seed=seed)
    parts = [
        Part(by_category.title, by_category.detail, items.interactive(by_category)),
        Part(by_head.title, by_head.detail, heads.interactive(by_head)),
    ]
    tuned = recall.recall_chart(bundle.manifest.index.curve, recall_target(bundle.manifest))
    if tuned is not None:
        parts.append(Part(tuned.title, tuned.detail, recall.interactive(tuned)))
    try:
        return [
            items.draw(by_category, out / "items.png"),
            heads.draw(by_head, out / "heads.png"),
            *([] if tuned is None else [recall.draw(tuned, out / "recall.png")]),
            write_page(out / "figures.html", f"Bundle {bundle.manifest.name}", parts),
        ]
    except OSError as error:
        raise DatasetError(f"--out {out}: {error.strerror or error}") from None


def log_recall(manifest: Manifest, folder: Path) -> None:
    """Draw how the index was tuned, where it was, and keep the picture with the bundle's training run.

    Errors: EnvironmentProblem where MLflow does not answer.
    """
    tuned = recall.recall_chart(manifest.index.curve, recall_target(manifest))
    if tuned is not None:
        log_figures([recall.draw(tuned, folder / "recall.png")], manifest.name, manifest.mlflow_run_id)


def recall_target(manifest: Manifest) -> float:
    """The recall that the bundle's index was tuned to."""
    return float(manifest.config["index"]["recall_target"])


def log_figures(paths: Sequence[Path], name: str, run_id: str | None = None) -> str:
    """Keep files with the MLflow run `run_id`, or where the store does not have it with a new run; gives its id.

    Errors: EnvironmentProblem where MLflow does not answer.
    """
    client = connect(create=True)
    with clear_errors(client):
        own = None if _exists(client, run_id) else _new_run(client, f"figures of {name}")
        run = own or str(run_id)
        for path in paths:
            client.log_artifact(run, str(path), FOLDER)
        if own is not None:
            client.set_terminated(own)
        return run


def _exists(client: MlflowClient, run_id: str | None) -> bool:
    if run_id is None:
        return False
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == NOT_THERE:
            return False
        raise


def _new_run(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    root = artifact_root(client.tracking_uri)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, root)
    return str(client.create_run(experiment, run_name=name).info.run_id)


if __name__ == "__main__":
    from twinspire.cli import main

    main("figures")
