"""The common ground of a comparison: one catalogue, one cut in time, later clicks as cases, and the judgements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from twinspire.errors import BundleError, DatasetError
from twinspire.evaluation.clicks import TrainingClicks, cases
from twinspire.evaluation.judged import judged_pairs
from twinspire.features.log import LogConfig, Positives, read_positives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.bundle import Bundle
    from twinspire.dataset import Dataset


@dataclass(frozen=True)
class Ground:
    """What every system of a comparison is measured on.

    `items` is the catalogue by row. `cases` are clicks later than the training of every bundle, `training` counts
    those before, `positives` is the log that the cases' column `case` points into. `judgements` comes from
    `judged_pairs`, None where there are none.
    """

    items: pl.DataFrame
    positives: Positives
    cases: pl.DataFrame
    training: TrainingClicks
    judgements: pl.DataFrame | None

    @classmethod
    def of(cls, source: Dataset, bundles: Sequence[Bundle], *, joined: bool = False) -> Ground:
        """From a dataset and the bundles that are compared; the first one says which events count.

        Without a bundle every click is a case. With `joined`, catalogues may differ: the ground is the items of all,
        the first bundle's in its order, then the others'. Errors: BundleError for bundles of unlike catalogues (with
        `joined`, of catalogues that share no item), DatasetError where there is nothing to measure on.
        """
        if joined:
            items = _joined(bundles)
        else:
            _refuse_unlike(bundles)
            items = bundles[0].items if bundles else source.items
        positives = _positives(source, items, bundles)
        every = cases(positives)
        ends = [bundle.manifest.trained_until for bundle in bundles if bundle.manifest.trained_until]
        until = max(map(datetime.fromisoformat, ends), default=None)
        earlier, later = every.head(0), every
        if until is not None:
            earlier, later = every.filter(pl.col("timestamp") <= until), every.filter(pl.col("timestamp") > until)
        judged = None if source.judgements is None else judged_pairs(source.judgements, items)
        if later.is_empty() and (judged is None or judged.is_empty()):
            raise DatasetError(
                f"interactions: none on the bundle's items is later than its training ({until}), and there are no "
                "judgements; give later data, or fit with --set log.holdout_days=N and evaluate on the same data"
            )
        return cls(items, positives, later, _training(earlier, items, bundles), judged)


def _refuse_unlike(bundles: Sequence[Bundle]) -> None:
    for other in bundles[1:]:
        first = bundles[0]
        if not other.items["item_id"].equals(first.items["item_id"]):
            raise BundleError(
                f"{other.folder}: its catalogue ({len(other.items):,} items) is not that of {first.folder} "
                f"({len(first.items):,} items); compare bundles that were fitted on the same items table"
            )


def _joined(bundles: Sequence[Bundle]) -> pl.DataFrame:
    """`item_id`, `title` and `clicks` of the items of all bundles, each once."""
    first, *others = bundles
    tables = [bundle.items.select("item_id", "title", "clicks") for bundle in bundles]
    for other, table in zip(others, tables[1:], strict=True):
        if tables[0].join(table, on="item_id", how="semi").is_empty():
            raise BundleError(f"{other.folder}: its catalogue shares no item with that of {first.folder}")
    return pl.concat(tables, how="vertical_relaxed").unique("item_id", keep="first", maintain_order=True)


def _positives(source: Dataset, items: pl.DataFrame, bundles: Sequence[Bundle]) -> Positives:
    """The whole log over the catalogue: clicks on items that it does not hold are no cases."""
    config = LogConfig(events=bundles[0].manifest.config["log"]["events"]) if bundles else LogConfig()
    if source.interactions is None:
        return read_positives(source, config)
    held = source.interactions.join(items.select("item_id").lazy(), on="item_id", how="semi")
    return read_positives(replace(source, items=items, interactions=held), config)


def _training(clicks: pl.DataFrame, items: pl.DataFrame, bundles: Sequence[Bundle]) -> TrainingClicks:
    """Counts from the dataset's own earlier clicks, or, where it has none, from what the first bundle remembers."""
    if clicks.is_empty() and bundles:
        queries = pl.read_parquet(bundles[0].folder / "queries.parquet", glob=False)
        return TrainingClicks.remembered(queries, items["clicks"].to_numpy())
    return TrainingClicks.of(clicks, len(items))
