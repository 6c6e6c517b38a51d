import polars as pl
import pytest

from twinspire import dataset
from twinspire.errors import DatasetError


def test_above_the_allowed_share_the_message_has_everything(shop, interactions, tmp_path):
    folder = shop(interactions=interactions(item_id=["a", "gone", "gone"], event=["?", "cart", "click"]))
    with pytest.raises(dataset.BadRowsError) as caught:
        dataset.read(folder, max_bad_share=0.5, quarantine=tmp_path / "bad")
    message = str(caught.value)
    for part in (
        "interactions: 3 of 3 rows (100.00 %)",
        "allowed 50 %",
        "item_id is not in items (2 rows, such as row 1 with item_id = 'gone')",
        str(tmp_path / "bad" / "interactions.parquet"),
    ):
        assert part in message
    assert caught.value.report.tables["interactions"].bad_rows == 3


def test_the_share_itself_is_still_allowed(shop, interactions):
    folder = shop(interactions=interactions(event=["?", "cart", "click"]))
    assert dataset.read(folder, max_bad_share=1 / 3).report.bad_rows == 1
    with pytest.raises(dataset.BadRowsError):
        dataset.read(folder, max_bad_share=0.333)


def test_no_good_item_is_refused_at_any_share(shop, items):
    with pytest.raises(DatasetError, match="items: none of the 3 rows is good"):
        dataset.read(shop(items=items(title=[None, "", " "])), max_bad_share=1)


def test_default_folder_appears_with_the_first_bad_row_and_is_cleared(shop, items):
    folder = shop()
    dataset.read(folder)
    assert not (folder / "quarantine").exists()
    items(title=["", "B", "C"]).write_parquet(folder / "items.parquet")
    report = dataset.read(folder, max_bad_share=0.5).report
    assert report.tables["items"].quarantine == str(folder / "quarantine" / "items.parquet")
    items().write_parquet(folder / "items.parquet")
    dataset.read(folder)
    assert list((folder / "quarantine").iterdir()) == []


def test_stored_columns_named_like_ours_are_kept(shop, items):
    folder = shop(items=items(title=["A", "", "C"], row=[7, 8, 9], reason=["x", "y", "z"]))
    report = dataset.read(folder, max_bad_share=0.5).report
    bad = pl.read_parquet(report.tables["items"].quarantine)
    assert bad.select("stored_row", "stored_reason", "row", "reason").rows() == [(8, "y", 1, "blank title")]


def test_never_over_the_dataset_or_a_foreign_file(shop, items, tmp_path):
    folder = shop(items=items(title=["A", "", "C"]))
    for inside in (folder, folder / "interactions"):
        with pytest.raises(DatasetError, match="part of the dataset itself"):
            dataset.read(folder, max_bad_share=1, quarantine=inside)
    foreign = tmp_path / "other"
    foreign.mkdir()
    items().write_parquet(foreign / "items.parquet")
    with pytest.raises(DatasetError, match="is no quarantine file"):
        dataset.read(folder, max_bad_share=1, quarantine=foreign)
    assert pl.read_parquet(foreign / "items.parquet").equals(items())


def test_a_place_that_cannot_be_written(shop, items, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = shop(items=items(title=["A", "", "C"]))
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="quarantine: cannot write to"):
        dataset.read(folder, max_bad_share=1, quarantine=tmp_path / "file" / "bad")
    (folder / "quarantine").touch()  # the default folder cannot be made: the rows go to a temporary one
    report = dataset.read(folder, max_bad_share=1).report
    assert pl.read_parquet(report.tables["items"].quarantine)["row"].to_list() == [1]


def test_the_newest_file_has_a_limit_of_its_own(shop, interactions):
    bad_day = interactions(item_id=["a", "gone", "b"])
    folder = shop(interactions=[*[interactions()] * 9, bad_day])
    assert dataset.read(folder, max_bad_share=0.1).report.bad_rows == 1
    assert dataset.read(folder, max_bad_share=0.1, max_bad_share_newest=1 / 3).report.bad_rows == 1
    with pytest.raises(dataset.BadRowsError) as caught:
        dataset.read(folder, max_bad_share=0.1, max_bad_share_newest=0.3)
    for part in (
        "interactions: of its newest file, part-9.parquet: 1 of 3 rows (33.33 %)",
        "above the allowed 30 %; most often: item_id is not in items (1 rows, such as row 28 with item_id = 'gone')",
    ):
        assert part in str(caught.value)
    (folder / "interactions" / "part-9.parquet").unlink()
    interactions().write_parquet(folder / "interactions" / "part-9.parquet")
    bad_day.write_parquet(folder / "interactions" / "part-0.parquet")
    assert dataset.read(folder, max_bad_share=0.1, max_bad_share_newest=0).report.bad_rows == 1, "an older one"
    with pytest.raises(DatasetError, match=r"max_bad_share_newest: 2 is not in \[0, 1\]"):
        dataset.read(folder, max_bad_share_newest=2)
