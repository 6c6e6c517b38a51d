"""Assignment: uniform, sticky, independent between experiments, exclusive within layers."""

import itertools
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from twinspire.experiments.assign import Plan, clashes, layer_parts, positions
from twinspire.experiments.spec import Experiment

UNITS = [f"user-{n}" for n in range(20_000)]
# Each test here draws once, with fixed salts: below this a fair hash comes once in a hundred thousand times.
SUSPICIOUS = 1e-5


def experiment(name, weights=(1, 1), **keys):
    arms = [{"name": chr(97 + place), "weight": weight} for place, weight in enumerate(weights)]
    return Experiment.model_validate({"name": name, "arms": arms, "status": "running"} | keys)


def arm_of(plan, unit, name, profile=None, now=0.0):
    found = {one.experiment.name: one.label for one in plan.assign(unit, unit, profile or {}, now)}
    return found.get(name)


def labels(plan, name):
    return [arm_of(plan, unit, name) for unit in UNITS]


@pytest.mark.parametrize("salt", ["a", "2026-11", "é"])
def test_positions_are_uniform_and_their_halves_independent(salt):
    both = np.array([positions(salt, unit) for unit in UNITS])
    assert both.min() >= 0
    assert both.max() < 1
    for half in both.T:
        assert stats.chisquare(np.histogram(half, 100, (0, 1))[0]).pvalue > SUSPICIOUS
    table = np.histogram2d(*both.T, bins=10, range=((0, 1), (0, 1)))[0]
    assert stats.chi2_contingency(table).pvalue > SUSPICIOUS


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (5, 3, 2), (0.1, 0.7, 0.1, 0.1)])
def test_arms_get_their_weights(weights):
    counts = Counter(labels(Plan([experiment("e", weights)]), "e"))
    expected = np.array(weights) / sum(weights) * len(UNITS)
    assert stats.chisquare([counts[chr(97 + n)] for n in range(len(weights))], expected).pvalue > SUSPICIOUS


def test_experiments_are_independent_of_each_other():
    plan = Plan([experiment("one"), experiment("other", (1, 2))])
    pairs = Counter(zip(labels(plan, "one"), labels(plan, "other"), strict=True))
    table = [[pairs[a, b] for b in "ab"] for a in "ab"]
    assert stats.chi2_contingency(table).pvalue > SUSPICIOUS
    same = Plan([experiment("one", salt="s"), experiment("other", salt="s")])
    assert labels(same, "one") == labels(same, "other")


def test_a_larger_share_and_other_experiments_move_nobody():
    narrow, wide = Plan([experiment("e", share=0.2)]), Plan([experiment("e", share=0.6), experiment("f")])
    before, after = labels(narrow, "e"), labels(wide, "e")
    assert all(old in (None, new) for old, new in zip(before, after, strict=True))
    for share, found in ((0.2, before), (0.6, after)):
        part = sum(label is not None for label in found)
        assert stats.binomtest(part, len(UNITS), share).pvalue > SUSPICIOUS


def test_a_layer_gives_a_unit_one_experiment_at_most_and_each_its_share():
    shares = {"one": 0.3, "two": 0.5, "three": 0.2}
    plan = Plan(experiment(name, layer="ranking", share=share) for name, share in shares.items())
    found = Counter(tuple(one.experiment.name for one in plan.assign(unit, None, {}, 0)) for unit in UNITS)
    assert set(found) == {(name,) for name in shares}
    expected = [share * len(UNITS) for share in shares.values()]
    assert stats.chisquare([found[name,] for name in shares], expected).pvalue > SUSPICIOUS


def test_a_new_experiment_of_a_layer_moves_nobody_and_what_is_over_is_free_again():
    first = experiment("b", layer="l", share=0.5, start="2026-01-01", end="2026-02-01")
    second = experiment("a", layer="l", share=0.5, start="2026-01-15")
    third = experiment("c", layer="l", share=0.5, start="2026-03-01")
    assert layer_parts([first]) == {"b": ((0, 0.5),)}
    assert layer_parts([second, first]) == {"b": ((0, 0.5),), "a": ((0.5, 1),)}
    assert layer_parts([third, second, first]) == {"b": ((0, 0.5),), "a": ((0.5, 1),), "c": ((0, 0.5),)}
    assert clashes([first, second, third]) == {}
    early = experiment("d", layer="l", share=0.1, start="2026-01-20")
    assert "no room" in clashes([first, second, early])[2]


