"""The dataset that a simulation writes: its contract, its exactness, its plausibility."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

from twinspire import dataset
from twinspire.errors import ConfigError
from twinspire.simulation import log, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.simulation import Truth

SMALL = {"items": 500, "users": 200, "interactions": 5000}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "interactions" / "*.parquet")


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("first", 5), ("second", 5), ("other", 6)):
        simulate(tmp_path / name, **SMALL, seed=seed)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert digests(tmp_path / "first")["items.parquet"] != digests(tmp_path / "other")["items.parquet"]


def test_part_files_do_not_change_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(tmp_path / "one", **SMALL)
    monkeypatch.setattr(log, "PART_ROWS", 700)
    simulate(tmp_path / "many", **SMALL)
    assert len(list((tmp_path / "many" / "interactions").iterdir())) == 8
    assert rows(tmp_path / "one").equals(rows(tmp_path / "many"))


def test_an_earlier_market_is_replaced_but_foreign_files_are_not(tmp_path: Path) -> None:
    simulate(tmp_path / "market", **SMALL)
    simulate(tmp_path / "market", **{**SMALL, "interactions": 100})
    assert len(rows(tmp_path / "market")) == 100
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="no simulation wrote"):
        simulate(tmp_path / "mine", **SMALL)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"items": 3}, "items is 3"),
        ({"users": 0}, "users is 0"),
        ({"interactions": 0}, "interactions"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, changed: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        simulate(tmp_path / "market", **{**SMALL, **changed})
    assert not (tmp_path / "market").exists()


@pytest.mark.parametrize(("items", "users", "interactions"), [(50, 1, 1), (60, 3, 777)])
def test_tiny_markets_work(tmp_path: Path, items: int, users: int, interactions: int) -> None:
    summary = simulate(tmp_path / "market", items=items, users=users, interactions=interactions)
    assert summary.interactions == len(rows(tmp_path / "market")) == interactions


def test_the_contract_accepts_every_row(market_folder: Path) -> None:
    read = dataset.read(market_folder, require_interactions=True, max_bad_share=0.0)
    assert read.interactions is not None
    assert read.interactions.select(pl.len()).collect().item() == 30_000
    assert len(read.items) == 3000
    assert read.judgements is not None


def test_the_log_is_in_the_order_of_time_and_spans_two_months(market_folder: Path) -> None:
    times = rows(market_folder)["timestamp"]
    assert times.is_sorted()
    assert 50 < (times.max() - times.min()).days <= 66  # type: ignore[operator,union-attr]


def test_every_click_was_shown_and_every_purchase_was_in_the_cart(market_folder: Path) -> None:
    table = rows(market_folder)
    key = ["session_id", "query", "item_id", "position"]
    shown = {event: table.filter(pl.col("event") == event) for event in log.EVENTS}
    for later, earlier in (("click", "impression"), ("cart", "click"), ("purchase", "cart")):
        assert shown[later].join(shown[earlier], on=key, how="anti").is_empty()
    priced = table.filter(pl.col("price").is_not_null())
    assert set(priced["event"]) == {"cart", "purchase"}


def test_rates_are_those_of_a_shop(market_folder: Path) -> None:
    table = rows(market_folder)
    share = table["event"].value_counts(normalize=True)
    rate = dict(zip(share["event"], share["proportion"], strict=True))
    assert 0.10 <= rate["click"] <= 0.16
    assert rate["purchase"] < rate["cart"] < rate["click"]
    seen = table.filter(pl.col("event").is_in(["impression", "click"])).group_by("position", maintain_order=True)
    by_position = seen.agg((pl.col("event") == "click").mean().alias("rate")).sort("position")["rate"].to_list()
    assert by_position[0] > by_position[4] > by_position[14]


def test_queries_have_a_long_tail_and_a_vocabulary_gap(market_folder: Path) -> None:
    table = rows(market_folder).filter(pl.col("event") == "click")
    counts = table["query"].value_counts()
    assert (counts["count"] == 1).sum() > 0.3 * len(counts)
    titles = pl.read_parquet(market_folder / "items.parquet")
    words = pl.col("query", "title").str.to_lowercase().str.extract_all("[a-z0-9]+")
    shared = table.join(titles, on="item_id").with_columns(words)
    apart = shared.select((pl.col("query").list.set_intersection("title").list.len() == 0).mean()).item()
    assert 0.05 < apart < 0.4


def test_a_shopper_is_the_same_shopper_in_every_session(market_folder: Path) -> None:
    clicks = rows(market_folder).filter((pl.col("event") == "click") & pl.col("user_id").is_not_null())
    users, items = (pl.read_parquet(market_folder / f"{name}.parquet") for name in ("users", "items"))
    joined = clicks.join(users, on="user_id").join(items, on="item_id")
    named = joined.filter(~pl.col("query").str.contains("wom|men|lad|her|him|girl|gift|guys|dad|mom|kid|gra|son|boys"))
    womens = pl.col("title").str.contains("Women|Ladies")
    by_gender = (
        named.filter(womens | pl.col("title").str.contains("Men")).group_by("gender").agg(womens.mean().alias("share"))
    )
    share = dict(zip(by_gender["gender"], by_gender["share"], strict=True))
    assert share["female"] > share["male"] + 0.3


def test_loyalty_shows_in_clicks_and_not_in_profiles(market_folder: Path, market_truth: Truth) -> None:
    users, items = (pl.read_parquet(market_folder / f"{name}.parquet") for name in ("users", "items"))
    table = rows(market_folder).filter(pl.col("user_id").is_not_null())
    table = table.join(users.with_row_index("user").select("user_id", "user"), on="user_id")
    table = table.join(items.with_row_index("item").select("item_id", "item"), on="item_id")
    user, item = table["user"].to_numpy(), table["item"].to_numpy()
    facts = market_truth.items
    loyal = market_truth.shoppers.loyal_brand[user, facts.department[item]] == facts.brand[item]
    share = table.with_columns(pl.Series("loyal", loyal)).group_by("event").agg(pl.col("loyal").mean())
    by_event = dict(zip(share["event"], share["loyal"], strict=True))
    assert by_event["click"] > 1.7 * by_event["impression"]
    assert users.columns == ["user_id", "gender", "age_band", "purchase_power", "city"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Peak memory of 2.4 million rows against 0.8 million, where the pool of queries is as large."""
    script = (
        "import resource, sys, pathlib; from twinspire.simulation import simulate;"
        "simulate(pathlib.Path(sys.argv[1]), items=20_000, users=5_000, interactions=int(sys.argv[2]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", script, str(tmp_path / rows_), rows_]))
        for rows_ in ("800000", "2400000")
    ]
    assert peaks[1] < 1.3 * peaks[0]
