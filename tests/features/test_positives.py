import json
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.dataset import Dataset
from twinspire.errors import DatasetError
from twinspire.features.encode import encode
from twinspire.features.history import KINDS
from twinspire.features.log import LogConfig, Positives, cut_time, read_positives
from twinspire.features.spec import Category, FeatureConfig, History, NgramBag
from twinspire.text import TokeniserConfig

START = datetime(2024, 1, 1, tzinfo=UTC)
Rows = list[dict[str, object]]
Frame = Callable[[Rows], pl.DataFrame]
Shop = Callable[..., Dataset]
ROW = st.fixed_dictionaries(
    {
        "at": st.integers(0, 6),
        "query": st.sampled_from(["red shoes", "Red  SHOES", "mug"]),
        "item": st.sampled_from("abc"),
        "user": st.sampled_from([None, "u", "v"]),
        "session": st.sampled_from([None, "s", "t"]),
        "event": st.sampled_from(["click", "click", "cart", "purchase", "impression"]),
    }
)


def named(positives: Positives, items: str = "abcdef") -> list[tuple[str, str, str | None]]:
    return [
        (positives.queries[q], items[i], positives.user_ids[u] if u >= 0 else None)
        for q, i, u in zip(positives.query.tolist(), positives.item.tolist(), positives.user.tolist(), strict=True)
    ]


def history(positives: Positives, row: int) -> list[int]:
    user = positives.user[row]
    if user < 0:
        return []
    return positives.events.items[positives.events.offsets[user] : positives.stop[row]].tolist()


