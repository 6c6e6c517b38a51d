"""Negatives that are named, not drawn (paper, 4.5): dealt to the rows that they concern. Numpy and files only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.features.supervision import load_negatives
from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.features.supervision import SupervisionConfig
    from twinspire.training.batches import Columns
    from twinspire.training.config import NegativeConfig


def labelled_columns(
    path: Path,
    query: NDArray[np.int32],
    rows: slice,
    negatives: NegativeConfig,
    supervision: SupervisionConfig,
    batch_size: int,
    rng: np.random.Generator,
) -> Columns:
    """What the rows (L,) of a part file bring along, -1 where one has nothing.

    `impressions` (L, count) of the row's search; or `labelled` and `skipped`, items of its `query` (L,), as many as
    fill the places of a batch, each only where the encoded dataset, in which the file stands as `rows/<part>/<file>`,
    has such pairs.
    """
    if negatives.kind == "impressions":
        shown = pl.read_parquet(path, columns=["impressions"], glob=False)["impressions"].gather_every(
            rows.step or 1, rows.start or 0
        )
        bags = Ragged.from_lengths(shown.explode().drop_nulls().to_numpy(), shown.list.len().to_numpy())
        return {"impressions": dealt(bags, negatives.count, rng)}
    places = supervision.places(negatives.random)
    if not any(places.values()):
        return {}
    pairs = load_negatives(path.parents[2] / "negatives" / path.parent.name)
    return {
        source: dealt(bags.gather(query), _each(bags.lengths[query], places[source] / batch_size), rng)
        for source, bags in pairs.items()
        if places[source]
    }


def _each(lengths: NDArray[np.int64], places: float) -> int:
    """How many of its pairs (L,) a row brings at most, so that a batch on average fills its `places`, told a row."""
    have = float((lengths > 0).mean()) if len(lengths) else 0.0
    return min(int(np.ceil(places / have)), int(lengths.max())) if have else 1


def dealt(bags: Ragged, each: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Up to `each` values of every bag, (L, each) i32, drawn without repeats in random order; -1 fills the rest."""
    owner = np.repeat(np.arange(len(bags)), bags.lengths)
    order = np.lexsort((rng.random(len(owner)), owner))
    place = np.arange(len(owner)) - np.repeat(bags.offsets[:-1], bags.lengths)
    kept = place < each
    columns = np.full((len(bags), each), -1, np.int32)
    columns[owner[kept], place[kept]] = bags.values[order][kept]
    return columns
