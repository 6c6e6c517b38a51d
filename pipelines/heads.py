"""Which head finds what: from a bundle and chosen queries to a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.bundle import Bundle, frequent_queries
from twinspire.errors import ConfigError
from twinspire.evaluation.head_report import HeadReport, query_heads
from twinspire.evaluation.heads import HeadMeasures, measure_heads
from twinspire.evaluation.labels import item_labels
from twinspire.features.query import Query
from twinspire.text import normalise_column

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEASURED = 500  # training queries, the most frequent ones, that the overall measures look at


def report_heads(
    bundle_folder: Path, queries: Sequence[str], *, k: int = 10, column: str | None = None, level: int = 2
) -> HeadReport:
    """What each head of a bundle finds for `queries`, for nobody in particular.

    Items are summed up by `column` of the bundle's items (None: `category` where there is one), cut to its first
    `level` levels' last. Errors: BundleError; ConfigError for an empty query or a column that the items lack.
    """
    bundle = Bundle.load(bundle_folder)
    labels = item_labels(bundle.items, column, level)
    vectors = np.asarray(bundle.item_vectors)
    return HeadReport(
        bundle=bundle.manifest.name,
        k=k,
        overall=overall(bundle),
        queries=tuple(
            query_heads(text, bundle.embed([Query(text)])[0], vectors, bundle.items, labels, k)
            for text in checked(queries)
        ),
    )


def checked(queries: Sequence[str]) -> list[str]:
    """The queries, each once. Errors: ConfigError for an empty one."""
    if (normalise_column(pl.Series(list(queries), dtype=pl.String)) == "").any():
        raise ConfigError("--query: a query is empty; give words")
    return list(dict.fromkeys(queries))


def overall(bundle: Bundle) -> HeadMeasures | None:
    """Measures over the bundle's most frequent training queries; None where it has none."""
    texts = frequent_queries(bundle.folder).head(MEASURED).to_list()
    if not texts:
        return None
    return measure_heads(bundle.embed([Query(text) for text in texts]), np.asarray(bundle.item_vectors))


if __name__ == "__main__":
    from twinspire.cli import main

    main("heads")
