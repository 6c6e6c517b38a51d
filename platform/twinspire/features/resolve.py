"""What `auto` means: the features that this dataset can feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from twinspire.errors import ConfigError
from twinspire.features.spec import (
    Category,
    FeatureConfig,
    History,
    Id,
    ItemFeature,
    NgramBag,
    Number,
    QueryFeature,
    QueryParts,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twinspire.dataset import Dataset

KNOWN_SHARE = 0.01  # a column that is null more often than this teaches nothing
MAX_LABELS = 1_000  # a profile column with more labels is an identifier or free text
RESERVED = ("history",)  # columns that a bundle keeps beside the profile
HISTORY_SHARE = 0.05  # histories are worth their cost where this share of positives has one


def resolve(config: FeatureConfig, dataset: Dataset, history_lengths: NDArray[np.integer]) -> FeatureConfig:
    """The config with every `auto` written out and every named column checked.

    `history_lengths` (P,): the number of earlier events of each positive.
    Errors: ConfigError that names a column the tables lack, or a history of a feature that the items lack.
    """
    item = _item_features(dataset) if config.item == "auto" else config.item
    query = config.query
    if isinstance(query, str):
        query = _query_features(query, dataset, item, history_lengths)
    resolved = config.model_copy(update={"query": query, "item": item})
    _check_names(resolved)
    _check(resolved, dataset)
    return resolved


def _item_features(dataset: Dataset) -> tuple[ItemFeature, ...]:
    features: list[ItemFeature] = [NgramBag(stream="words"), NgramBag(stream="grams"), Id()]
    features += [Category(column=column) for column in ("brand", "category") if _known(dataset.items, column)]
    features += [Number(column="price")] if _known(dataset.items, "price") else []
    return tuple(features)


def _query_features(
    wanted: QueryParts,
    dataset: Dataset,
    item: tuple[ItemFeature, ...],
    history_lengths: NDArray[np.integer],
) -> tuple[QueryFeature, ...]:
    text = (NgramBag(stream="words"), NgramBag(stream="grams"))
    if wanted == "text":
        return text
    profile = _profile_features(dataset)
    if wanted == "profile" and not profile:
        raise ConfigError("features.query: profile needs a users table with a column of labels or numbers; use text")
    if wanted == "profile" or (wanted == "auto" and not _many(history_lengths)):
        return (*text, *profile)
    if not (history_lengths > 0).any():
        raise ConfigError("features.query: history needs users with events before a search; use profile, text or auto")
    return (*text, *profile, *(History(of=_short(feature)) for feature in item if not isinstance(feature, NgramBag)))


def _many(history_lengths: NDArray[np.integer]) -> bool:
    return len(history_lengths) > 0 and float((history_lengths > 0).mean()) >= HISTORY_SHARE


def _profile_features(dataset: Dataset) -> list[QueryFeature]:
    if dataset.users is None:
        return []
    features: list[QueryFeature] = []
    for column, dtype in dataset.users.schema.items():
        if column in ("user_id", *RESERVED) or not _known(dataset.users, column):
            continue
        if dtype.is_float():
            features.append(Number(column=column))
        elif dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean) or dtype.is_integer():
            if dataset.users[column].n_unique() <= MAX_LABELS:
                features.append(Category(column=column))
            elif dtype.is_integer():
                features.append(Number(column=column))
    return features


def _known(table: pl.DataFrame, column: str) -> bool:
    return column in table.columns and len(table) > 0 and int(table[column].count()) >= KNOWN_SHARE * len(table)


def _short(feature: ItemFeature) -> str:
    return feature.name("item").removeprefix("item.")


def _check(config: FeatureConfig, dataset: Dataset) -> None:
    for column in config.item_text:
        _check_column(dataset.items, "items", column, "features.item_text")
    for feature in config.item:
        if isinstance(feature, Category | Number):
            _check_column(dataset.items, "items", feature.column, "features.item")
            _check_number(dataset.items, "items", feature)
    names = {_short(feature) for feature in config.item if not isinstance(feature, str | NgramBag)}
    for wanted in config.query:
        if isinstance(wanted, Category | Number):
            if dataset.users is None:
                raise ConfigError(f"features.query: column {wanted.column!r} needs a users table, and there is none")
            _check_column(dataset.users, "users", wanted.column, "features.query")
            _check_number(dataset.users, "users", wanted)
        elif isinstance(wanted, History) and wanted.of not in names:
            known = ", ".join(sorted(names)) or "none"
            raise ConfigError(f"features.query: history of {wanted.of!r} needs such an item feature; there are {known}")


def _check_names(config: FeatureConfig) -> None:
    """Each feature of a tower has a name and a table of its own."""
    for key, side, features in (("query", "user", config.query), ("item", "item", config.item)):
        seen: set[str] = set()
        for feature in features:
            name = feature.name(side) if not isinstance(feature, str) else feature
            if name in seen:
                raise ConfigError(f"features.{key}: two features are named {name!r}; leave one out")
            if name in (f"user.{column}" for column in RESERVED):
                raise ConfigError(f"features.{key}: the name of column {name[5:]!r} is taken; rename the column")
            seen.add(name)


def _check_column(table: pl.DataFrame, name: str, column: str, key: str) -> None:
    if column not in table.columns:
        raise ConfigError(f"{key}: the {name} table has no column {column!r}; it has {', '.join(table.columns)}")
    dtype = table.schema[column]
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise ConfigError(f"{key}: column {column!r} of {name} is {dtype}; it must hold one text or number a row")


def _check_number(table: pl.DataFrame, name: str, feature: Category | Number) -> None:
    if isinstance(feature, Number) and not table.schema[feature.column].is_numeric():
        dtype = table.schema[feature.column]
        raise ConfigError(
            f"features: column {feature.column!r} of {name} is {dtype}, not a number; declare it as a category"
        )
