"""The log that a catalogue writes itself: parts of each title as queries for its item.

It stands in for clicks where there are none yet, so that a first model knows the catalogue's words. (Title halves and
spans as pseudo-queries: Lee, Chang and Toutanova 2019, inverse cloze task.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.features.history import Events
from twinspire.features.log import Positives, numbered
from twinspire.text import normalise
from twinspire.text.words import word_spans

if TYPE_CHECKING:
    from collections.abc import Sequence

QUERIES_EACH = 4
MOST = 400_000  # pseudo-queries of a whole catalogue; beyond it a sample of the titles has some
LONGEST = 4  # words of a pseudo-query


def title_positives(titles: pl.Series, seed: int) -> Positives:
    """Pseudo-queries for the titles (n,), as positives of nobody, in random order; an empty title has none."""
    rng = np.random.default_rng(seed)
    chosen = np.tile(np.arange(len(titles)), QUERIES_EACH)
    chosen = rng.permutation(chosen)[:MOST]
    texts = [normalise(title) for title in titles.fill_null("").to_list()]
    asked = [pseudo_query(texts[item], rng) for item in chosen.tolist()]
    kept = np.array([bool(query) for query in asked], bool)
    column = pl.Series("query", [query for query in asked if query], dtype=pl.String)
    queries = column.unique(maintain_order=True)
    size = len(column)
    return Positives(
        query=numbered(column.to_frame(), "query", queries, "row")["row"].to_numpy(),
        user=np.full(size, -1, np.int32),
        item=chosen[kept].astype(np.int32),
        stop=np.zeros(size, np.int64),
        weight=np.ones(size, np.float32),
        time=np.zeros(size, np.int64),
        queries=queries,
        user_ids=pl.Series("user_id", [], dtype=pl.String),
        events=Events(np.zeros(0, np.int32), np.zeros(0, np.int8), np.zeros(0, np.int64), np.zeros(1, np.int64)),
    )


def with_titles(positives: Positives, titles: pl.Series, seed: int) -> Positives:
    """The titles' pseudo-queries, older than everything, then the log's positives, whose queries keep their rows."""
    made = title_positives(titles, seed)
    queries = pl.concat([positives.queries.alias("query"), made.queries]).unique(maintain_order=True)
    asked = numbered(made.queries.to_frame(), "query", queries, "row")["row"].to_numpy()
    weight = float(positives.weight.mean()) if len(positives) else 1.0
    return replace(
        positives,
        query=np.concatenate([asked[made.query], positives.query]),
        user=np.concatenate([made.user, positives.user]),
        item=np.concatenate([made.item, positives.item]),
        stop=np.concatenate([made.stop, positives.stop]),
        weight=np.concatenate([made.weight * np.float32(weight), positives.weight]),
        time=np.concatenate([made.time, positives.time]),
        queries=queries,
    )


def pseudo_query(title: str, rng: np.random.Generator) -> str:
    """One to four words of a normalised title: half of the time neighbours, else any of them in their order."""
    spans = word_spans(title)
    if not spans:
        return ""
    length = min(len(spans), int(rng.integers(1, LONGEST + 1)))
    if rng.random() < 0.5:
        first = int(rng.integers(0, len(spans) - length + 1))
        return title[spans[first][0] : spans[first + length - 1][1]]
    picked: Sequence[int] = np.sort(rng.permutation(len(spans))[:length]).tolist()
    return " ".join(title[slice(*spans[place])] for place in picked)
