"""A shop that grows day by day, and the picture of its month."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from PIL import Image

from benchmarks.month import picture
from benchmarks.month.__main__ import figures
from benchmarks.month.days import FIRST, Shop
from twinspire import dataset, simulation


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    folder = tmp_path_factory.mktemp("month") / "market"
    simulation.simulate(folder, items=120, users=30, interactions=6_000, new_share=0.5)
    return folder


def rows(shop):
    return pl.read_parquet(shop.data / "interactions" / "*.parquet")


def test_each_day_has_what_was_known_by_its_end(market, tmp_path):
    shop = Shop(market, tmp_path / "shop")
    every = pl.read_parquet(market / "interactions" / "*.parquet")
    launched = simulation.truth.load(market).items.launch_day
    for day in (5, 6, 30):
        shop.open(day)
        assert rows(shop).equals(every.filter(pl.col("timestamp") < FIRST + timedelta(days=day + 1)))
        assert len(pl.read_parquet(shop.data / "items.parquet")) == (launched < day + 1).sum()
        assert dataset.read(shop.data, max_bad_share=0).report.bad_rows == 0, "no click before an item's launch"
    before = dataset.read(shop.data).fingerprint
    shop.open(40)
    shop.open(30)
    assert dataset.read(shop.data).fingerprint == before, "a day is the same whenever it is opened"


def test_a_damaged_day_is_found_and_is_mended_the_next(market, tmp_path):
    shop = Shop(market, tmp_path / "shop")
    shop.open(20, corrupted=0.4)
    with pytest.raises(dataset.BadRowsError, match=r"of its newest file, day-020\.parquet") as caught:
        dataset.read(shop.data, max_bad_share=1, max_bad_share_newest=0.05)
    counts = caught.value.report.tables["interactions"]
    last = len(pl.read_parquet(shop.data / "interactions" / "day-020.parquet"))
    assert counts.bad_rows == pytest.approx(0.4 * last, abs=4 * (0.24 * last) ** 0.5)
    assert set(counts.reasons) == {"item_id is not in items", "null query", "null timestamp"}
    shop.open(21)
    assert dataset.read(shop.data, max_bad_share_newest=0).report.bad_rows == 0


def a_month():
    found = []
    for day in range(12):
        values = {"champion": 0.6, "first": 0.6 - 0.01 * day, "difference": 0.01 * day}
        level = {
            who: {metric: [value, value - 0.03, value + 0.03] for metric in ("mrr", "hit@1", "recall@10")}
            for who, value in values.items()
        }
        outcome = {3: "log refused", 7: "refused"}.get(day, "promoted")
        found.append(
            {
                "day": day,
                "date": f"2025-04-{day + 1:02d}",
                "outcome": outcome,
                "quality": {"all": level, "old items": level},
            }
        )
    return found


def test_the_month_s_file_and_picture(tmp_path):
    days = a_month()
    means = figures(days, ())["means of the last ten days"]["all"]
    assert means["champion"]["recall@10"] == 0.6
    assert means["difference"]["mrr"] == 0.065  # days 2 to 11
    assert picture.title(days) == "After 12 days, retrained daily: recall@10 +0.07 over the model of the first day"
    path = picture.draw(days, tmp_path / "month.png")
    with Image.open(path) as image:
        assert image.size == (1280, 688)
    np.testing.assert_allclose(picture.smoothed(np.arange(6.0)), [1, 1.5, 2, 3, 3.5, 4])
