import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich_shop import Rich

from twinspire.features.query import Event, Query, Shopper
from twinspire.features.store import Bags

WORDS = st.sampled_from(
    ["red", "shoes", "кружка", "红色", "手机壳", "café", "CAFE\u0301", "ｒｅｄ", " ", "☃", "İ", "ß", "\n"]
)
TEXTS = st.text(max_size=20) | st.text(st.characters(), max_size=4) | st.lists(WORDS, max_size=6).map(" ".join)
USER_IDS = st.sampled_from([None, "", "u0", "u3", "u14", "u17", "u999", "U0"])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["f", "m", "old", "M > blue", "true", 1, 2.0, 3000.5])
    | st.lists(st.integers(), max_size=2)
    | st.just({"a": 1})
)
PROFILES = st.none() | st.dictionaries(
    st.sampled_from(["gender", "member", "visits", "income", "size/colour", "user", "nothing"]), VALUES, max_size=4
)
TIMES = st.none() | st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)) | st.just(datetime(2026, 1, 1, tzinfo=UTC))
ITEMS = st.sampled_from(["café mug-56", "Lampe-17", "かばん-41", "unknown", ""])
KINDS = st.sampled_from(["click", "cart", "purchase", "impression", "?"])
HISTORIES = st.none() | st.lists(st.builds(Event, ITEMS, KINDS, TIMES), max_size=30)
QUERIES = st.builds(Query, TEXTS, st.none() | st.builds(Shopper, USER_IDS, PROFILES, HISTORIES))


def row(bags: Bags, i: int) -> dict[str, object]:
    """Every value of a row, and every weight to the last bit."""
    return {
        name: (
            bag.row(i).tolist(),
            [] if bag.weights is None else bag.weights[bag.offsets[i] : bag.offsets[i + 1]].tolist(),
        )
        for name, bag in bags.items()
    }


def test_the_shop_has_the_features_that_are_compared_here(rich: Rich) -> None:
    assert {"user.gender", "user.member", "user.visits", "user.income", "user.size/colour", "user.user"} <= set(
        rich.encoded.store.users
    )
    assert {history.name("query") for history in rich.encoded.store.histories} == {
        "history.id",
        "history.brand",
        "history.category.purchase",
        "history.price.click+cart",
    }
    assert np.diff(rich.positives.events.offsets).max() > 20, "a history longer than what is read of it"


def test_online_features_are_offline_features(rich: Rich) -> None:
    """5.1.1: for every known user and query, what serving computes is what training looked up, at the log's end."""
    store, positives = rich.encoded.store, rich.positives
    queries = np.arange(len(positives.queries))
    for user, user_id in enumerate(positives.user_ids):
        rows = np.full(len(queries), user)
        offline = store.query_features(queries, rows, np.full(len(queries), positives.events.offsets[user + 1]))
        online = rich.bundle.encoder.encode([Query(text, Shopper(user_id)) for text in positives.queries])
        assert set(online) == set(offline)
        for i in range(len(queries)):
            assert row(online, i) == row(offline, i), (user_id, positives.queries[i])


def test_a_stranger_online_is_nobody_offline(rich: Rich) -> None:
    positives = rich.positives
    offline = rich.encoded.store.query_features(np.array([0]), np.array([-1]), np.array([7]))
    for shopper in (None, Shopper(), Shopper("who"), Shopper("")):
        assert row(rich.bundle.encoder.encode([Query(positives.queries[0], shopper)]), 0) == row(offline, 0)


@given(st.lists(QUERIES, min_size=1, max_size=6))
def test_one_by_one_is_as_in_a_batch(rich: Rich, queries: list[Query]) -> None:
    """Whatever a caller sends: any text, values of any type, unknown users and items, mixed times."""
    encoder = rich.bundle.encoder
    together = encoder.encode(queries)
    for i, query in enumerate(queries):
        assert row(encoder.encode([query]), 0) == row(together, i)
    sizes = rich.bundle.manifest.architecture.tables
    for slot in rich.bundle.manifest.architecture.query:
        bag = together[slot.feature]
        assert len(bag) == len(queries)
        assert ((bag.values > 0) & (bag.values < sizes[slot.table])).all()
        assert bag.weights is None or np.isfinite(bag.weights).all()


def test_what_the_request_says_of_the_shopper_comes_first(rich: Rich) -> None:
    encoder = rich.bundle.encoder

    def bags(**given: object) -> dict[str, object]:
        return row(encoder.encode([Query("red", Shopper("u0", **given))]), 0)

    stored = bags()
    assert stored["user.gender"][0]
    assert stored["history.id"][0]
    changed = bags(profile={"gender": "m"})
    assert changed["user.gender"] not in (([], []), stored["user.gender"])
    assert changed | {"user.gender": 0} == stored | {"user.gender": 0}, "the rest stays as remembered"
    assert bags(profile={"gender": None})["user.gender"] == ([], [])
    assert bags(history=[])["history.id"] == ([], [])
    one = [Event("unknown"), Event("Lampe-17"), Event("Lampe-17", "impression")]
    assert len(encoder.history(one)[0]) == 1