def told(positives: Positives, row: int) -> list[tuple[str, str, int]]:
    """Item, kind and minute of each event of a positive's history."""
    events = positives.events
    past = range(positives.stop[row] - positives.history_lengths[row], positives.stop[row])
    begin = int(START.timestamp() * 1e6)
    return [
        ("abcdef"[events.items[i]], KINDS[events.kinds[i]], int(events.times[i] - begin) // 60_000_000) for i in past
    ]


@pytest.mark.parametrize("events", [("click", "cart", "purchase"), ("click",), ("purchase", "cart")])
@given(rows=st.lists(ROW, max_size=25))
def test_a_history_is_the_users_events_before_the_search(
    log: Frame, shop_of: Shop, events: tuple[str, ...], rows: Rows
) -> None:
    """Against plain Python: the first of a search makes a positive, a scan over the whole log makes its history."""
    positives = read_positives(shop_of(log(rows)), LogConfig(events=events))
    done = sorted((row for row in rows if row["event"] != "impression"), key=lambda row: row["at"])
    kept: Rows = []
    searches = defaultdict(list)
    seen = set()
    for row in done:
        query = " ".join(str(row["query"]).lower().split())
        search = (row["user"], row["session"], query) if row["session"] else object()
        searches[search].append(row["at"])
        if row["event"] in events and (search, row["item"]) not in seen:
            seen.add((search, row["item"]))
            kept.append({**row, "query": query, "search": search})
    assert len(positives) == len(kept)
    assert (np.diff(positives.time) >= 0).all()
    for i, row in enumerate(kept):
        assert named(positives)[i] == (row["query"], row["item"], row["user"])
        first = min(searches[row["search"]])
        earlier = [e for e in done if row["user"] and e["user"] == row["user"] and e["at"] < first]
        assert told(positives, i) == [(e["item"], e["event"], e["at"]) for e in earlier]
        assert positives.history_lengths[i] == len(earlier)


def test_what_happens_later_or_at_the_same_moment_changes_no_history(log: Frame, shop_of: Shop, tmp_path: Path) -> None:
    """The leak that would give the answer away: u always clicks tomorrow what it searches today."""
    today: Rows = [
        {"at": 0, "item": "a", "user": "u", "session": "r", "query": "lamp"},
        {"at": 5, "item": "b", "user": "u", "session": "s", "query": "shoes"},
        {"at": 5, "item": "c", "user": "u", "session": None, "query": "mug"},
    ]
    given_away: Rows = [
        {"at": 5, "item": "b", "user": "u", "session": "t", "query": "other", "event": "cart"},  # the same moment
        {"at": 6, "item": "b", "user": "u", "session": "s", "query": "shoes", "event": "purchase"},  # the same search
        {"at": 6, "item": "b", "user": "u", "session": "s", "query": "boots"},  # the same session
        {"at": 24 * 60, "item": "b", "user": "u", "session": "v", "query": "shoes"},  # tomorrow
        {"at": 1, "item": "b", "user": "v", "session": "w", "query": "shoes"},  # somebody else
    ]
    items = pl.DataFrame({"item_id": list("abc"), "title": ["Ale", "Bread", "Cheese"], "brand": ["X", "Y", "Z"]})
    brand = Category(column="brand", min_count=1)
    features = FeatureConfig(query=(NgramBag(), History(of="brand")), item=(NgramBag(), brand))
    for number, rows in enumerate((today, [*given_away, *today])):
        shop, folder = shop_of(log(rows), items=items), tmp_path / str(number)
        made, positives = encode(shop, features, LogConfig(fill_up_to=0), TokeniserConfig(), folder, seed=0)
        bags = made.store.query_features(positives.query, positives.user, positives.stop)["history.brand"]
        for item in ("b", "c"):
            row = next(i for i, row in enumerate(named(positives)) if row[1] == item and row[2] == "u")
            assert told(positives, row) == [("a", "click", 0)]
            assert bags.row(row).tolist() == [1], "the brand of a"


def test_the_click_before_a_purchase_is_no_history_of_the_purchase(log: Frame, shop_of: Shop) -> None:
    """Also where clicks are no positives: they are of the same search."""
    rows: Rows = [
        {"at": 0, "item": "c", "user": "u", "session": "r"},
        {"at": 5, "item": "a", "user": "u", "session": "s"},
        {"at": 7, "item": "a", "user": "u", "session": "s", "event": "purchase"},
    ]
    positives = read_positives(shop_of(log(rows)), LogConfig(events=("purchase",)))
    assert named(positives) == [("q", "a", "u")]
    assert told(positives, 0) == [("c", "click", 0)]


def test_no_row_sees_its_own_search_or_its_own_time(log: Frame, shop_of: Shop) -> None:
    rows: Rows = [
        {"at": 0, "item": "a", "user": "u", "session": "s", "query": "mug"},
        {"at": 5, "item": "b", "user": "u", "session": "s", "query": "shoes"},
        {"at": 5, "item": "c", "user": "u", "session": "s", "query": "shoes"},
        {"at": 5, "item": "d", "user": "u", "session": None, "query": "lamp"},
        {"at": 9, "item": "e", "user": "u", "session": "s", "query": "shoes"},
        {"at": 9, "item": "f", "user": "v", "session": "s", "query": "shoes"},
    ]
    positives = read_positives(shop_of(log(rows)), LogConfig())
    assert [history(positives, i) for i in range(6)] == [[], [0], [0], [0], [0], []]


def test_a_users_events_are_in_order_of_time(log: Frame, shop_of: Shop) -> None:
    rows: Rows = [{"at": at, "item": item, "user": "u"} for at, item in ((3, "c"), (1, "a"), (2, "b"), (4, "d"))]
    positives = read_positives(shop_of(log(rows)), LogConfig())
    assert history(positives, 3) == [0, 1, 2]


def test_the_same_item_of_one_search_counts_once(log: Frame, shop_of: Shop) -> None:
    one: Rows = [
        {"at": 0, "user": "u", "session": "s", "query": "Mug"},
        {"at": 1, "user": "u", "session": "s", "query": " mug", "event": "purchase"},
        {"at": 2, "user": "u", "session": "t", "query": "mug"},
    ]
    assert len(read_positives(shop_of(log(one)), LogConfig())) == 2
    unknown: Rows = [{"at": 0, "user": "u"}, {"at": 1, "user": "u"}]
    assert len(read_positives(shop_of(log(unknown)), LogConfig())) == 2, (
        "without a session nothing says it is one search"
    )


def test_only_the_named_events_are_positives(log: Frame, shop_of: Shop) -> None:
    rows: Rows = [
        {"item": item, "event": event}
        for item, event in zip("abcd", ("impression", "click", "cart", "purchase"), strict=True)
    ]
    shop = shop_of(log(rows))
    assert [row[1] for row in named(read_positives(shop, LogConfig()))] == ["b", "c", "d"]
    assert [row[1] for row in named(read_positives(shop, LogConfig(events=("purchase",))))] == ["d"]


def test_until_and_holdout_cut_the_log(log: Frame, shop_of: Shop) -> None:
    rows: Rows = [{"at": 60 * 24 * day, "item": "abcdef"[day], "user": "u"} for day in range(6)]
    shop = shop_of(log(rows))
    cut = read_positives(shop, LogConfig(until=START + timedelta(days=3)))
    assert cut.item.tolist() == [0, 1, 2]
    assert cut.events.items.tolist() == [0, 1, 2], "the histories end there too"
    assert read_positives(shop, LogConfig(holdout_days=2)).item.tolist() == [0, 1, 2]
    assert cut_time(shop, LogConfig()) is None
    with pytest.raises(DatasetError, match="before"):
        read_positives(shop, LogConfig(until=START))


def test_users_of_the_table_come_first_then_those_of_the_log(log: Frame, shop_of: Shop) -> None:
    users = pl.DataFrame({"user_id": ["z", "y"]})
    positives = read_positives(shop_of(log([{"user": "new"}, {"user": "y"}, {"user": None}]), users=users), LogConfig())
    assert positives.user_ids.to_list() == ["z", "y", "new"]
    assert positives.user.tolist() == [2, 1, -1]


def test_a_log_without_users(log: Frame, shop_of: Shop) -> None:
    positives = read_positives(shop_of(log([{"at": 0}, {"at": 1}])), LogConfig())
    assert positives.user.tolist() == [-1, -1]
    assert len(positives.user_ids) == 0
    assert positives.events.offsets.tolist() == [0]


def test_a_positive_of_half_life_age_weighs_half(log: Frame, shop_of: Shop) -> None:
    rows: Rows = [{"at": 60 * 24 * day} for day in (0, 10, 20)]
    weights = read_positives(shop_of(log(rows)), LogConfig(half_life_days=10)).weight
    np.testing.assert_allclose(weights, [0.25, 0.5, 1.0])
    np.testing.assert_array_equal(read_positives(shop_of(log(rows)), LogConfig(half_life_days=None)).weight, 1)


def encoded(shop: Dataset, folder: Path, **log: object):
    return encode(shop, FeatureConfig(), LogConfig(fill_up_to=0, **log), TokeniserConfig(), folder / "encoded", seed=0)


def test_validation_is_later_than_all_training_rows(log: Frame, shop_of: Shop, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: Rows = [{"at": int(at), "item": "abcdef"[at % 6], "query": f"q{at}"} for at in rng.permutation(200)]
    result, positives = encoded(shop_of(log(rows)), tmp_path, validation_share=0.2)
    minutes = (positives.time - positives.time[0]) // 60_000_000
    training = pl.read_parquet(result.folder / "rows" / "training" / "*.parquet")
    everything = pl.read_parquet(result.folder / "rows" / "all" / "*.parquet")
    assert (result.meta.positives, result.meta.training, result.meta.validation) == (200, 160, 40)
    assert sorted(everything["query"]) == list(range(200))
    assert minutes[training["query"]].max() < minutes[result.validation["query"]].min()
    assert training["query"].to_list() != sorted(training["query"]), "in random order"
    assert result.meta.trained_until == (START + timedelta(minutes=199)).isoformat()


def test_clicks_are_the_frequencies_of_the_rows_not_their_weights(log: Frame, shop_of: Shop, tmp_path: Path) -> None:
    """Batch negatives are drawn as often as rows occur, however little an old row weighs."""
    rows: Rows = [{"at": 60 * 24 * n, "item": "aab"[n % 3], "query": f"q{n}"} for n in range(60)]
    result, _ = encoded(shop_of(log(rows)), tmp_path, half_life_days=1)
    for part in ("training", "all"):
        frame = pl.read_parquet(result.folder / "rows" / part / "*.parquet")
        np.testing.assert_array_equal(result.clicks(part), np.bincount(frame["item"], minlength=6))


def test_the_validation_window_is_capped_by_a_sample(log: Frame, shop_of: Shop, tmp_path: Path) -> None:
    rows: Rows = [{"at": at, "query": f"q{at}"} for at in range(100)]
    result, _ = encoded(shop_of(log(rows)), tmp_path, validation_share=0.5, validation_cap=7)
    assert len(result.validation) == result.meta.validation == 7
    assert result.validation["query"].min() >= 50


def test_a_catalogue_without_a_log_can_be_encoded(shop_of: Shop, tmp_path: Path) -> None:
    result, positives = encoded(shop_of(None, users=pl.DataFrame({"user_id": ["u"], "age": ["old"]})), tmp_path)
    assert len(positives) == 0
    assert result.meta.trained_until is None
    assert len(result.validation) == 0
    assert result.clicks("all").tolist() == [0] * 6
    assert result.store.item_features(np.arange(6))["words"].lengths.min() > 0
    assert json.loads((result.folder / "meta.json").read_text())["positives"] == 0


def test_the_same_seed_writes_the_same_rows(log: Frame, shop_of: Shop, tmp_path: Path) -> None:
    shop = shop_of(log([{"at": at, "query": f"q{at}"} for at in range(50)]))
    frames = []
    for name in ("one", "two"):
        result, _ = encoded(shop, tmp_path / name)
        frames.append(pl.read_parquet(result.folder / "rows" / "all" / "*.parquet"))
    assert frames[0].equals(frames[1])
