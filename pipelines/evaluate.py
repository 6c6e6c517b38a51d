"""Evaluate: a bundle against its baselines and other bundles, on clicks later than their training and on judgements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlflow.entities import Metric

from twinspire import dataset
from twinspire.bundle import Bundle, Manifest
from twinspire.dataset.config import MAX_BAD_SHARE
from twinspire.errors import BundleError, EnvironmentProblem, RegistryError
from twinspire.evaluation import EvaluationConfig, Report, System, baselines, evaluate
from twinspire.evaluation.encoder import EncoderSystem
from twinspire.evaluation.ground import Ground
from twinspire.evaluation.model_system import ModelSystem
from twinspire.mlflow_client import clear_errors, connect
from twinspire.registry.figures import report_figures
from twinspire.teacher.encoder import load_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OWN = "model"
TAKEN = (OWN, "bm25", "bm25-u&b", "query memory", "popularity", "encoder")


def evaluate_bundle(
    bundle: Path,
    data: Path,
    config: EvaluationConfig,
    *,
    against: Sequence[Path] = (),
    encoder: Path | None = None,
    quarantine: Path | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
) -> Report:
    """Compare a bundle with BM25, query memory, popularity, the bundles `against`, and a sentence `encoder`'s folder.

    Errors: DatasetError where nothing in the dataset is later than the training of every bundle, and it holds no
    judgements; BundleError for bundles of another catalogue or of one name; EnvironmentProblem for the encoder.
    """
    names = [OWN, *_names(against)]
    bundles = [Bundle.load(folder) for folder in (bundle, *against)]
    loaded = load_encoder(encoder) if encoder is not None else None
    source = dataset.read(data, quarantine=quarantine, max_bad_share=max_bad_share)
    ground = Ground.of(source, bundles)
    titles = ground.items["title"]
    systems: list[System] = [
        *(ModelSystem(b, ground.positives, source.users, name) for b, name in zip(bundles, names, strict=True)),
        *baselines(titles, ground.training),
    ]
    if loaded is not None:
        systems.append(EncoderSystem(loaded, titles, show_progress=True))
    return evaluate(
        systems,
        ground.cases,
        titles=titles,
        training=ground.training,
        judgements=ground.judgements,
        config=config,
        show_progress=True,
    )


def log_report(bundle: Path, report: Path) -> str | None:
    """Log a report's figures and file to the run that trained the bundle; gives the reason where that cannot be."""
    run_id = Manifest.read(bundle).mlflow_run_id
    if run_id is None:
        return "the bundle was trained without a run"
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in report_figures(report).items()]
    try:
        client = connect()
        with clear_errors(client):
            client.log_batch(run_id, metrics)
            client.log_artifact(run_id, str(report))
    except (RegistryError, EnvironmentProblem) as problem:
        return str(problem)
    return None


def _names(against: Sequence[Path]) -> list[str]:
    """What the report calls other bundles: their folders' names."""
    names = [folder.absolute().name for folder in against]
    for folder, name in zip(against, names, strict=True):
        if name in TAKEN or names.count(name) > 1:
            raise BundleError(f"--against {folder}: the report has another system named {name!r}; rename the folder")
    return names


if __name__ == "__main__":
    from twinspire.cli import main

    main("evaluate")
