"""Which stored types are read as which contract types, and what to advise about the others.

A conversion is made only where it keeps what the value says: integer and categorical ids become text,
timestamps of any unit and any zone become UTC microseconds (the same instants), numbers become the contract's
kind of number. What may not fit (a position beyond 32 bits, 1.5 as a position) is a bad row, never a null
made in passing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from twinspire.dataset.schema import Column


def read_as(column: Column, found: pl.DataType) -> pl.Expr | None:
    """The expression that reads a stored column of type `found` as the contract's type; None if none can."""
    stored, target = pl.col(column.name), column.dtype
    if found == target:
        return stored
    if found == pl.Null:
        return stored.cast(target)
    if target == pl.String:
        text_like = found.is_integer() or isinstance(found, pl.Categorical | pl.Enum)
        return stored.cast(pl.String) if text_like else None
    if isinstance(target, pl.Datetime):
        if not isinstance(found, pl.Datetime) or found.time_zone is None:
            return None
        return stored.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    if not found.is_numeric():
        return None
    return stored.cast(target, strict=False)


def does_not_fit(column: Column, found: pl.DataType) -> pl.Expr | None:
    """True where a stored number is no integer of the contract's type; None where types rule that out."""
    if not column.dtype.is_integer() or found == column.dtype or not found.is_numeric():
        return None
    stored = pl.col(column.name)
    converted = stored.cast(column.dtype, strict=False)
    return stored.is_not_null() & (converted.is_null() | (converted.cast(found, strict=False) != stored))


def advice(column: Column, found: pl.DataType) -> str:
    """What to do about a column that `read_as` refuses: the end of an error message."""
    name, target = column.name, column.dtype
    if isinstance(target, pl.Datetime):
        if isinstance(found, pl.Datetime):
            return f"say which zone it is in, such as pl.col('{name}').dt.replace_time_zone('UTC')"
        if found == pl.String:
            return f"parse it, such as pl.col('{name}').str.to_datetime(time_unit='us', time_zone='UTC')"
        if found.is_integer():
            return f"convert it, such as pl.from_epoch('{name}', time_unit='s').dt.replace_time_zone('UTC')"
        return "write it as UTC timestamps in microseconds"
    if target == pl.String and found.is_float():
        return f"write whole numbers as text, such as pl.col('{name}').cast(pl.Int64).cast(pl.String)"
    return f"convert it, such as pl.col('{name}').cast(pl.{target})"


def describe(dtype: pl.DataType) -> str:
    """A type as a person says it: `text`, `float64`, `timestamp[us, UTC]`."""
    if dtype == pl.String:
        return "text"
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return "categorical"
    if isinstance(dtype, pl.Datetime):
        zone = dtype.time_zone
        return f"timestamp[{dtype.time_unit}, {zone}]" if zone else f"timestamp[{dtype.time_unit}] without a time zone"
    return str(dtype).lower()
