"""The feature dictionaries: everything that turns text and column values into table rows. One object, kept in the
bundle.

Training, indexing and serving hold the same dictionaries, so that a value means the same row everywhere (5.1.1).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from twinspire.features.encodings import CategoryEncoding, Encoding, NumberEncoding, load_encoding
from twinspire.features.spec import Category, FeatureConfig, Id, NgramBag, Number
from twinspire.text import Tokeniser, TokeniserConfig, Vocabulary, count

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.features.store import Bags
    from twinspire.ragged import Ragged

STREAMS = ("words", "grams")


@dataclass(frozen=True)
class Dictionaries:
    """Resolved features, tokeniser, one vocabulary a text stream, one encoding a column, rows of the item id table."""

    config: FeatureConfig
    tokeniser: Tokeniser
    vocabularies: dict[str, Vocabulary]
    encodings: dict[str, Encoding]
    id_rows: int

    @classmethod
    def fit(
        cls,
        config: FeatureConfig,
        tokeniser: Tokeniser,
        items: pl.DataFrame,
        users: pl.DataFrame | None,
        queries: pl.Series,
        id_rows: int,
    ) -> Dictionaries:
        """Fit on the catalogue, the users and the distinct queries; `config` is resolved."""
        in_items, in_queries = tokeniser.encode(item_text(items, config)), tokeniser.encode(queries)
        vocabularies = {
            stream: _vocabulary(getattr(in_items, stream), getattr(in_queries, stream), tokeniser, config)
            for stream in STREAMS
        }
        encodings: dict[str, Encoding] = {}
        for side, table, features in (("item", items, config.item), ("user", users, config.query)):
            for feature in features:
                if isinstance(feature, Category) and table is not None:
                    encodings[feature.table(side)] = CategoryEncoding.fit(table[feature.column], feature.min_count)
                elif isinstance(feature, Number) and table is not None:
                    encodings[feature.table(side)] = NumberEncoding.fit(table[feature.column], feature.bins)
        return cls(config, tokeniser, vocabularies, encodings, id_rows)

    def text(self, texts: pl.Series | list[str]) -> Bags:
        """The text streams of queries or titles, as vocabulary rows."""
        tokens = self.tokeniser.encode(texts)
        return {stream: self.vocabularies[stream].apply(getattr(tokens, stream)) for stream in STREAMS}

    def text_one(self, text: str) -> Bags:
        """The text streams of one query: the same rows as `text` gives."""
        tokens = self.tokeniser.encode_one(text)
        return {stream: self.vocabularies[stream].apply(getattr(tokens, stream)) for stream in STREAMS}

    def items(self, items: pl.DataFrame, ids: Ragged) -> Bags:
        """The features of the item tower, (n,) bags each."""
        text = self.text(item_text(items, self.config))
        bags: Bags = {}
        for feature in self.config.item:
            if isinstance(feature, NgramBag):
                bags[feature.stream] = text[feature.stream]
            elif isinstance(feature, Id):
                bags["item.id"] = ids
            elif isinstance(feature, Category | Number):
                bags[feature.name("item")] = self.encodings[feature.table("item")].apply(items[feature.column])
        return bags

    def users(self, users: pl.DataFrame) -> Bags:
        """The profile features of these users, (u,) bags each."""
        return {
            feature.name("user"): self.encodings[feature.table("user")].apply(users[feature.column])
            for feature in self.config.query
            if isinstance(feature, Category | Number)
        }

    @property
    def table_sizes(self) -> dict[str, int]:
        """Rows of each embedding table, row 0 included."""
        sizes = {stream: vocabulary.size for stream, vocabulary in self.vocabularies.items()}
        sizes |= {table: encoding.size for table, encoding in self.encodings.items()}
        if any(isinstance(feature, Id) for feature in self.config.item):
            sizes["item.id"] = self.id_rows
        return sizes

    def save(self, folder: Path) -> None:
        """Write `features.json` and the vocabularies' arrays into a folder."""
        state: dict[str, Any] = {
            "config": self.config.model_dump(mode="json"),
            "tokeniser": self.tokeniser.config.model_dump(mode="json"),
            "encodings": {table: encoding.state() for table, encoding in self.encodings.items()},
            "id_rows": self.id_rows,
        }
        (folder / "features.json").write_text(json.dumps(state, ensure_ascii=False))
        for stream, vocabulary in self.vocabularies.items():
            vocabulary.save(folder / f"vocabulary.{stream}")

    @classmethod
    def load(cls, folder: Path) -> Dictionaries:
        """Read what `save` wrote."""
        state = json.loads((folder / "features.json").read_text())
        return cls(
            FeatureConfig.model_validate(state["config"]),
            Tokeniser(TokeniserConfig.model_validate(state["tokeniser"])),
            {stream: Vocabulary.load(folder / f"vocabulary.{stream}") for stream in STREAMS},
            {table: load_encoding(encoding) for table, encoding in state["encodings"].items()},
            state["id_rows"],
        )


def _vocabulary(in_items: Ragged, in_queries: Ragged, tokeniser: Tokeniser, config: FeatureConfig) -> Vocabulary:
    """The tokens that enough items or enough queries have.

    A token of one query alone is a name that no title has or a typing error; nothing is learnt of it, and a query of
    tomorrow would not have its row.
    """
    items = count(in_items, hash_bits=tokeniser.config.hash_bits)
    queries = count(in_queries, hash_bits=tokeniser.config.hash_bits)
    kept = (items >= config.min_item_count) | (queries >= config.min_query_count)
    return Vocabulary.from_counts(np.where(kept, items + queries, 0), max_size=config.max_token_rows)


def item_text(items: pl.DataFrame, config: FeatureConfig) -> pl.Series:
    """The text of each item that is tokenised, (n,)."""
    columns = [pl.col(column).cast(pl.String).fill_null("") for column in config.item_text]
    return items.select(pl.concat_str(columns, separator=" ").alias("text")).to_series()


def token_weights(counts: np.ndarray, smoothing: float = 1e-3) -> np.ndarray:
    """How much a token says, (V,) in (0, 1]: a / (a + p), the weights of SIF (Arora et al. 2017); row 0 weighs nothing.

    a is `smoothing`, or the share of a mean token where the vocabulary is so small that this is more: else all of its
    tokens would say nothing.
    """
    share = counts / max(int(counts.sum()), 1)
    smoothing = max(smoothing, 1 / max(len(counts) - 1, 1))
    weights = smoothing / (smoothing + share)
    weights[0] = 0
    return weights
