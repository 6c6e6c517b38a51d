"""Mining skipped items and unclicked impressions, against plain Python that walks the log row by row."""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.dataset import Dataset
from twinspire.errors import DatasetError
from twinspire.features.encode import Encoded, encode
from twinspire.features.impressions import events_before, most_skipped, unclicked
from twinspire.features.log import LogConfig, read_positives
from twinspire.features.spec import FeatureConfig
from twinspire.features.supervision import SupervisionConfig, load_negatives
from twinspire.text import TokeniserConfig

Rows = list[dict[str, object]]
Shop = Callable[..., Dataset]
START = datetime(2024, 1, 1, tzinfo=UTC)
ITEMS = "abcdef"
ROW = st.fixed_dictionaries(
    {
        "at": st.integers(0, 9),
        "query": st.sampled_from(["red shoes", "Red  SHOES", "mug"]),
        "item": st.sampled_from(ITEMS[:4]),
        "user": st.sampled_from([None, "u", "v"]),
        "session": st.sampled_from([None, "s", "t", "t"]),
        "event": st.sampled_from(["impression", "impression", "impression", "click", "purchase"]),
        "position": st.sampled_from([None, 1, 2, 3, 4]),
    }
)


def table(rows: Rows) -> pl.DataFrame:
    """Rows with `at` in minutes; query mug, item a, session s, a click where they are silent."""
    full = [
        {
            "timestamp": START + timedelta(minutes=float(row.get("at", 0))),  # type: ignore[arg-type]
            "query": row.get("query", "mug"),
            "item_id": row.get("item", "a"),
            "user_id": row.get("user"),
            "session_id": row.get("session", "s"),
            "event": row.get("event", "click"),
            "position": row.get("position"),
        }
        for row in rows
    ]
    schema = {
        "timestamp": pl.Datetime("us", "UTC"),
        **dict.fromkeys(("query", "item_id", "user_id", "session_id", "event"), pl.String),
        "position": pl.Int32,
    }
    return pl.DataFrame(full, schema=schema)


def page(shown: str, clicked: str, at: float = 0, **more: object) -> Rows:
    """A result page, top first, and the clicks on it."""
    places = {item: place for place, item in enumerate(shown, 1)}
    rows: Rows = [{"at": at, "item": i, "event": "impression", "position": p, **more} for i, p in places.items()]
    return rows + [{"at": at, "item": item, "event": "click", "position": places[item], **more} for item in clicked]


def normal(row: dict[str, object]) -> str:
    return " ".join(str(row["query"]).lower().split())


def walk(rows: Rows) -> dict[tuple[object, ...], Rows]:
    """Rows of each search with a session."""
    searches = defaultdict(list)
    for row in rows:
        if row["session"] is not None:
            searches[row["user"], row["session"], normal(row)].append(row)
    return searches


def skipped_by_walking(rows: Rows, least: int) -> set[tuple[str, str]]:
    skips: Counter[tuple[str, str]] = Counter()
    clicks: Counter[tuple[str, str]] = Counter()
    clicks.update((normal(r), str(r["item"])) for r in rows if r["session"] is None and r["event"] != "impression")
    for (_, _, query), found in walk(rows).items():
        acted = {str(row["item"]) for row in found if row["event"] != "impression"}
        places = [row["position"] for row in found if row["event"] != "impression" and row["position"] is not None]
        clicks.update((query, item) for item in acted)
        above = {
            str(row["item"])
            for row in found
            if row["event"] == "impression" and row["position"] is not None and places and row["position"] < max(places)
        }
        skips.update((query, item) for item in above - acted)
    return {pair for pair, count in skips.items() if count >= least and count > clicks[pair]}


@given(st.lists(ROW, max_size=40), st.integers(1, 3), st.integers(0, 10))
def test_skipped_items_are_those_found_by_walking_the_log(shop_of: Shop, rows: Rows, least: int, before: int) -> None:
    shop = shop_of(table(rows))
    positives = read_positives(shop, LogConfig())
    cut = int((START + timedelta(minutes=before)).timestamp() * 1e6)
    found = most_skipped(events_before(shop, positives, cut), least)
    named = {(positives.queries[query], ITEMS[item]) for query, item in found.rows()}
    expected = skipped_by_walking([row for row in rows if row["at"] < before], least)  # type: ignore[operator]
    assert named == {pair for pair in expected if pair[0] in set(positives.queries)}
    assert len(named) == len(found)


