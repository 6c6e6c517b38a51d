"""Finds a table's files and opens them as one lazy scan of what is stored, with row numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from twinspire.dataset.conversion import advice, describe, read_as
from twinspire.dataset.report import Cast
from twinspire.errors import DatasetError, first_line

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.dataset.schema import Column, Table

ROW = "__row__"
MAGIC = b"PAR1"

# What reading a damaged file raises: Polars panics on some damage.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@dataclass(frozen=True, slots=True)
class Source:
    """A table as stored: `scan` has its columns and `ROW`, the 0-based row over the files in name order."""

    table: Table
    files: tuple[Path, ...]
    scan: pl.LazyFrame
    stored: pl.Schema
    casts: tuple[Cast, ...]

    @property
    def clean_columns(self) -> list[pl.Expr]:
        """The contract's columns in its order and types (missing ones are null), then the others."""
        expressions = [self._clean(column) for column in self.table.columns]
        named = self.table.polars_schema
        return expressions + [pl.col(name) for name in self.stored if name not in named]

    def _clean(self, column: Column) -> pl.Expr:
        if column.name not in self.stored:
            return pl.lit(None, dtype=column.dtype).alias(column.name)
        expression = read_as(column, self.stored[column.name])
        assert expression is not None, "open_table has refused such a column"
        return expression.alias(column.name)


def find_files(folder: Path, table: Table) -> tuple[Path, ...]:
    """The table's files in name order; () if an optional table is not there. Raises DatasetError."""
    name = table.name
    here = [path for path in (folder / f"{name}.parquet", folder / name) if path.exists()]
    if len(here) == 2:
        raise DatasetError(f"{name}: there is both {here[0]} and {here[1]}; keep one of them")
    if not here:
        if table.required:
            raise DatasetError(
                f"{name}: no table {name}.parquet or folder {name}/ in {folder}{_other_format(folder, name)}"
            )
        return ()
    if here[0].is_file():
        return (here[0],)
    return _part_files(here[0], name)


def _part_files(folder: Path, name: str) -> tuple[Path, ...]:
    # Names that begin with "_" or "." are what writers leave beside the data (_SUCCESS, .part-0.parquet.crc).
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith(("_", ".")))
    files = tuple(path for path in entries if path.is_file() and path.suffix == ".parquet")
    other = next((path for path in entries if path not in files and path.is_file() and _is_parquet(path)), None)
    if other is not None:
        raise DatasetError(
            f"{name}: {other} seems to be a part file, but is not named .parquet; rename it, or move it elsewhere"
        )
    nested = next((path for path in entries if path.is_dir() and any(path.rglob("*.parquet"))), None)
    if nested is not None:
        raise DatasetError(
            f"{name}: {nested} is a folder in a folder; put all part files of {name} directly in {folder}"
        )
    if not files:
        raise DatasetError(f"{name}: no .parquet file in the folder {folder}")
    return files


def _is_parquet(path: Path) -> bool:
    """By its name, whatever follows or however it is written, or by its first bytes."""
    if ".parquet" in path.name.lower():
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _other_format(folder: Path, name: str) -> str:
    others = [path.name for path in sorted(folder.glob(f"{name}.*")) if path.is_file()]
    return f"; there is {', '.join(others)}: convert it to Parquet" if others else ""


def open_table(table: Table, files: tuple[Path, ...]) -> Source:
    """Check the files' columns and types against the contract and scan them as one. Reads footers only.

    Raises DatasetError for an unreadable file, a missing column or a type that cannot be read without loss.
    """
    schemas = [_stored_schema(table, path) for path in files]
    casts = dict.fromkeys(
        cast for path, schema in zip(files, schemas, strict=True) for cast in _check(table, path, schema)
    )
    if all(schema == schemas[0] for schema in schemas):
        scan = pl.scan_parquet(list(files), row_index_name=ROW, glob=False)
        return Source(table, files, scan, schemas[0], tuple(casts))
    parts = [
        pl.scan_parquet(path, glob=False).with_columns(_common(table, schema, schemas))
        for path, schema in zip(files, schemas, strict=True)
    ]
    scan = pl.concat(parts, how="diagonal_relaxed")
    try:
        stored = scan.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise DatasetError(f"{table.name}: its part files do not fit together: {first_line(error)}") from error
    return Source(table, files, scan.with_row_index(ROW), stored, tuple(casts))


def _stored_schema(table: Table, path: Path) -> pl.Schema:
    try:
        return pl.scan_parquet(path, glob=False).collect_schema()
    except UNREADABLE as error:
        raise DatasetError(
            f"{table.name}: {path} is no readable Parquet file (cut short or another format): {first_line(error)}"
        ) from error


def _check(table: Table, path: Path, schema: pl.Schema) -> list[Cast]:
    missing = [column.name for column in table.columns if column.required and column.name not in schema]
    if missing:
        word = "column" if len(missing) == 1 else "columns"
        has = ", ".join(schema) or "none"
        raise DatasetError(f"{table.name}: missing {word} {', '.join(missing)} in {path}; it has: {has}")
    casts = []
    for column in table.columns:
        found = schema.get(column.name)
        if found is None or found == column.dtype:
            continue
        needed, there = describe(column.dtype), describe(found)
        if read_as(column, found) is None:
            raise DatasetError(
                f"{table.name}: column {column.name} is {there} in {path}, but {needed} is needed; "
                f"{advice(column, found)}"
            )
        if found != pl.Null:
            casts.append(Cast(column=column.name, found=there, read_as=needed))
    return casts


def _common(table: Table, schema: pl.Schema, schemas: list[pl.Schema]) -> list[pl.Expr]:
    """Conversions part by part of texts and times stored in several types; numbers find a common type."""
    differing = [
        column
        for column in table.columns
        if column.name in schema and len({other.get(column.name, schema[column.name]) for other in schemas}) > 1
    ]
    expressions = [read_as(column, schema[column.name]) for column in differing if not column.dtype.is_numeric()]
    return [expression for expression in expressions if expression is not None]
