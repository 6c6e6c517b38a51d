"""Two bundles, or one alone, measured on the same ground: quality, changed results, recall, latency, size.

Catalogues may differ: shops gain and lose items between two fits. Both are measured on the items of either; an item
that a bundle does not hold ranks last there, since its shoppers cannot find it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from twinspire.bundle import check_canaries
from twinspire.bundle.manifest import MANIFEST, sha256
from twinspire.errors import BundleError
from twinspire.evaluation.changes import Change, changes
from twinspire.evaluation.ground import Ground
from twinspire.evaluation.model_system import ModelSystem
from twinspire.evaluation.protocol import EvaluationConfig, evaluate
from twinspire.evaluation.report import Report, Section
from twinspire.features.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.bundle import Bundle
    from twinspire.dataset import Dataset

TIMED_QUERIES, TIMED_K = 200, 100


class Side(BaseModel):
    """One bundle of a comparison; times are of one search at a time on the machine that compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    checksum: str
    items: int
    bytes: int
    trained_until: str | None
    index: str
    recall_at_100: float
    p50_ms: float
    p99_ms: float
    canaries: int
    canary_problem: str | None = None


class Comparison(BaseModel):
    """What was found. `report` names its systems by the sides' labels; `changes` has the most changed queries first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    dataset: str
    dataset_fingerprint: str
    first: Side
    second: Side | None
    report: Report
    changes: list[Change] = []
    queries_asked: int = 0
    mean_overlap: float | None = None

    def where(self, metric: str) -> Section | None:
        """The section over all cases that has a metric: of clicks, or of judged pairs; None where neither has."""
        for section in (self.report.slices.get("all"), self.report.judgements):
            if section is not None and section.cases and metric in next(iter(section.systems.values())):
                return section
        return None


def compare(
    first: tuple[str, Bundle],
    second: tuple[str, Bundle] | None,
    source: Dataset,
    *,
    config: EvaluationConfig | None = None,
    show_progress: bool = False,
) -> Comparison:
    """Measure a bundle against another one, each given with its label, on clicks later than the training of both.

    Errors: DatasetError where there is nothing later and no judgements.
    """
    named = [first] if second is None else [first, second]
    bundles = [bundle for _, bundle in named]
    ground = Ground.of(source, bundles, joined=True)
    catalogue = ground.items["item_id"]
    systems = [ModelSystem(bundle, ground.positives, source.users, label, catalogue) for label, bundle in named]
    report = evaluate(
        systems,
        ground.cases,
        titles=ground.items["title"],
        training=ground.training,
        judgements=ground.judgements,
        config=config,
        show_progress=show_progress,
    )
    queries = ground.cases["query"].value_counts(sort=True)["query"].head(TIMED_QUERIES).to_list()
    times = _times(bundles, queries or bundles[0].items["title"].head(TIMED_QUERIES).to_list())
    sides = [_side(label, bundle, spent) for (label, bundle), spent in zip(named, times, strict=True)]
    changed = changes(bundles[0], bundles[1], ground) if second is not None else None
    return Comparison(
        dataset=str(source.path),
        dataset_fingerprint=source.fingerprint,
        first=sides[0],
        second=sides[1] if second is not None else None,
        report=report,
        changes=changed.most if changed else [],
        queries_asked=changed.asked if changed else 0,
        mean_overlap=changed.mean_overlap if changed else None,
    )


def _times(bundles: Sequence[Bundle], texts: Sequence[str]) -> list[list[float]]:
    """Milliseconds of one search for each text, by bundle; in turns, so that a busy machine is unfair to none."""
    for bundle in bundles:  # compiled code and page faults are not the search's
        for text in texts[:3]:
            bundle.search([Query(text)], min(TIMED_K, len(bundle.items)))
    spent: list[list[float]] = [[] for _ in bundles]
    for text in texts:
        for bundle, times in zip(bundles, spent, strict=True):
            started = time.perf_counter()
            bundle.search([Query(text)], min(TIMED_K, len(bundle.items)))
            times.append((time.perf_counter() - started) * 1000)
    return spent


def _side(label: str, bundle: Bundle, spent: list[float]) -> Side:
    manifest, problem, asked = bundle.manifest, None, 0
    try:
        asked = check_canaries(bundle)
    except BundleError as error:
        problem = str(error)
    p50, p99 = np.quantile(spent, [0.5, 0.99])
    return Side(
        label=label,
        checksum=sha256(bundle.folder / MANIFEST),
        items=len(bundle.items),
        bytes=sum((bundle.folder / file).stat().st_size for file in manifest.files),
        trained_until=manifest.trained_until,
        index=manifest.index.factory,
        recall_at_100=manifest.index.recall_at_100,
        p50_ms=round(float(p50), 4),
        p99_ms=round(float(p99), 4),
        canaries=asked,
        canary_problem=problem,
    )
