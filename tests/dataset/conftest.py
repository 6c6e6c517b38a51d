from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def items_frame(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["Ale", "Bread", "Cheese"], **columns})


def interactions_frame(**columns: object) -> pl.DataFrame:
    """Three clicks; a column given as None is left out."""
    all_columns = {
        "timestamp": pl.Series([NOON] * 3, dtype=pl.Datetime("us", "UTC")),
        "query": ["beer", "loaf", "brie"],
        "item_id": ["a", "b", "c"],
        "event": ["click"] * 3,
        **columns,
    }
    return pl.DataFrame({name: values for name, values in all_columns.items() if values is not None})


@pytest.fixture
def shop(tmp_path: Path) -> Callable[..., Path]:
    """Writes a dataset: a table is a frame or a list of part files; items are there by default."""

    def write(**tables: pl.DataFrame | list[pl.DataFrame]) -> Path:
        folder = tmp_path / "shop"
        folder.mkdir()
        for name, table in {"items": items_frame(), **tables}.items():
            if isinstance(table, pl.DataFrame):
                table.write_parquet(folder / f"{name}.parquet")
                continue
            (folder / name).mkdir()
            for i, part in enumerate(table):
                part.write_parquet(folder / name / f"part-{i}.parquet")
        return folder

    return write


@pytest.fixture
def items() -> Callable[..., pl.DataFrame]:
    return items_frame


@pytest.fixture
def interactions() -> Callable[..., pl.DataFrame]:
    return interactions_frame
