"""What is wrong with a table as a whole stops the reading with one line that says what to do."""

import shutil
from datetime import UTC, date, datetime

import polars as pl
import pytest

from twinspire import dataset
from twinspire.errors import DatasetError

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def refusal(folder, **options) -> str:
    with pytest.raises(DatasetError) as caught:
        dataset.read(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_folder_and_no_items(tmp_path):
    assert "no folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "items.csv").write_text("item_id,title\n")
    assert "items: no table" in refusal(tmp_path)
    assert "items.csv: convert it to Parquet" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "items.csv")


def test_missing_columns_are_named_together(shop, interactions):
    message = refusal(shop(interactions=interactions(event=None, timestamp=None)))
    assert "interactions: missing columns timestamp, event" in message
    assert "it has: query, item_id" in message


@pytest.mark.parametrize(
    ("values", "found", "hint"),
    [
        ([datetime(2024, 5, 1)] * 3, "without a time zone", "replace_time_zone('UTC')"),
        (["2024-05-01"] * 3, "is text", "str.to_datetime"),
        ([1_700_000_000] * 3, "is int64", "from_epoch"),
        ([date(2024, 5, 1)] * 3, "is date", "UTC timestamps"),
    ],
)
def test_times_must_be_timestamps_with_a_zone(shop, interactions, values, found, hint):
    message = refusal(shop(interactions=interactions(timestamp=values)))
    assert "column timestamp" in message
    assert found in message
    assert hint in message


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("item_id", [1.0, 2.0, 3.0]),
        ("query", [b"x", b"y", b"z"]),
        ("position", ["1", "2", "3"]),
        ("user_id", [True, False, None]),
    ],
)
def test_types_that_would_lose_something_are_refused(shop, interactions, column, values):
    message = refusal(shop(interactions=interactions(**{column: values})))
    assert f"interactions: column {column} is" in message


def test_a_file_that_is_no_parquet(shop, interactions):
    folder = shop(interactions=interactions())
    path = folder / "interactions.parquet"
    whole = path.read_bytes()
    for content in (b"", b"query,item_id\n", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        assert f"interactions: {path} is no readable Parquet file" in refusal(folder)


def test_damaged_pages_name_the_table(shop, interactions):
    folder = shop(interactions=interactions())
    path = folder / "interactions.parquet"
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    assert "interactions: cannot be read" in refusal(folder)


def test_folders_of_part_files(shop, interactions):
    folder = shop(interactions=[interactions()])
    (folder / "interactions" / "_SUCCESS").touch()
    assert dataset.read(folder).report.tables["interactions"].rows == 3

    shutil.move(folder / "interactions" / "part-0.parquet", folder / "interactions.parquet")
    assert "keep one of them" in refusal(folder)
    (folder / "interactions.parquet").unlink()
    assert "no .parquet file in the folder" in refusal(folder)
    (folder / "interactions" / "day=1").mkdir()
    interactions().write_parquet(folder / "interactions" / "day=1" / "0.parquet")
    assert "is a folder in a folder" in refusal(folder)


def test_a_folder_may_be_named_like_a_file(shop, items):
    folder = shop(items=[items()])
    (folder / "items").rename(folder / "items.parquet")
    assert dataset.read(folder).items.height == 3


def test_part_files_with_columns_of_unrelated_types(shop, interactions):
    folder = shop(interactions=[interactions(note=[1, 2, 3]), interactions(note=[["x"]] * 3)])
    assert "interactions: its part files do not fit together" in refusal(folder)


def test_a_table_without_rows(shop, items, interactions):
    folder = shop(interactions=interactions().head(0))
    assert dataset.read(folder).interactions.collect().height == 0
    assert "interactions: the table has no rows" in refusal(folder, require_interactions=True)
    (folder / "interactions.parquet").unlink()
    assert "interactions: no table" in refusal(folder, require_interactions=True)
    assert dataset.read(folder).interactions is None
    items().head(0).write_parquet(folder / "items.parquet")
    assert "items: the table has no rows" in refusal(folder)


def test_ids_may_be_integers_or_categories(shop, items, interactions):
    folder = shop(
        items=items(item_id=[1, 2, 3]),
        interactions=interactions(
            item_id=pl.Series(["1", "2", "3"], dtype=pl.Categorical),
            user_id=pl.Series([7, None, 9], dtype=pl.UInt16),
            event=pl.Series(["click"] * 3, dtype=pl.Enum(["click", "cart"])),
        ),
    )
    data = dataset.read(folder)
    assert data.items["item_id"].to_list() == ["1", "2", "3"]
    assert data.interactions.collect()["user_id"].to_list() == ["7", None, "9"]
    casts = data.report.tables["interactions"].casts
    assert {(cast.column, cast.found, cast.read_as) for cast in casts} == {
        ("item_id", "categorical", "text"),
        ("user_id", "uint16", "text"),
        ("event", "categorical", "text"),
    }


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Europe/Berlin", "America/New_York"])
def test_times_of_any_unit_and_zone_are_the_same_instants(shop, interactions, unit, zone):
    stored = pl.Series([NOON] * 3).dt.cast_time_unit(unit).dt.convert_time_zone(zone)
    data = dataset.read(shop(interactions=interactions(timestamp=stored)))
    read = data.interactions.collect()["timestamp"]
    assert read.dtype == pl.Datetime("us", "UTC")
    assert read.to_list() == [NOON] * 3
    assert len(data.report.tables["interactions"].casts) == (0 if (unit, zone) == ("us", "UTC") else 1)


@pytest.mark.parametrize("name", ["part-1.PARQUET", "part-1.parquet.gz", "000000_0"])
def test_a_part_file_of_another_name_is_not_left_out(shop, interactions, name):
    folder = shop(interactions=[interactions(), interactions()])
    (folder / "interactions" / "part-1.parquet").rename(folder / "interactions" / name)
    assert f"{name} seems to be a part file, but is not named .parquet" in refusal(folder)


def test_what_is_no_part_file_may_lie_beside_them(shop, interactions):
    folder = shop(interactions=[interactions()])
    (folder / "interactions" / "README.md").write_text("the log")
    assert dataset.read(folder).report.tables["interactions"].rows == 3


def test_a_path_is_no_pattern(shop, interactions, tmp_path):
    folder = shop(interactions=[interactions(), interactions()])
    folder = folder.rename(tmp_path / "shop[1]*")
    assert dataset.read(folder).report.tables["interactions"].rows == 6
