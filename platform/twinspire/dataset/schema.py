"""The table contract as data: what a dataset's tables hold, column by column.

A dataset is a folder of Parquet tables, each `<table>.parquet` or a folder `<table>/` of part files. Readers,
checks and the simulation all take their columns from here, so that a change of the contract is a change of
this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

TIMESTAMP = pl.Datetime("us", "UTC")
EVENTS = ("impression", "click", "cart", "purchase")
LABELS = ("positive", "negative")

# Outside of these a timestamp is a mistake of units or a missing value in disguise (0, 9999-12-31). They are
# fixed, not relative to today, so that the same tables are judged the same on any day.
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the contract.

    `required`: the table must have it; a missing optional column is read as nulls. `nullable`: a null is
    legal. The rest restrict values that are not null: `visible` text has at least one character that one can
    see, numbers and times lie in `low <= value <= high` (`below` excludes the bound itself), text is one of
    `values`, an id is one of the good rows of table `references`, and a `unique` value occurs once.
    """

    name: str
    dtype: pl.DataType
    required: bool = True
    nullable: bool = False
    visible: bool = False
    low: float | datetime | None = None
    high: float | datetime | None = None
    below: datetime | None = None
    values: tuple[str, ...] = ()
    references: str | None = None
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the contract; columns that it does not name are kept as they are."""

    name: str
    columns: tuple[Column, ...]
    required: bool = False

    def column(self, name: str) -> Column:
        """The column of that name; KeyError if the contract has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no contract column {name}")

    @property
    def polars_schema(self) -> pl.Schema:
        """Name and type of each contract column, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})


def _optional(name: str, dtype: pl.DataType, **rules: float | bool) -> Column:
    return Column(name, dtype, required=False, nullable=True, **rules)  # type: ignore[arg-type]


_QUERY = Column("query", pl.String(), visible=True)
_ITEM = Column("item_id", pl.String(), visible=True, references="items")

ITEMS = Table(
    "items",
    (
        Column("item_id", pl.String(), visible=True, unique=True),
        Column("title", pl.String(), visible=True),
        _optional("description", pl.String()),
        _optional("brand", pl.String()),
        _optional("category", pl.String()),
        _optional("price", pl.Float64(), low=0.0),
    ),
    required=True,
)
USERS = Table("users", (Column("user_id", pl.String(), visible=True, unique=True),))
INTERACTIONS = Table(
    "interactions",
    (
        Column("timestamp", TIMESTAMP, low=EARLIEST, below=LATEST),
        _QUERY,
        _ITEM,
        _optional("user_id", pl.String(), visible=True),
        _optional("session_id", pl.String(), visible=True),
        Column("event", pl.String(), values=EVENTS),
        _optional("position", pl.Int32(), low=1),
    ),
)
JUDGEMENTS = Table("judgements", (_QUERY, _ITEM, Column("grade", pl.Float32(), low=0.0, high=1.0)))
SUPERVISION = Table(
    "supervision",
    (_QUERY, _ITEM, Column("label", pl.String(), values=LABELS), Column("source", pl.String(), visible=True)),
)

TABLES: dict[str, Table] = {table.name: table for table in (ITEMS, USERS, INTERACTIONS, JUDGEMENTS, SUPERVISION)}
