"""Interleaving: counted by hand, a planted preference, and the page that tells of it."""

import re
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from planted import START, declare
from scipy.stats import binomtest

from twinspire.errors import DatasetError
from twinspire.experiments.preference import Preference, preference
from twinspire.experiments.preference_page import render
from twinspire.experiments.tables import EXPOSURES, INTERACTIONS

DRAFTED = declare(kind="interleave", end=START + timedelta(days=14))


def at(seconds=0.0, days=0):
    return START + timedelta(days=days, seconds=seconds)


def write(folder, searches, clicks):
    """searches: (time, request, unit, query, items, teams); clicks: (time, request, item)."""
    names = ("timestamp", "request_id", "unit_id", "query", "items", "teams")
    exposures = [
        dict(zip(names, one, strict=True))
        | {"experiment": "e", "arm": "interleaved", "user_id": one[2], "session_id": None, "override": False}
        for one in searches
    ]
    interactions = [
        {"timestamp": time, "request_id": request, "item_id": item, "event": "click"} for time, request, item in clicks
    ]
    for table, rows, schema in (("exposures", exposures, EXPOSURES), ("interactions", interactions, INTERACTIONS)):
        (folder / table).mkdir(exist_ok=True)
        pl.DataFrame(rows, schema=schema).write_parquet(folder / table / "a.parquet")
    return folder


def simulate(folder, *, units=1500, liking=0.5, tail_liking=None, led=0.5, days=10):
    """Each unit searches once a day for two days, and clicks one item, of the second arm as often as it likes that."""
    generator = np.random.default_rng(1)
    searches, clicks = [], []
    for number in range(2 * units):
        unit = number % units
        when = at(float(generator.uniform(0, 86_000)), days=int(generator.integers(days)))
        tail = generator.random() < 1 / 3
        query = f"rare {number}" if tail else "shoes" if generator.random() < 0.5 else "red shoes"
        first = int(generator.random() < led)
        teams = [first, 1 - first]
        searches.append((when, f"r{number}", f"u{unit}", query, ["x", "y"], teams))
        likes = liking if tail_liking is None or not tail else tail_liking
        if generator.random() < 0.7:
            wanted = int(generator.random() < likes)
            clicks.append((when + timedelta(seconds=9), f"r{number}", "xy"[teams.index(wanted)]))
    return write(folder, searches, clicks)


def test_counted_by_hand(tmp_path):
    searches = [
        (at(0), "r1", "a", "shoe", ["x", "y", "z"], [0, 1, 0]),
        (at(1), "r2", "a", "shoe", ["y", "x"], [0, 1]),
        (at(2), "r3", "b", "hat", ["x", "y"], [0, 1]),
        (at(3), "r4", "c", "hat", ["x", "y"], [0, 1]),
        (at(4), "r5", "d", "hat", ["x", "y"], [0, 1]),
        (at(-9), "r6", "d", "hat", ["x", "y"], [0, 1]),  # before the start
    ]
    # a: one of the first and two of the second; b: one each; c: the first, clicked twice; d: nothing.
    clicked = [("r1", "x"), ("r1", "y"), ("r2", "x"), ("r3", "x"), ("r3", "y"), ("r4", "x"), ("r4", "x"), ("r9", "x")]
    clicks = [(at(10), *one) for one in clicked]
    found = preference(write(tmp_path, searches, clicks), DRAFTED)
    assert (found.first, found.second, found.ties) == (1, 1, 1)
    assert (found.searches, found.units) == (5, 4)
    assert found.verdict.kind == "too_early"
    assert found.draft.led == (4, 0)  # the same search of a unit counts once
    assert "Too early to say:" in render(found)


def test_what_was_known_when(tmp_path):
    searches = [(at(0), f"r{n}", f"u{n % 2}", f"q{n}", ["x", "y"], [0, 1]) for n in range(4)]
    clicks = [
        (at(0), "r0", "y"),  # u0 prefers the second
        (at(0, days=1), "r1", "x"),  # u1 the first
        (at(0, days=2), "r2", "x"),  # u0 none any more
        (at(1, days=2), "r3", "x"),  # u1 still the first
        (at(5, days=3), "r0", "x"),  # u0 the first
    ]
    searches.append((at(0, days=3), "r9", "u9", "q", ["x"], [0]))
    found = preference(write(tmp_path, searches, clicks), DRAFTED)
    counts = [(one.first, one.ties, one.second) for one in found.curve]
    assert counts == [(0, 0, 1), (1, 0, 1), (1, 1, 0), (2, 0, 0)]
    early = preference(tmp_path, DRAFTED, until=at(0, days=2))
    assert (early.first, early.ties, early.second) == counts[1]


@pytest.mark.parametrize(("liking", "kind"), [(0.5, "keep_running"), (0.62, "ship"), (0.38, "stop")])
def test_a_planted_preference(tmp_path, liking, kind):
    folder = simulate(tmp_path, liking=liking)
    found = preference(folder, DRAFTED)
    assert found.verdict.kind == kind
    assert found.p_once == pytest.approx(binomtest(found.second, found.decided).pvalue)
    assert found.clear == (kind != "keep_running")
    assert (found.low > 0.5) == (kind == "ship")
    assert len(found.curve) == 10
    assert [one.share for one in found.curve[-1:]] == [found.share]
    early = preference(folder, DRAFTED, until=at(days=6))
    assert [one.low for one in early.curve] == [one.low for one in found.curve[:6]]
    stopped = DRAFTED.model_copy(update={"status": "stopped"})
    assert preference(folder, stopped).verdict.kind == ("no_winner" if kind == "keep_running" else kind)


def test_the_long_tail_prefers_it_most(tmp_path):
    found = preference(simulate(tmp_path, tail_liking=0.75), DRAFTED)
    tail = next(one for one in found.slices if one.name == "long-tail queries")
    assert tail.clear
    assert tail.share == max(one.share for one in found.slices)
    assert not any(one.clear for one in found.slices if one is not tail)


def test_an_unfair_draft_is_noticed(tmp_path):
    found = preference(simulate(tmp_path, led=0.6, liking=0.62), DRAFTED)
    assert found.verdict.kind == "distrust"
    page = render(found)
    assert page.index("Was the draft fair?") < page.index("What users prefer")


def test_the_page_needs_no_network_and_says_first_what_to_do(tmp_path):
    found = preference(simulate(tmp_path, liking=0.62), DRAFTED)
    page = render(found)
    assert page.index("Choose treatment:") < page.index("<section><h2>")
    tags = re.sub(r"<script[^>]*>.*?</script>", lambda script: script.group()[:60], page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=.?(http|//)", tags)
    hostile = found.model_copy(update={"experiment": "<script>alert(1)</script>", "arms": ("<script>a", "b")})
    assert not re.search(r"<script>a", re.sub(r"<script type.*?</script>", "", render(hostile), flags=re.DOTALL))
    assert Preference.model_validate_json(found.model_dump_json()) == found


def test_nothing_interleaved(tmp_path, alike):
    with pytest.raises(DatasetError, match="no column teams"):
        preference(alike, declare(kind="interleave"))
    with pytest.raises(DatasetError, match="no exposures/"):
        preference(tmp_path, declare(kind="interleave"))
