"""The one normal form of a text, NFKC, case folded, blanks tidied: two queries are the same if theirs is."""

from __future__ import annotations

import unicodedata

import polars as pl


def fold(text: str) -> str:
    """NFKC and case folding, blanks as they are.

    Case folding can undo composition, so NFKC runs again after it; the result is then a fixed point. No
    rule reaches across a line feed (it neither composes nor reorders, and folding looks at one character at
    a time): texts joined by line feeds can be folded in one call.
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def normalise(text: str) -> str:
    """Fold the text, trim it and make each run of blanks one space; the identity of a query everywhere."""
    return " ".join(fold(text).split())


def normalise_column(texts: pl.Series) -> pl.Series:
    """`normalise` for a column of strings; nulls stay null. Costs one call for each distinct text."""
    distinct = texts.drop_nulls().unique()
    folded = pl.Series([normalise(text) for text in distinct], dtype=pl.String)
    return texts.replace_strict(distinct, folded, default=None, return_dtype=pl.String)
