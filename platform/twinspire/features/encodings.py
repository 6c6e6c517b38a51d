"""From column values to table rows: one encoding for each embedding table. Fitted once, kept in the bundle as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from twinspire.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEPARATOR = " > "
EXACT = 2**53  # up to here every whole number is a float


class Encoding(Protocol):
    """Values of one column to rows 1..size-1 of one table; row 0 is unused."""

    size: int

    def apply(self, values: pl.Series) -> Ragged:
        """Bags of rows for a column, (N,); null and unknown values are empty bags."""

    def apply_one(self, value: Any) -> list[int]:
        """The bag of one value, the same as `apply` gives."""

    def state(self) -> dict[str, Any]:
        """What `load` needs, as JSON."""


class CategoryEncoding:
    """Labels, level by level: "A > B" has the rows of "A" and "A > B"."""

    def __init__(self, values: list[str]) -> None:
        self.values = values
        self.size = len(values) + 1
        self._rows = {value: row for row, value in enumerate(values, 1)}

    @classmethod
    def fit(cls, values: pl.Series, min_count: int) -> CategoryEncoding:
        """Keep each label, at each level, that occurs `min_count` times or more; the order is the labels' own."""
        levels = _levels(values).explode().drop_nulls()
        counts = levels.value_counts(name="count")
        kept = counts.filter(pl.col("count") >= min_count).to_series(0)
        return cls(sorted(kept.to_list()))

    def apply(self, values: pl.Series) -> Ragged:
        """Bags of level rows, (N,)."""
        lists = _levels(values)
        lengths = lists.list.len().fill_null(0)
        flat = lists.filter(lengths > 0).explode()
        rows = flat.replace_strict(self.values, range(1, self.size), default=0, return_dtype=pl.Int32)
        owner = np.repeat(np.arange(len(values)), lengths.to_numpy())
        codes = rows.to_numpy()
        kept = codes > 0
        return Ragged.from_lengths(codes[kept], np.bincount(owner[kept], minlength=len(values)))

    def apply_one(self, value: Any) -> list[int]:
        """The level rows of one label; None, and what is neither text, number nor truth value, is unknown.

        A whole number is known as 1 and as 1.0: what is sent as JSON may have lost which of them it was.
        """
        label = _label(value)
        if label not in self._rows and _whole(value):
            label = _label(int(value) if isinstance(value, float | np.floating) else float(value))
        parts = [] if label is None else label.split(SEPARATOR)
        prefixes = (SEPARATOR.join(parts[: depth + 1]) for depth in range(len(parts)))
        return [self._rows[prefix] for prefix in prefixes if prefix in self._rows]

    def state(self) -> dict[str, Any]:
        """The labels in row order."""
        return {"kind": "category", "values": self.values}


def _label(value: Any) -> str | None:
    """One value as the text that a column of such values is cast to: `true`, not `True`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | float | np.bool_ | np.floating):
        return str(pl.Series([value]).cast(pl.String)[0])
    return str(value) if isinstance(value, int | np.integer) else None


def _whole(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return bool(value == value // 1)  # neither for NaN nor for infinity
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and abs(int(value)) <= EXACT


def _levels(values: pl.Series) -> pl.Series:
    """Each label's prefixes: "A > B" to ["A", "A > B"]; null stays null."""
    parts = values.cast(pl.String).alias("value").str.split(SEPARATOR)
    depth = int(parts.list.len().max() or 0)  # type: ignore[arg-type]
    frame = pl.DataFrame({"parts": parts})
    prefixes = [
        pl.when(pl.col("parts").list.len() > level)
        .then(pl.col("parts").list.head(level + 1).list.join(SEPARATOR))
        .alias(str(level))
        for level in range(depth)
    ]
    if not prefixes:
        return pl.Series("levels", [None] * len(values), dtype=pl.List(pl.String))
    return frame.select(pl.concat_list(prefixes).list.drop_nulls().alias("levels")).to_series()


class NumberEncoding:
    """A number's quantile."""

    def __init__(self, edges: list[float]) -> None:
        self.edges = edges
        self.size = len(edges) + 2
        self._edges = np.array(edges, np.float64)

    @classmethod
    def fit(cls, values: pl.Series, bins: int) -> NumberEncoding:
        """Inner edges at the quantiles of the known values, without repeats."""
        known = values.cast(pl.Float64).drop_nulls().to_numpy()
        known = known[np.isfinite(known)]
        if len(known) == 0:
            return cls([])
        return cls(np.unique(np.quantile(known, np.arange(1, bins) / bins)).tolist())

    def apply(self, values: pl.Series) -> Ragged:
        """Bags of one bin each, (N,); null and NaN are empty."""
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        known = ~np.isnan(numbers)
        rows = (np.searchsorted(self._edges, numbers[known], side="right") + 1).astype(np.int32)
        return Ragged.from_lengths(rows, known.astype(np.int64))

    def apply_one(self, value: Any) -> list[int]:
        """The bin of one number; what is no number is unknown."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return []
        return [] if np.isnan(number) else [int(np.searchsorted(self._edges, number, side="right")) + 1]

    def state(self) -> dict[str, Any]:
        """The inner edges."""
        return {"kind": "number", "edges": self.edges}


def id_bags(clicks: NDArray[np.int64], min_count: int) -> tuple[Ragged, int]:
    """Rows for the items with at least `min_count` clicks, and the table's size; the other items have empty bags."""
    known = clicks >= min_count
    rows = np.cumsum(known, dtype=np.int32)[known]
    return Ragged.from_lengths(rows, known.astype(np.int64)), int(known.sum()) + 1


def load_encoding(state: dict[str, Any]) -> Encoding:
    """The encoding that `state` describes."""
    if state["kind"] == "category":
        return CategoryEncoding(state["values"])
    return NumberEncoding(state["edges"])
