"""Evaluate: a bundle against its baselines and other bundles, on clicks later than their training and on judgements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.errors import BundleError
from twinspire.evaluation import EvaluationConfig, Report, System, baselines, evaluate
from twinspire.evaluation.encoder import EncoderSystem, load_encoder
from twinspire.evaluation.ground import Ground
from twinspire.evaluation.model_system import ModelSystem

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
) -> Report:
    """Compare a bundle with BM25, query memory, popularity, the bundles `against`, and a sentence `encoder`'s folder.

    Errors: DatasetError where nothing in the dataset is later than the training of every bundle, and it holds no
    judgements; BundleError for bundles of another catalogue or of one name; EnvironmentProblem for the encoder.
    """
    names = [OWN, *_names(against)]
    bundles = [Bundle.load(folder) for folder in (bundle, *against)]
    loaded = load_encoder(encoder) if encoder is not None else None
    source = dataset.read(data, quarantine=quarantine)
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


def _names(against: Sequence[Path]) -> list[str]:
    """What the report calls other bundles: their folders' names."""
    names = [folder.absolute().name for folder in against]
    for folder, name in zip(against, names, strict=True):
        if name in TAKEN or names.count(name) > 1:
            raise BundleError(f"--against {folder}: the report has another system named {name!r}; rename the folder")
    return names