@given(shares=st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_parts_of_a_layer_never_overlap(shares):
    total = max(sum(shares), 100)
    every = [experiment(f"e{n}", layer="l", share=share / total) for n, share in enumerate(shares)]
    parts = layer_parts(every)
    flat = sorted(part for one in parts.values() for part in one)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(flat))
    for one in every:
        assert sum(high - low for low, high in parts[one.name]) == pytest.approx(one.share)


def test_who_is_outside_sees_nothing():
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    plan = Plan([experiment("e", audience={"country": ["de", "fr"], "age": {"min": 18}}, start=start, end=end)])
    inside = {"country": "de", "age": 30.0}
    now = start.timestamp()
    assert arm_of(plan, "u", "e", inside, now) is not None
    for profile in ({}, inside | {"country": "es"}, inside | {"age": 17.0}, inside | {"age": "30"}, {"country": "de"}):
        assert arm_of(plan, "u", "e", profile, now) is None
    assert arm_of(plan, "u", "e", inside, now - 1) is None
    assert arm_of(plan, "u", "e", inside, end.timestamp()) is None
    below = Plan([experiment("e", audience={"likes": "Shoes"})])
    inside = [arm_of(below, "u", "e", {"likes": it}) is not None for it in ("Shoes", "Shoes > Running", "Shoestring")]
    assert inside == [True, True, False]


def test_units_are_users_or_sessions():
    plan = Plan([experiment("by-user"), experiment("by-session", unit="session")])
    names = [[one.experiment.name for one in plan.assign(user, session, {}, 0)] for user, session in
             [("u", "s"), ("u", None), (None, "s"), (None, None)]]  # fmt: skip
    assert names == [["by-session", "by-user"], ["by-user"], ["by-session"], []]


def test_drafts_are_for_testers_and_stopped_ones_keep_everyone_on_the_control():
    plan = Plan([experiment("draft", status="draft"), experiment("over", status="stopped")])
    chosen = [one for unit in UNITS[:50] for one in plan.assign(unit, None, {}, 0)]
    found = {(one.experiment.name, one.label, one.counts) for one in chosen}
    assert found == {("over", "a", False)}
    assert plan.override("draft", "b").override
    with pytest.raises(KeyError):
        plan.override("draft", "c")


def test_what_cannot_run_side_by_side_is_refused():
    def with_lexical(name, **keys):
        arms = [{"name": "a"}, {"name": "b", "parameters": {"lexical": 0}}]
        return Experiment.model_validate({"name": name, "arms": arms, "status": "running"} | keys)

    one = with_lexical("one")
    assert "put both into one layer" in clashes([one, with_lexical("two")])[1]
    assert clashes([one, with_lexical("two", status="draft")]) == {}
    assert clashes([one, with_lexical("two", status="stopped")]) == {}
    assert clashes([with_lexical("one", end="2026-01-01"), with_lexical("two", start="2026-01-01")]) == {}
    layered = [with_lexical(name, layer="l", share=0.5) for name in ("one", "two")]
    assert clashes(layered) == {}
    assert "has user" in clashes([layered[0], with_lexical("two", layer="l", share=0.5, unit="session")])[1]
    assert "another file" in clashes([one, one])[1]


def test_other_processes_agree():
    plan = Plan([experiment("e", (1, 2)), experiment("f", layer="l", share=0.4)])
    code = (
        "import sys; from twinspire.experiments.assign import Plan; from twinspire.experiments.spec import Experiment\n"
        "plan = Plan(map(Experiment.model_validate_json, sys.argv[1:]))\n"
        "print(plan.fingerprint, *(','.join(c.label for c in plan.assign(f'u{n}', None, {}, 0)) for n in range(50)))"
    )
    told = [one.model_dump_json() for one in reversed(plan.experiments.values())]
    out = subprocess.run([sys.executable, "-c", code, *told], capture_output=True, text=True, check=True).stdout
    own = (",".join(one.label for one in plan.assign(f"u{n}", None, {}, 0)) for n in range(50))
    assert out.strip("\n") == " ".join([plan.fingerprint, *own])
