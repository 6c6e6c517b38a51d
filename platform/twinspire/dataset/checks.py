"""The row-level rules of the contract as Polars expressions over what is stored; they stream.

A row with several faults is counted once, under the first of them in the order of the contract's columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from twinspire.dataset.conversion import describe, does_not_fit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twinspire.dataset.schema import Column
    from twinspire.dataset.source import Source

FAULT = "__fault__"

# Blank is a text with nothing to see: white space, separators, control and format characters (zero-width
# space, byte order mark). A text with anything else in it has something left after any normalisation.
_VISIBLE = r"[^\s\p{Z}\p{Cc}\p{Cf}]"
_TICKS = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break the contract; `found` is true for the rows that do so (null counts as false)."""

    reason: str
    column: str
    found: pl.Expr


def faults(source: Source, ids: Mapping[str, pl.Series]) -> list[Fault]:
    """Every rule that the stored columns can break, in order; `ids[table]` are a referenced table's ids."""
    found = [
        Fault(reason, column.name, expression)
        for column in source.table.columns
        if column.name in source.stored
        for reason, expression in _column_faults(column, source.stored[column.name], ids)
    ]
    for column in source.table.columns:
        if column.unique:
            # The first row that is otherwise good keeps the id; the rows after it are the duplicates.
            good = ~pl.any_horizontal([fault.found.fill_null(value=False) for fault in found])
            repeated = good & ~pl.when(good).then(pl.col(column.name)).is_first_distinct()
            found.append(Fault(f"duplicate {column.name}", column.name, repeated))
    return found


def fault_code(found: list[Fault]) -> pl.Expr:
    """Column `FAULT`, u8: 0 for a good row, else 1 + the place of its first fault in the list."""
    code: pl.Expr = pl.lit(0, pl.UInt8)
    for i, fault in reversed(list(enumerate(found, start=1))):
        code = pl.when(fault.found).then(pl.lit(i, pl.UInt8)).otherwise(code)
    return code.alias(FAULT)


def _column_faults(column: Column, found: pl.DataType, ids: Mapping[str, pl.Series]) -> Iterator[tuple[str, pl.Expr]]:
    name, stored = column.name, pl.col(column.name)
    if not column.nullable:
        yield f"null {name}", stored.is_null()
    if found == pl.Null:
        return
    text = stored.cast(pl.String)
    if column.visible and not found.is_integer():
        yield f"blank {name}", ~text.str.contains(_VISIBLE)
    misfit = does_not_fit(column, found)
    if misfit is not None:
        yield f"{name} is no whole number of {describe(column.dtype)}", misfit
    if found.is_float():
        yield f"{name} is NaN or infinite", ~stored.is_finite()
    yield from _bound_faults(column, found)
    if column.values:
        yield f"{name} is none of {', '.join(column.values)}", ~text.is_in(column.values)
    if column.references is not None:
        known = ids[column.references]
        yield f"{name} is not in {column.references}", ~text.is_in(known.implode())


def _bound_faults(column: Column, found: pl.DataType) -> Iterator[tuple[str, pl.Expr]]:
    stored = pl.col(column.name)
    low, high, below = (_stored_bound(bound, found) for bound in (column.low, column.high, column.below))
    if isinstance(found, pl.Datetime):
        # Compared as ticks: no conversion of the unit that could overflow on the very values that we look
        # for.
        stored = stored.to_physical()
    if low is not None:
        yield f"{column.name} below {_say(column.low)}", stored < low
    if high is not None:
        yield f"{column.name} above {_say(column.high)}", stored > high
    if below is not None:
        yield f"{column.name} not before {_say(column.below)}", stored >= below


def _stored_bound(bound: float | datetime | None, found: pl.DataType) -> float | int | None:
    if isinstance(bound, datetime) and isinstance(found, pl.Datetime):
        return int(bound.timestamp()) * _TICKS[found.time_unit]
    assert not isinstance(bound, datetime)
    return bound


def _say(bound: float | datetime | None) -> str:
    return f"{bound:%Y-%m-%d}" if isinstance(bound, datetime) else f"{bound:g}"
