"""Rows that break the contract are counted by reason, quarantined and left out; all others are kept."""

import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from twinspire import dataset
from twinspire.text import normalise

MICROSECONDS = pl.Datetime("us", "UTC")
FAULTS = {
    "null timestamp": ("timestamp", None),
    "timestamp below 1990-01-01": ("timestamp", datetime(1970, 1, 1, tzinfo=UTC)),
    "timestamp not before 2100-01-01": ("timestamp", datetime(9999, 12, 31, tzinfo=UTC)),
    "null query": ("query", None),
    "blank query": ("query", "\u3000\t\u200b "),
    "null item_id": ("item_id", None),
    "blank item_id": ("item_id", ""),
    "item_id is not in items": ("item_id", "gone"),
    "blank user_id": ("user_id", " "),
    "blank session_id": ("session_id", ""),
    "null event": ("event", None),
    "event is none of impression, click, cart, purchase": ("event", "Click"),
    "position below 1": ("position", 0),
    "position is no whole number of int32": ("position", 2**31),
}


def good_row(i: int) -> dict[str, object]:
    return {
        "timestamp": datetime(2024, 1, 1, microsecond=i, tzinfo=UTC),
        "query": f"query {i % 5}",
        "item_id": "abc"[i % 3],
        "user_id": None if i % 4 == 0 else f"new user {i}",
        "session_id": None,
        "event": dataset.schema.EVENTS[i % 4],
        "position": None if i % 2 else i + 1,
        "basket": i,
    }


def frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    schema = dict(dataset.schema.INTERACTIONS.polars_schema) | {"position": pl.Int64, "basket": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def write(folder: Path, log: pl.DataFrame, cuts: list[int]) -> None:
    pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"]}).write_parquet(folder / "items.parquet")
    (folder / "interactions").mkdir()
    bounds = [0, *sorted(cut % (log.height + 1) for cut in cuts), log.height]
    for i, (start, stop) in enumerate(pairwise(bounds)):
        log[start:stop].write_parquet(folder / "interactions" / f"part-{i:03}.parquet")


@settings(max_examples=40, deadline=None)
@given(
    planted=st.lists(st.sampled_from([None, None, *FAULTS]), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
)
def test_planted_faults_are_found_counted_and_quarantined_exactly(planted, cuts):
    rows = [good_row(i) | ({} if fault is None else dict([FAULTS[fault]])) for i, fault in enumerate(planted)]
    log = frame(rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shop"
        folder.mkdir()
        write(folder, log, cuts)
        data = dataset.read(folder, max_bad_share=1, quarantine=Path(name) / "bad")
        kept = data.interactions.collect(engine="streaming")
        report = data.report.tables["interactions"]
        bad = pl.read_parquet(report.quarantine) if report.quarantine else None

    faulty = {i: fault for i, fault in enumerate(planted) if fault}
    assert report.rows == len(planted)
    assert report.bad_rows == len(faulty) == sum(report.reasons.values())
    assert report.reasons == {fault: planted.count(fault) for fault in set(faulty.values())}
    assert_frame_equal(
        kept.select(log.columns),
        log.filter(~pl.Series([bool(fault) for fault in planted])).cast({"position": pl.Int32}),
    )
    if bad is None:
        assert not faulty
        return
    assert dict(zip(bad["row"], bad["reason"], strict=True)) == faulty
    assert_frame_equal(bad.drop("row", "reason"), log[list(faulty)])

    figures = data.report.log
    assert figures is not None
    assert sum(figures.events.values()) == kept.height
    assert figures.distinct_queries == kept["query"].n_unique()
    assert figures.first == kept["timestamp"].min()
    assert figures.last == kept["timestamp"].max()


@settings(max_examples=20, deadline=None)
@given(
    planted=st.lists(st.sampled_from([None, None, None, *FAULTS]), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), min_size=1, max_size=4),
)
def test_part_files_read_like_one_file(planted, cuts):
    log = frame([good_row(i) | ({} if fault is None else dict([FAULTS[fault]])) for i, fault in enumerate(planted)])
    with tempfile.TemporaryDirectory() as name:
        one, many = Path(name) / "one", Path(name) / "many"
        for folder, at in ((one, []), (many, cuts)):
            folder.mkdir()
            write(folder, log, at)
        left, right = dataset.read(one, max_bad_share=1), dataset.read(many, max_bad_share=1)
        assert_frame_equal(left.interactions.collect(), right.interactions.collect())
        assert left.report.log == right.report.log
        reports = [data.report.tables["interactions"] for data in (left, right)]
        assert reports[0].reasons == reports[1].reasons
        if reports[0].quarantine and reports[1].quarantine:
            assert_frame_equal(*(pl.read_parquet(report.quarantine) for report in reports))


def test_part_files_may_differ_in_types_and_optional_columns(shop, interactions):
    times = interactions()["timestamp"]
    folder = shop(
        interactions=[
            interactions(),
            interactions(item_id=[1, 2, 3], position=[1, 2, 2**40]),
            interactions(
                timestamp=times.dt.cast_time_unit("ms").dt.convert_time_zone("Asia/Tokyo"),
                position=pl.Series([4, None, 0], dtype=pl.Int32),
                basket=["x", "y", "z"],
            ),
        ],
        items=pl.DataFrame({"item_id": ["a", "b", "c", "1", "2", "3"], "title": ["t"] * 6}),
    )
    data = dataset.read(folder, max_bad_share=0.5)
    assert data.report.tables["interactions"].reasons == {
        "position is no whole number of int32": 1,
        "position below 1": 1,
    }
    kept = data.interactions.collect()
    assert kept["item_id"].to_list() == ["a", "b", "c", "1", "2", "a", "b"]
    assert kept["timestamp"].unique().to_list() == [times[0]]
    assert kept["basket"].to_list() == [None] * 5 + ["x", "y"]


def test_items_and_users(shop):
    folder = shop(
        items=pl.DataFrame(
            {
                "item_id": ["a", "a", "b", "b", "c", "d", "e", None, "f"],
                "title": ["", "Ale", "Bread", "Bun", None, "D", "E", "N", "F"],
                "price": [1.0, 2.0, None, 3.0, 1.0, -0.01, float("nan"), 1.0, float("inf")],
                "colour": list("rgbrgbrgb"),
            }
        ),
        users=pl.DataFrame({"user_id": ["u", "u", "v", None], "city": ["X", "Y", "Z", "W"]}),
    )
    data = dataset.read(folder, max_bad_share=1)
    # The first row that is otherwise good keeps the id.
    assert data.items.select("item_id", "title", "colour").rows() == [("a", "Ale", "g"), ("b", "Bread", "b")]
    assert data.items.columns == ["item_id", "title", "description", "brand", "category", "price", "colour"]
    assert data.items["category"].dtype == pl.String
    assert data.report.tables["items"].reasons == {
        "price is NaN or infinite": 2,
        "null item_id": 1,
        "null title": 1,
        "blank title": 1,
        "price below 0": 1,
        "duplicate item_id": 1,
    }
    assert data.users.rows() == [("u", "X"), ("v", "Z")]
    assert data.report.tables["users"].reasons == {"duplicate user_id": 1, "null user_id": 1}
    assert data.report.bad_rows == 9


def test_judgements_and_supervision(shop):
    folder = shop(
        judgements=pl.DataFrame(
            {
                "query": ["q"] * 6,
                "item_id": ["a", "b", "c", "a", "zz", "a"],
                "grade": [0.0, 1.0, 1.0001, -0.5, 0.5, float("nan")],
            }
        ),
        supervision=pl.DataFrame(
            {
                "query": ["q"] * 3,
                "item_id": ["a", "b", "c"],
                "label": ["positive", "negative", "perhaps"],
                "source": ["editor"] * 3,
            }
        ),
    )
    data = dataset.read(folder, max_bad_share=1)
    assert data.judgements["grade"].to_list() == [0.0, 1.0]
    assert data.judgements["grade"].dtype == pl.Float32
    assert data.report.tables["judgements"].reasons == {
        "grade is NaN or infinite": 1,
        "grade below 0": 1,
        "grade above 1": 1,
        "item_id is not in items": 1,
    }
    assert data.supervision["label"].to_list() == ["positive", "negative"]


def test_positions_stored_as_floats(shop, interactions):
    data = dataset.read(shop(interactions=interactions(position=[3.0, None, 2.5])), max_bad_share=0.5)
    assert data.interactions.collect()["position"].to_list() == [3, None]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_extreme_times_do_not_wrap_around(shop, interactions, unit):
    ticks = pl.Series([2**63 - 1, -(2**63) + 1, 0]).cast(pl.Datetime(unit, "UTC"))
    data = dataset.read(shop(interactions=interactions(timestamp=ticks)), max_bad_share=1)
    assert data.report.tables["interactions"].bad_rows == 3


def test_a_text_is_blank_to_the_reader_wherever_its_normal_form_is_empty(shop, interactions):
    blank = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000 and not normalise(chr(i))]
    assert len(blank) > 20
    n = len(blank)
    times = interactions()["timestamp"][:1].new_from_index(0, n)
    log = interactions(timestamp=times, query=blank, item_id=["a"] * n, event=["click"] * n)
    report = dataset.read(shop(interactions=log), max_bad_share=1).report
    assert report.tables["interactions"].reasons == {"blank query": n}
