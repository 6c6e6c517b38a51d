"""Which items a search may find: by brand, category and all below it, price from and to, or any declared column.

A column is kept as its rows in order of value, so that a condition is a few slices of that order: how many items it
allows is known at once, those of a rare value are read without looking at the others, and whether an item is allowed is
one comparison of its rank.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from twinspire.compiled import compiled
from twinspire.errors import ConfigError, RequestError
from twinspire.features.store import file_name
from twinspire.ragged import load_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Value = str | float | bool
    Condition = Value | Sequence[Value] | Mapping[str, float]
    Filters = Mapping[str, Condition]
    Places = list[tuple[int, int]]

USUAL = ("brand", "category", "price")
BELOW = " > "  # between the levels of a category
LAST = "\U0010ffff"  # sorts after every text
SAMPLED = 1024  # rows on which the share of several conditions together is estimated
KEPT = 64  # selections that are kept for the next request with the same filters
MANY = 1000  # values of an example

Kind = Literal["text", "number"]


def filterable(items: pl.DataFrame, declared: Sequence[str] | Literal["auto"]) -> dict[str, Kind]:
    """The columns of a catalogue to filter by, and what they hold.

    Errors: ConfigError for a declared column that the catalogue does not have, or that is neither text nor number.
    """
    if declared == "auto":
        there = [column for column in USUAL if column in items.columns and items[column].null_count() < len(items)]
        return {column: _kind(items, column) for column in there}
    for column in declared:
        if column not in items.columns:
            known = ", ".join(items.columns)
            raise ConfigError(f"index.filters: the items have no column {column!r}; they have {known}")
    return {column: _kind(items, column) for column in declared}


def _kind(items: pl.DataFrame, column: str) -> Kind:
    dtype = items.schema[column]
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    raise ConfigError(f"index.filters: {column} is {dtype}; a column to filter by holds text, numbers or booleans")


@dataclass(frozen=True)
class Column:
    """One column of the catalogue: `order` (M,) are the rows that have a value, sorted by it; `rank` (n,) is each row's
    place in it, -1 without a value; `values` (V,) are the distinct values, sorted, and `starts` (V + 1,) where the rows
    of each begin."""

    kind: Kind
    order: NDArray[np.int32]
    rank: NDArray[np.int32]
    values: Sequence[str] | NDArray[np.float64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, values: pl.Series, kind: Kind) -> Column:
        """From the catalogue's values (n,); what is null or not a number cannot be found by a filter."""
        values = values.cast(pl.String if kind == "text" else pl.Float64)
        if kind == "number":
            values = values.fill_nan(None)
        table = pl.DataFrame({"value": values}).with_row_index("row").drop_nulls().sort("value", "row")
        order = table["row"].cast(pl.Int32).to_numpy()
        rank = np.full(len(values), -1, np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        distinct = table.group_by("value", maintain_order=True).len()
        starts = np.zeros(len(distinct) + 1, np.int64)
        np.cumsum(distinct["len"].to_numpy(), out=starts[1:])
        held = distinct["value"].to_list() if kind == "text" else distinct["value"].to_numpy()
        return cls(kind, order, rank, held, starts)

    def places(self, name: str, condition: Condition) -> Places:
        """The slices of `order` that a condition allows, in order and apart from each other.

        Errors: RequestError that names the field, for a condition that such a column cannot have.
        """
        if isinstance(condition, list | tuple):
            if not condition:
                raise RequestError(f"filters.{name}", "give at least one value; without any leave the filter out")
            found = [place for value in condition for place in self._one(name, value)]
        elif isinstance(condition, dict):
            found = self._range(name, condition)
        else:
            found = self._one(name, condition)
        return _merged(found)

    def _one(self, name: str, value: Any) -> Places:
        if self.kind == "number":
            if isinstance(value, str) or value != value:
                raise RequestError(f"filters.{name}", "give a number, a list of numbers, or min and max")
            return self._range(name, {"min": value, "max": value})
        if not isinstance(value, str):
            raise RequestError(f"filters.{name}", "give a text or a list of texts")
        below = value + BELOW
        return [
            *self._slice(bisect_left(self.values, value), bisect_right(self.values, value)),
            *self._slice(bisect_left(self.values, below), bisect_left(self.values, below + LAST)),
        ]

    def _range(self, name: str, bounds: Mapping[str, float]) -> Places:
        if self.kind != "number":
            raise RequestError(f"filters.{name}", "min and max are for numbers; give a text or a list of texts")
        least, most = bounds.get("min"), bounds.get("max")
        if (least is None and most is None) or set(bounds) - {"min", "max"}:
            raise RequestError(f"filters.{name}", "give min, max or both")
        if least is not None and most is not None and least > most:
            raise RequestError(f"filters.{name}", "min is greater than max")
        first = 0 if least is None else np.searchsorted(self.values, least, side="left")
        last = len(self.values) if most is None else np.searchsorted(self.values, most, side="right")
        return self._slice(int(first), int(last))

    def _slice(self, first: int, last: int) -> Places:
        return [(int(self.starts[first]), int(self.starts[last]))] if first < last else []

    def save(self, stem: Path) -> None:
        """Write the arrays, and the values as Parquet."""
        for name in ("order", "rank", "starts"):
            np.save(f"{stem}.{name}.npy", getattr(self, name), allow_pickle=False)
        pl.DataFrame({"value": self.values}, strict=True).write_parquet(f"{stem}.values.parquet")

    @classmethod
    def load(cls, stem: Path, kind: Kind) -> Column:
        """Read what `save` wrote, memory-mapped."""
        order, rank, starts = (load_array(f"{stem}.{name}.npy") for name in ("order", "rank", "starts"))
        values = pl.read_parquet(f"{stem}.values.parquet", glob=False)["value"]
        return cls(kind, order, rank, values.to_list() if kind == "text" else values.to_numpy(), starts)


def _merged(places: Places) -> Places:
    merged: Places = []
    for first, last in sorted(places):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


class Test:
    """One condition on one column: which rows it allows."""

    def __init__(self, column: Column, places: Places) -> None:
        self.column = column
        self.places = places
        self.count = sum(last - first for first, last in places)
        self._bounds = np.array(places, np.int32).reshape(-1, 2)

    def allows(self, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Of each of these rows (M,), whether it is allowed; -1 never is."""
        found = np.empty(len(rows), np.bool_)
        _within(rows, self.column.rank, self._bounds, found)
        return found

    def rows(self) -> NDArray[np.int32]:
        """All allowed rows (`count`,), in order of value."""
        return np.concatenate([self.column.order[first:last] for first, last in self.places] or [_NOTHING])

    def sample(self) -> NDArray[np.int32]:
        """At most SAMPLED of the allowed rows, spread evenly over their order."""
        lengths = np.cumsum([0, *(last - first for first, last in self.places)])
        places = np.linspace(0, self.count, min(self.count, SAMPLED), endpoint=False).astype(np.int64)
        which = np.searchsorted(lengths, places, side="right") - 1
        starts = np.array([first for first, _ in self.places] or [0], np.int64)
        sampled: NDArray[np.int32] = self.column.order[starts[which] + places - lengths[which]]
        return sampled


class Selection:
    """The items that all conditions of a request allow, of `items` in the catalogue. Immutable, for any thread."""

    def __init__(self, items: int, tests: Sequence[Test]) -> None:
        self.items = items
        self._tests = sorted(tests, key=lambda test: test.count)

    def allows(self, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Of each of these rows (M,), whether it is allowed; -1 never is."""
        allowed = self._tests[0].allows(rows)
        for test in self._tests[1:]:
            allowed &= test.allows(rows)
        return allowed

    @cached_property
    def share(self) -> float:
        """The share of the catalogue that is allowed: exact for one condition, else of a sample of the rarest one's."""
        rarest, *others = self._tests
        if not rarest.count:
            return 0.0
        kept = Selection(self.items, others).allows(rarest.sample()).mean() if others else 1.0
        return float(kept) * rarest.count / self.items

    def few(self, most: int) -> NDArray[np.int32] | None:
        """The allowed rows, (M,) sorted, where there are about `most` or fewer; None where there are more."""
        if self._tests[0].count > most and self.share * self.items > most:
            return None
        return self._few

    @cached_property
    def _few(self) -> NDArray[np.int32]:
        return self.every()

    def every(self) -> NDArray[np.int32]:
        """All allowed rows, (M,) sorted, however many."""
        return np.sort(self._rows())

    @cached_property
    def bitmap(self) -> NDArray[np.uint8]:
        """A bit for each row, (n / 8,), lowest first."""
        bits = np.zeros((self.items + 7) // 8, np.uint8)
        _set(self._rows(), bits)
        return bits

    def _rows(self) -> NDArray[np.int32]:
        rarest, *others = self._tests
        rows = rarest.rows()
        for test in others:
            rows = rows[test.allows(rows)]
        return rows


class FilterIndex:
    """The columns of a catalogue of `items` that can be filtered by. For any thread."""

    def __init__(self, columns: Mapping[str, Column], items: int) -> None:
        self.columns, self.items = dict(columns), items
        self._kept: OrderedDict[object, Selection] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def build(cls, items: pl.DataFrame, kinds: Mapping[str, Kind]) -> FilterIndex:
        """From the catalogue (n,)."""
        return cls({name: Column.of(items[name], kind) for name, kind in kinds.items()}, len(items))

    def select(self, filters: Filters) -> Selection | None:
        """What these filters allow, all of them together; None where there are none.

        Errors: RequestError that names the field, for an unknown column or a condition that it cannot have.
        """
        if not filters:
            return None
        key = _key(filters)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        selection = Selection(self.items, [self._test(name, condition) for name, condition in filters.items()])
        with self._lock:
            self._kept[key] = selection
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return selection

    def examples(self) -> Iterator[dict[str, Condition]]:
        """Of each column a filter by its rarest value, by its commonest and by many of its values; and by the commonest
        of all columns."""
        commonest: dict[str, Condition] = {}
        for name, column in self.columns.items():
            counts = np.diff(column.starts)
            if not len(counts):
                continue
            commonest[name] = column.values[int(counts.argmax())]
            yield {name: commonest[name]}
            yield {name: column.values[int(counts.argmin())]}
            half = len(counts) // 2
            many = column.values[half : half + MANY]
            yield {name: {"min": float(many[0])} if column.kind == "number" else list(many)}
        yield commonest

    def _test(self, name: str, condition: Condition) -> Test:
        column = self.columns.get(name)
        if column is None:
            known = ", ".join(self.columns) or "none; fit again with columns such as brand, category or price"
            raise RequestError(f"filters.{name}", f"cannot be filtered by; columns that can: {known}")
        return Test(column, column.places(name, condition))

    def save(self, folder: Path) -> None:
        """Write each column into a new folder."""
        folder.mkdir()
        for name, column in self.columns.items():
            column.save(folder / file_name(name))

    @classmethod
    def load(cls, folder: Path, kinds: Mapping[str, Kind], items: int) -> FilterIndex:
        """Read what `save` wrote."""
        return cls({name: Column.load(folder / file_name(name), kind) for name, kind in kinds.items()}, items)


def _key(filters: Filters) -> object:
    """Equal for equal filters; True is not 1 here, and 1 is 1.0."""
    return tuple(sorted((name, repr(condition)) for name, condition in filters.items()))


@compiled
def _within(rows: Any, rank: Any, bounds: Any, found: Any) -> None:
    for m in range(len(rows)):
        found[m] = False
        if rows[m] < 0:
            continue
        place = rank[rows[m]]
        low, high = 0, len(bounds)  # the first of the bounds that ends behind the place
        while low < high:
            middle = (low + high) // 2
            if bounds[middle, 1] <= place:
                low = middle + 1
            else:
                high = middle
        found[m] = place >= 0 and low < len(bounds) and bounds[low, 0] <= place


@compiled
def _set(rows: Any, bits: Any) -> None:
    for m in range(len(rows)):
        bits[rows[m] >> 3] |= np.uint8(1 << (rows[m] & 7))


_NOTHING = np.zeros(0, np.int32)
