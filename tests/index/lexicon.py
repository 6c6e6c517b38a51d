"""A lexical index over a few titles, without a dataset around it."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from twinspire.features.dictionaries import Dictionaries
from twinspire.features.spec import FeatureConfig, NgramBag
from twinspire.index.lexical import LexicalIndex
from twinspire.text import Tokeniser, TokeniserConfig

TEXT = (NgramBag(), NgramBag(stream="grams"))
HASH_BITS = 16  # quick to count


def dictionaries_of(titles: Sequence[str], queries: Sequence[str] = ()) -> Dictionaries:
    """Dictionaries of a catalogue of these titles and a log of these queries."""
    items = pl.DataFrame({"title": titles}, schema={"title": pl.String})
    config = FeatureConfig(query=TEXT, item=TEXT)
    asked = pl.Series("query", queries, dtype=pl.String)
    return Dictionaries.fit(config, Tokeniser(TokeniserConfig(hash_bits=HASH_BITS)), items, None, asked, 0)


def index_of(titles: Sequence[str], clicks: Sequence[int] | None = None, queries: Sequence[str] = ()) -> LexicalIndex:
    """The lexical index of these titles; nothing was clicked where `clicks` is silent."""
    dictionaries = dictionaries_of(titles, queries)
    counted = np.zeros(len(titles), np.int64) if clicks is None else np.array(clicks, np.int64)
    return LexicalIndex.build(dictionaries, dictionaries.text(list(titles)), counted)
