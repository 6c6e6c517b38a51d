"""Bundles side by side on one day's clicks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks.month.days import FIRST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.month.days import Shop
    from twinspire.bundle import Bundle

METRICS = ("mrr", "hit@1", "recall@10")


def measured(shop: Shop, day: int, bundles: Mapping[str, Bundle], *, old_items_of: str) -> dict[str, dict[str, Any]]:
    """Of a day's clicks, and of those on items that the bundle `old_items_of` knows: each bundle's metrics, and the
    first bundle's less each other one's, as value, low and high. None of the bundles may have seen the day.

    An item that a bundle does not hold ranks last there.
    """
    from twinspire import dataset
    from twinspire.evaluation.ground import Ground

    shop.open(day)
    source = dataset.read(shop.data)
    ground = Ground.of(source, list(bundles.values()), joined=True)
    cases = ground.cases.filter(pl.col("timestamp") >= FIRST + timedelta(days=day))
    known = ground.items["item_id"].is_in(bundles[old_items_of].items["item_id"].implode())
    old = cases.filter(known.gather(cases["item"]))
    return {name: _compared(bundles, ground, source, part) for name, part in (("all", cases), ("old items", old))}


def _compared(bundles: Mapping[str, Bundle], ground: Any, source: Any, cases: pl.DataFrame) -> dict[str, Any]:
    from twinspire.evaluation import EvaluationConfig, evaluate
    from twinspire.evaluation.model_system import ModelSystem

    catalogue = ground.items["item_id"]
    systems = [ModelSystem(bundle, ground.positives, source.users, name, catalogue) for name, bundle in bundles.items()]
    found = evaluate(
        systems, cases, titles=ground.items["title"], training=ground.training, config=EvaluationConfig()
    ).slices["all"]
    first, *others = bundles
    return {
        "cases": found.cases,
        **{name: _rounded(found.systems[name]) for name in bundles},
        "difference": {other: _rounded(found.differences[f"{first} - {other}"]) for other in others},
    }


def _rounded(figures: Any) -> dict[str, list[float]]:
    return {
        metric: [round(float(value), 4) for value in (figures[metric].value, figures[metric].low, figures[metric].high)]
        for metric in METRICS
    }
