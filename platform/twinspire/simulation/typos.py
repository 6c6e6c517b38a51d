"""Misspellings, whole columns at a time: a letter left out, doubled, swapped with the next, or hit beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import numpy as np

_NEIGHBOURS = dict(zip("abcdefghijklmnopqrstuvwxyz", "svxfrdghokjlnmipwetryctzub", strict=False))


def misspell(texts: pl.Series, rng: np.random.Generator) -> pl.Series:
    """One random slip in each text, after its first letter."""
    count = len(texts)
    frame = pl.DataFrame({"text": texts, "place": rng.random(count), "slip": rng.integers(4, size=count)})
    length = pl.col("text").str.len_chars().cast(pl.Int64)
    at = (1 + pl.col("place") * (length - 2).clip(lower_bound=1)).floor().cast(pl.Int64).clip(upper_bound=length - 1)
    text = pl.col("text")
    before, letter, after = text.str.slice(0, at), text.str.slice(at, 1), text.str.slice(at + 1)
    beside = letter.replace_strict(_NEIGHBOURS, default=letter)
    slip = pl.col("slip")
    typo = (
        pl.when(slip == 0)
        .then(before + after)
        .when(slip == 1)
        .then(before + letter + letter + after)
        .when(slip == 2)
        .then(before + after.str.slice(0, 1) + letter + after.str.slice(1))
        .otherwise(before + beside + after)
    )
    return frame.select(typo.str.replace_all(r"\s+", " ").str.strip_chars()).to_series()
