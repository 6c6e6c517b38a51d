"""Reading and writing the Parquet tables of `search` and `score`, with errors that name the table and the row."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import polars as pl

from twinspire.errors import DatasetError
from twinspire.features.query import Query, Shopper
from twinspire.files import replacing
from twinspire.text import normalise_column

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def read_table(path: Path, name: str, required: tuple[str, ...]) -> pl.DataFrame:
    """Read `required` string columns and `user_id` where there is one.

    Errors: DatasetError for an unreadable file, a missing column, a column of another type, or an empty query.
    """
    try:
        frame = pl.read_parquet(path, glob=False)
    except FileNotFoundError:
        raise DatasetError(f"{name}: {path} does not exist") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(f"{name}: {path} is not a readable Parquet file ({str(error).splitlines()[0]})") from None
    for column in required:
        if column not in frame.columns:
            raise DatasetError(f"{name}: {path} has no column {column!r}; it has {', '.join(frame.columns)}")
    columns = [*required, *(["user_id"] if "user_id" in frame.columns else [])]
    for column in columns:
        dtype = frame.schema[column]
        if not (dtype in (pl.String, pl.Categorical, pl.Null) or dtype.is_integer() or isinstance(dtype, pl.Enum)):
            raise DatasetError(f"{name}: column {column!r} is {dtype}; it must be text")
    frame = frame.select(pl.col(column).cast(pl.String) for column in columns)
    _refuse_empty(frame, name)
    return frame if "user_id" in columns else frame.with_columns(pl.lit(None, pl.String).alias("user_id"))


def queries(frame: pl.DataFrame) -> list[Query]:
    """Rows with `query` and `user_id` as queries."""
    return [
        Query(text, Shopper(user_id=user) if user is not None else None)
        for text, user in zip(frame["query"], frame["user_id"], strict=True)
    ]


def check_place(path: Path) -> None:
    """Before work whose result would be lost. Errors: DatasetError where `path` cannot be written."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise DatasetError(f"--out {path}: cannot be written; name a file in a folder that is yours to write to")


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a Parquet file beside, then rename.

    Errors: DatasetError where the folder cannot be written.
    """
    _write_beside(frame.write_parquet, path)


def write_text(text: str, path: Path) -> None:
    """Write a text file beside, then rename.

    Errors: DatasetError where the folder cannot be written.
    """
    _write_beside(lambda beside: beside.write_text(text, encoding="utf-8"), path)


def _write_beside(write: Callable[[Path], object], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            write(beside)
    except OSError as error:
        raise DatasetError(f"--out {path}: {error.strerror or error}") from None


def _refuse_empty(frame: pl.DataFrame, name: str) -> None:
    empty = (normalise_column(frame["query"].fill_null("")) == "").arg_true()
    if len(empty):
        raise DatasetError(f"{name}: row {empty[0]} has an empty query ({len(empty)} such rows); remove them")