def test_what_is_told_is_as_what_is_remembered(rich: Rich) -> None:
    """A caller who sends the last events of each kind, in any order, gets the features of the bundle's own memory."""
    bundle, rng = rich.bundle, np.random.default_rng(0)
    for user_id, history in bundle.users.select("user_id", "history").rows():
        told = [bundle.event(**event) for event in history]
        if len({event.timestamp for event in told}) == len(told):
            told = [told[i] for i in rng.permutation(len(told))]
        some = [Shopper(user_id), Shopper(user_id, history=told), None]
        bags = bundle.encoder.encode([Query("red", shopper) for shopper in some])
        assert row(bags, 0) == row(bags, 1)


def test_at_any_time_online_features_are_offline_features(rich: Rich) -> None:
    """For every row of training: a caller who tells what the shopper had done by then gets the row's features."""
    store, positives, bundle = rich.encoded.store, rich.positives, rich.bundle
    offline = store.query_features(positives.query, positives.user, positives.stop)
    told = positives.events.last_of_each_kind(positives.user, positives.stop, 20)
    events = [
        bundle.event(int(item), int(kind), int(time))
        for item, kind, time in zip(told.items, told.kinds, told.times, strict=True)
    ]
    for i, (query, user) in enumerate(zip(positives.query.tolist(), positives.user.tolist(), strict=True)):
        user_id = positives.user_ids[user] if user >= 0 else None
        shopper = Shopper(user_id, history=events[told.offsets[i] : told.offsets[i + 1]])
        online = bundle.encoder.encode([Query(positives.queries[query], shopper)])
        assert row(online, 0) == row(offline, i), i


def test_a_history_is_read_in_order_of_time(rich: Rich) -> None:
    encoder, ids = rich.bundle.encoder, rich.bundle.item_ids
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    shuffled = [Event(ids[n], timestamp=noon + timedelta(hours=n)) for n in (3, 1, 2)]
    items, kinds, times = encoder.history(shuffled)
    assert items.tolist() == [1, 2, 3]
    assert kinds.tolist() == [0, 0, 0]
    assert ((times - times[0]) // 3_600_000_000).tolist() == [0, 1, 2]
    naive = [Event(ids[1], timestamp=noon), Event(ids[0], "cart", datetime(2026, 1, 1, 11))]
    items, kinds, times = encoder.history(naive)
    assert (items.tolist(), kinds.tolist(), times[1] - times[0]) == ([0, 1], [1, 0], 3_600_000_000)


def test_an_event_without_a_time_is_as_old_as_the_one_after_it(rich: Rich) -> None:
    encoder, ids = rich.bundle.encoder, rich.bundle.item_ids
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def hours(*given: int | None) -> list[int]:
        """Hours since noon of events in the order given; the items stay in that order."""
        told = [
            Event(ids[n], timestamp=None if hour is None else noon + timedelta(hours=hour))
            for n, hour in enumerate(given)
        ]
        items, _, times = encoder.history(told)
        assert items.tolist() == list(range(len(given)))
        return [(int(time) - round(noon.timestamp() * 1e6)) // 3_600_000_000 for time in times]

    assert hours(None, 1, None, 4, None) == [1, 1, 4, 4, 4]
    assert hours(9, None, 4) == [4, 4, 4], "none is newer than the one after it"
    items, _, times = encoder.history([Event(ids[0]), Event(ids[1])])
    assert (items.tolist(), len(set(times.tolist()))) == ([0, 1], 1)


def test_only_the_last_events_are_read(rich: Rich) -> None:
    many = [Event(item) for item in rich.bundle.item_ids[:40]]
    bags = rich.bundle.encoder.encode([Query("red", Shopper(history=many))])
    last = rich.bundle.encoder.encode([Query("red", Shopper(history=many[-20:]))])
    assert row(bags, 0) == row(last, 0)


@pytest.mark.parametrize("value", [True, "true"])
def test_truth_values_mean_what_the_table_meant(rich: Rich, value: object) -> None:
    bag = rich.bundle.encoder.encode([Query("red", Shopper(profile={"member": value}))])["user.member"]
    known = rich.encoded.store.users["user.member"]
    assert bag.row(0).tolist() == known.row(rich.positives.user_ids.to_list().index("u0")).tolist() != []


def test_nan_is_no_number(rich: Rich) -> None:
    bags = rich.bundle.encoder.encode([Query("red", Shopper("u1", profile={"income": math.nan}))])
    assert bags["user.income"].row(0).tolist() == []
