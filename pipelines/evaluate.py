"""Evaluate: a bundle against its baselines, on clicks later than its training and on judgements."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.errors import DatasetError
from twinspire.evaluation import (
    EvaluationConfig,
    Report,
    System,
    TrainingClicks,
    baselines,
    cases,
    evaluate,
    judged_pairs,
)
from twinspire.evaluation.model_system import ModelSystem
from twinspire.features.log import LogConfig, Positives, read_positives

if TYPE_CHECKING:
    from pathlib import Path


def evaluate_bundle(
    bundle_folder: Path, data: Path, config: EvaluationConfig, *, quarantine: Path | None = None
) -> Report:
    """Compare a bundle with BM25, query memory and popularity on the dataset's later clicks and judgements.

    Errors: DatasetError where nothing in the dataset is later than the training, and it holds no judgements.
    """
    source = dataset.read(data, quarantine=quarantine)
    bundle = Bundle.load(bundle_folder)
    catalogue = bundle.items
    positives = _positives(source, bundle)
    every = cases(positives)
    until = bundle.manifest.trained_until
    last = datetime.fromisoformat(until) if until else datetime.min
    later = every.filter(pl.col("timestamp") > last) if until else every
    judged = None if source.judgements is None else judged_pairs(source.judgements, catalogue)
    if later.is_empty() and (judged is None or judged.is_empty()):
        raise DatasetError(
            f"interactions: none is later than the bundle's training ({until}), and there are no judgements; give "
            "later data, or fit with --set log.holdout_days=N and evaluate on the same data"
        )
    training = _training(every.filter(pl.col("timestamp") <= last) if until else every.head(0), bundle)
    systems: list[System] = [ModelSystem(bundle, positives, source.users), *baselines(catalogue["title"], training)]
    return evaluate(
        systems,
        later,
        titles=catalogue["title"],
        training=training,
        judgements=judged,
        config=config,
        show_progress=True,
    )


def _positives(source: dataset.Dataset, bundle: Bundle) -> Positives:
    """The whole log over the bundle's items: clicks on items that it does not hold are no cases."""
    events = bundle.manifest.config["log"]["events"]
    if source.interactions is None:
        return read_positives(source, LogConfig(events=events))
    known = bundle.items.select("item_id").lazy()
    held = source.interactions.join(known, on="item_id", how="semi")
    return read_positives(replace(source, items=bundle.items, interactions=held), LogConfig(events=events))


def _training(clicks: pl.DataFrame, bundle: Bundle) -> TrainingClicks:
    """Counts from the dataset's own earlier clicks, or, where it has none, from what the bundle remembers."""
    if not clicks.is_empty():
        return TrainingClicks.of(clicks, len(bundle.items))
    queries = pl.read_parquet(bundle.folder / "queries.parquet")
    return TrainingClicks.remembered(queries, bundle.items["clicks"].to_numpy())
