"""Items by category, or by any other column a bundle keeps of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from twinspire.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEVELS = " > "


def item_labels(items: pl.DataFrame, column: str | None = None, level: int = 2, *, needed: bool = False) -> pl.Series:
    """The label of each item (n,), null where unknown: `column`, or of a path of levels the `level`-th, the last of a
    shorter one.

    None takes `category` where there is one with values, else `brand`, else no labels. Errors: ConfigError for a
    column that the items lack, or where labels are `needed` and there are none.
    """
    if column is not None and column not in items.columns:
        raise ConfigError(f"--by {column}: the bundle's items have no such column; they have {_names(items.columns)}")
    candidates: Sequence[str] = [column] if column is not None else ["category", "brand"]
    for name in candidates:
        if name in items.columns and items[name].count():
            return _cut(items[name], level)
    if needed:
        raise ConfigError(
            f"--by: the bundle's items have no {' or '.join(candidates)}; name one of their columns: "
            f"{_names(name for name in items.columns if items[name].count())}"
        )
    return pl.Series("label", [None] * len(items), pl.String)


def _cut(values: pl.Series, level: int) -> pl.Series:
    path = values.cast(pl.String).rename("label").to_frame().select(pl.col("label").str.split(LEVELS).list.head(level))
    return path["label"].list.last()


def _names(columns: Iterable[str]) -> str:
    return ", ".join(columns)
