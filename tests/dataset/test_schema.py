import polars as pl
import pytest

from twinspire.dataset import schema


def test_the_contract_names_its_tables_and_types():
    assert list(schema.TABLES) == ["items", "users", "interactions", "judgements", "supervision"]
    assert schema.INTERACTIONS.polars_schema == pl.Schema(
        {
            "timestamp": pl.Datetime("us", "UTC"),
            "query": pl.String(),
            "item_id": pl.String(),
            "user_id": pl.String(),
            "session_id": pl.String(),
            "event": pl.String(),
            "position": pl.Int32(),
        }
    )


def test_optional_columns_may_be_null_and_required_ones_may_not():
    for table in schema.TABLES.values():
        for column in table.columns:
            assert column.nullable is not column.required


def test_column_by_name():
    assert schema.ITEMS.column("price").low == 0.0
    with pytest.raises(KeyError, match="items has no contract column colour"):
        schema.ITEMS.column("colour")
