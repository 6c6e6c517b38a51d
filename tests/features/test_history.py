import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from twinspire.features.history import DAY, KINDS, Events, history_bags
from twinspire.features.spec import History
from twinspire.ragged import Ragged

BAGS = [[1], [2, 3], [], [4, 2, 5], [6]]  # of five items
Log = list[list[tuple[int, int, int]]]  # of each user: item, kind, hours

EVENT = st.tuples(st.integers(0, len(BAGS) - 1), st.integers(0, len(KINDS) - 1), st.integers(0, 24 * 400))
LOGS = st.lists(st.lists(EVENT, max_size=12).map(lambda events: sorted(events, key=lambda e: e[2])), max_size=5)
WEIGHTS = st.dictionaries(st.sampled_from(KINDS), st.floats(0.01, 100), min_size=1)
HISTORIES = st.builds(
    History,
    length=st.integers(1, 8),
    weights=WEIGHTS,
    half_life_days=st.none() | st.floats(0.01, 1000),
)


def events_of(log: Log) -> Events:
    flat = [event for user in log for event in user]
    items, kinds, hours = (np.array([event[i] for event in flat], np.int64) for i in range(3))
    offsets = np.cumsum([0, *(len(user) for user in log)])
    return Events(items.astype(np.int32), kinds.astype(np.int8), hours * 3_600_000_000, offsets)


def brute_force(history: History, past: list[tuple[int, int, int]]) -> list[tuple[int, float]]:
    """Rows and weights, the most recent event first."""
    read = [event for event in reversed(past) if KINDS[event[1]] in history.weights][: history.length]
    seen = [event for event in read if BAGS[event[0]]]
    found = []
    for item, kind, hour in seen:
        age_days = (seen[0][2] - hour) / 24
        decay = 1.0 if history.half_life_days is None else 0.5 ** (age_days / history.half_life_days)
        found += [(row, history.weights[KINDS[kind]] * decay) for row in BAGS[item]]
    total = math.fsum(weight for _, weight in found)
    return [(row, weight / total) for row, weight in found]


@given(HISTORIES, LOGS, st.data())
def test_a_bag_is_what_a_scan_of_the_past_gives(history: History, log: Log, data: st.DataObject) -> None:
    events = events_of(log)
    asked = data.draw(st.lists(st.integers(-1, len(log) - 1), max_size=6))
    cuts = [data.draw(st.integers(0, len(log[user]))) if user >= 0 else 0 for user in asked]
    users = np.array(asked, np.int64)
    stops = np.array([events.offsets[user] + cut if user >= 0 else 0 for user, cut in zip(asked, cuts, strict=True)])
    found = history_bags(history, events, users, stops.astype(np.int64), Ragged.from_rows(BAGS))
    assert found.weights is not None
    assert len(found) == len(asked)
    for b, (user, cut) in enumerate(zip(asked, cuts, strict=True)):
        expected = brute_force(history, log[user][:cut]) if user >= 0 else []
        assert found.row(b).tolist() == [row for row, _ in expected]
        weights = found.weights[found.offsets[b] : found.offsets[b + 1]]
        np.testing.assert_allclose(weights, [weight for _, weight in expected], rtol=1e-5, atol=1e-12)
        assert not len(weights) or weights.sum() == pytest.approx(1, abs=1e-5)


@given(HISTORIES, LOGS)
def test_what_is_remembered_is_enough_for_any_history(history: History, log: Log) -> None:
    events, users = events_of(log), np.arange(len(log))
    bags = Ragged.from_rows(BAGS)
    few = events.last_of_each_kind(users, events.offsets[1:], history.length)
    assert (np.diff(few.offsets) <= len(KINDS) * history.length).all()
    full = history_bags(history, events, users, events.offsets[1:], bags)
    short = history_bags(history, few, users, few.offsets[1:], bags)
    for name in ("values", "offsets", "weights"):
        np.testing.assert_array_equal(getattr(full, name), getattr(short, name))


def test_by_hand() -> None:
    """A purchase two days ago, a click yesterday and one today; carts are not read."""
    events = events_of([[(0, 2, 0), (4, 0, 24), (1, 1, 40), (1, 0, 48)]])
    history = History(of="brand", weights={"click": 1, "purchase": 8}, half_life_days=1)
    found = history_bags(history, events, np.array([0]), events.offsets[1:], Ragged.from_rows(BAGS))
    assert found.values.tolist() == [2, 3, 6, 1]
    np.testing.assert_allclose(found.weights, np.array([1, 1, 0.5, 2]) / 4.5)


def test_an_old_event_alone_weighs_as_much_as_a_new_one() -> None:
    """However long ago: nothing is lost below the smallest number, whatever came since of kinds that are not read."""
    events = events_of([[(0, 2, 0), (4, 0, 24 * 5000)]])
    history = History(weights={"purchase": 1}, half_life_days=0.001)
    found = history_bags(history, events, np.array([0]), events.offsets[1:], Ragged.from_rows(BAGS))
    assert (found.values.tolist(), found.weights.tolist()) == ([1], [1.0])


def test_the_time_of_the_whole_log_does_not_matter() -> None:
    assert DAY == 24 * 3600 * 1e6
    log = [[(0, 0, 5), (1, 1, 30), (3, 2, 31)]]
    early, late = events_of(log), events_of([[(i, k, h + 24 * 365) for i, k, h in log[0]]])
    history = History(half_life_days=2)
    bags = [history_bags(history, e, np.array([0]), e.offsets[1:], Ragged.from_rows(BAGS)) for e in (early, late)]
    np.testing.assert_array_equal(bags[0].weights, bags[1].weights)


def test_saved_events_are_loaded(tmp_path: Path) -> None:
    events = events_of([[(0, 2, 0)], [], [(4, 0, 24), (1, 1, 25)]])
    events.save(tmp_path / "events")
    loaded = Events.load(tmp_path / "events")
    for name in ("items", "kinds", "times", "offsets"):
        np.testing.assert_array_equal(getattr(events, name), getattr(loaded, name))
        assert getattr(events, name).dtype == getattr(loaded, name).dtype


def test_a_history_that_leaves_out_kinds_says_so_in_its_name() -> None:
    assert History(of="brand").name("query") == "history.brand"
    assert History(of="brand", weights={"purchase": 1, "cart": 2}).name("query") == "history.brand.cart+purchase"


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": {}},
        {"weights": {"impression": 1}},
        {"weights": {"click": 0}},
        {"weights": {"click": -1}},
        {"weights": {"click": math.inf}},
        {"half_life_days": 0},
        {"length": 0},
        {"kinds": ["click"]},
    ],
)
def test_an_impossible_history_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        History.model_validate(wrong)
