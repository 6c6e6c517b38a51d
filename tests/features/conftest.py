from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from twinspire.dataset import Dataset, Report

START = datetime(2024, 1, 1, tzinfo=UTC)
LOG = {
    "timestamp": pl.Datetime("us", "UTC"),
    "query": pl.String,
    "item_id": pl.String,
    "user_id": pl.String,
    "session_id": pl.String,
    "event": pl.String,
}


def log_frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows with `at` in minutes; query q, item a, no user, no session and a click where they are silent."""
    full = [
        {
            "timestamp": START + timedelta(minutes=row.get("at", 0)),
            "query": row.get("query", "q"),
            "item_id": row.get("item", "a"),
            "user_id": row.get("user"),
            "session_id": row.get("session"),
            "event": row.get("event", "click"),
        }
        for row in rows
    ]
    return pl.DataFrame(full, schema=LOG)


@pytest.fixture(scope="session")
def log() -> Callable[[list[dict[str, object]]], pl.DataFrame]:
    return log_frame


@pytest.fixture(scope="session")
def shop_of() -> Callable[..., Dataset]:
    """A dataset from frames in memory; items a to f where none are given."""

    def make(
        log: pl.DataFrame | None = None, items: pl.DataFrame | None = None, users: pl.DataFrame | None = None
    ) -> Dataset:
        if items is None:
            items = pl.DataFrame(
                {"item_id": list("abcdef"), "title": ["Ale", "Bread", "Cheese", "Dates", "Eggs", "Figs"]}
            )
        return Dataset(
            path=Path(),
            items=items,
            users=users,
            interactions=None if log is None else log.lazy(),
            judgements=None,
            supervision=None,
            fingerprint="0" * 64,
            report=Report(path="", fingerprint="", tables={}, log=None),
        )

    return make