@given(st.lists(ROW, max_size=40))
def test_unclicked_impressions_are_those_of_the_positives_own_search(shop_of: Shop, rows: Rows) -> None:
    shop = shop_of(table(rows))
    positives = read_positives(shop, LogConfig())
    lists = unclicked(events_before(shop, positives, None), positives, LogConfig().events)
    assert len(lists) == len(positives)
    found = Counter()
    rows_of = (positives.user.tolist(), positives.query.tolist(), positives.item.tolist(), lists.to_list())
    for user, query, item, shown in zip(*rows_of, strict=True):
        who = positives.user_ids[user] if user >= 0 else None
        found[who, positives.queries[query], ITEMS[item], tuple(ITEMS[other] for other in shown)] += 1
    expected = Counter()
    for (user, _, query), events in walk(rows).items():
        acted = {str(row["item"]) for row in events if row["event"] != "impression"}
        left = {str(row["item"]) for row in events} - acted
        expected.update((user, query, item, tuple(sorted(left))) for item in acted)
    for row in rows:
        if row["session"] is None and row["event"] != "impression":
            expected[row["user"], normal(row), str(row["item"]), ()] += 1
    # Two searches of a user may click an item at the same time: which page is whose cannot be told apart.
    assert sum(found.values()) == sum(expected.values())
    moments = Counter(
        (row["at"], row["user"], normal(row), row["item"]) for row in rows if row["event"] != "impression"
    )
    if max(moments.values(), default=0) <= 1:
        assert found == expected


def test_a_page_by_hand(shop_of: Shop) -> None:
    rows = page("abcd", "c") + page("abcd", "c", session="t") + page("ab", "b", session="r", query="Mug ")
    shop = shop_of(table(rows))
    positives = read_positives(shop, LogConfig())
    events = events_before(shop, positives, None)
    # a is above the click in all three, b in two, and clicked in one; d is below it.
    assert most_skipped(events, 3).rows() == [(0, 0)]
    assert most_skipped(events, 2).rows() == [(0, 0), (0, 1)]
    assert sorted(unclicked(events, positives, LogConfig().events).to_list()) == [[0], [0, 1, 3], [0, 1, 3]]


def encoded(shop: Dataset, folder: Path, impressions: bool = False, **supervision: object) -> Encoded:
    log = LogConfig(validation_share=0.25, fill_up_to=0)
    return encode(
        shop,
        FeatureConfig(),
        log,
        TokeniserConfig(),
        folder / "encoded",
        0,
        supervision=SupervisionConfig(**supervision),
        impressions=impressions,
    )[0]


def skipped(result: Encoded, part: str) -> dict[int, list[int]]:
    bags = load_negatives(result.folder / "negatives" / part).get("skipped")
    return {} if bags is None else {q: bags.row(q).tolist() for q in range(len(bags)) if len(bags.row(q))}


def test_training_rows_know_nothing_of_skips_in_the_validation_window(shop_of: Shop, tmp_path: Path) -> None:
    """Item a is skipped thrice early and b thrice late; the last quarter of the clicks is the window."""
    rows: Rows = []
    for at in range(12):
        rows += page("ac" if at < 9 else "bc", "c", at=at, session=f"s{at}")
    result = encoded(shop_of(table(rows)), tmp_path, skipped=0.1)
    assert skipped(result, "training") == {0: [0]}
    assert skipped(result, "all") == {0: [0, 1]}
    assert result.meta.supervision["skipped"] == 2
    assert skipped(encoded(shop_of(table(rows)), tmp_path, skipped=0), "all") == {}


def test_mining_ends_where_the_log_is_cut(shop_of: Shop, tmp_path: Path) -> None:
    rows: Rows = []
    for at in range(8):
        rows += page("ac" if at < 4 else "bc", "c", at=1440 * at, session=f"s{at}")
    log = LogConfig(holdout_days=3.5, fill_up_to=0)
    settings = {"supervision": SupervisionConfig(skipped=0.1), "impressions": True}
    result, _ = encode(shop_of(table(rows)), FeatureConfig(), log, TokeniserConfig(), tmp_path / "e", 0, **settings)
    assert skipped(result, "all") == {0: [0]}


def test_rows_carry_the_unclicked_impressions_of_their_search(shop_of: Shop, tmp_path: Path) -> None:
    rows = [row for at in range(4) for row in page("abcd"[: at + 1], "a", at=at, session=f"s{at}")]
    result = encoded(shop_of(table(rows)), tmp_path, impressions=True)
    frame = pl.read_parquet(result.folder / "rows" / "all" / "*.parquet")
    assert sorted(frame["impressions"].to_list()) == [[], [1], [1, 2], [1, 2, 3]]
    assert "impressions" not in pl.read_parquet_schema(result.folder / "rows" / "validation.parquet")


@pytest.mark.parametrize("session", [None, "s"])
def test_a_log_without_impressions_is_one_line(shop_of: Shop, tmp_path: Path, session: str | None) -> None:
    rows = [row for row in page("abc", "c", session=session) if session is None or row["event"] == "click"]
    with pytest.raises(DatasetError, match=r"negatives\.kind: impressions") as caught:
        encoded(shop_of(table(rows)), tmp_path, impressions=True)
    assert "\n" not in str(caught.value)


def test_a_log_without_impressions_has_no_skipped_items(shop_of: Shop, tmp_path: Path) -> None:
    result = encoded(shop_of(table([{"at": at} for at in range(6)])), tmp_path, skipped=0.5)
    assert result.meta.supervision == {"positives": 0, "labelled": 0, "skipped": 0}
    assert load_negatives(result.folder / "negatives" / "all") == {}
