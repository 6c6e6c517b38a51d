"""A shop that grows day by day: the tables as they are at the end of each day of a simulated market."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire import simulation
from twinspire.simulation.log import START

if TYPE_CHECKING:
    from pathlib import Path

FIRST = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(START))


@dataclass(frozen=True)
class Shop:
    """`market` is a simulated dataset, `data` the shop's tables, of which no day later than `open` is known."""

    market: Path
    data: Path

    def open(self, day: int, *, corrupted: float = 0.0) -> None:
        """The tables at the end of a day (0 is the log's first): items launched by then, a part of the log a day.

        Of the last day's part, the share `corrupted` of rows is damaged, as by a broken exporter; the next day has it
        mended.
        """
        (self.data / "interactions").mkdir(parents=True, exist_ok=True)
        launched = simulation.truth.load(self.market).items.launch_day
        items = pl.read_parquet(self.market / "items.parquet").filter(pl.Series(launched < day + 1))
        _write(items, self.data / "items.parquet")
        _write(pl.read_parquet(self.market / "users.parquet"), self.data / "users.parquet")
        log = pl.scan_parquet(self.market / "interactions" / "*.parquet")
        for part in (self.data / "interactions").glob("day-*.parquet"):
            if int(part.stem.removeprefix("day-")) > day:
                part.unlink()
        for number in range(day + 1):
            part = self.data / "interactions" / f"day-{number:03d}.parquet"
            if number < day - 1 and part.exists():
                continue
            since = FIRST + timedelta(days=number)
            within = (pl.col("timestamp") >= since) & (pl.col("timestamp") < since + timedelta(days=1))
            rows = log.filter(within).collect()
            _write(damaged(rows, corrupted, number) if number == day and corrupted else rows, part)


def damaged(rows: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """A log of which a share of rows lost its item, its query or its time."""
    drawn = np.random.default_rng(seed).random(len(rows))
    lost = {
        "item_id": pl.lit("?"),
        "query": pl.lit(None, pl.String),
        "timestamp": pl.lit(None, rows.schema["timestamp"]),
    }
    frame = rows.with_columns(pl.Series("drawn", drawn / share))
    for place, (column, value) in enumerate(lost.items()):
        hit = pl.col("drawn").is_between(place / len(lost), (place + 1) / len(lost), closed="left")
        frame = frame.with_columns(pl.when(hit).then(value).otherwise(pl.col(column)).alias(column))
    return frame.drop("drawn")


def _write(frame: pl.DataFrame, path: Path) -> None:
    beside = path.with_suffix(".new")
    frame.write_parquet(beside)
    beside.replace(path)
