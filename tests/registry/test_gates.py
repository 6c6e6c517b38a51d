"""Gates by hand-made comparisons: what passes, what does not, and what is said."""

import pytest
from pydantic import ValidationError

from twinspire.evaluation.bootstrap import Estimate
from twinspire.evaluation.comparison import Comparison, Side
from twinspire.evaluation.report import Report, Section
from twinspire.registry.gates import GateConfig, judge

A, B = "shop/2", "shop/1"
GIB = 1 << 30


def estimate(value, low, high):
    return Estimate(value=value, low=low, high=high)


def section(difference, *, queries=100, value=0.5):
    other = {B: {"mrr": estimate(0.4, 0.3, 0.5)}} if difference else {}
    return Section(
        description="",
        cases=1000,
        queries=queries,
        systems={A: {"mrr": estimate(value, value - 0.1, value + 0.1)}, **other},
        differences={f"{A} - {B}": {"mrr": difference}} if difference else {},
    )


def side(label, **changes):
    made = {
        "label": label,
        "checksum": "0",
        "items": 10,
        "bytes": GIB,
        "trained_until": None,
        "index": "Flat",
        "recall_at_100": 0.97,
        "p50_ms": 1.0,
        "p99_ms": 5.0,
        "canaries": 32,
    }
    return Side(**made | changes)


def comparison(difference=None, *, slices=None, cases=1000, judgements=None, **changes):
    sections = {"all": section(difference)} | (slices or {})
    return Comparison(
        dataset="shop",
        dataset_fingerprint="f" * 64,
        first=side(A, **changes),
        second=side(B) if difference else None,
        report=Report(
            items=10,
            cases=cases,
            cases_evaluated=cases,
            seed=0,
            resamples=100,
            slices=sections,
            judgements=judgements,
        ),
    )


def refused(found, **config):
    return [gate.name for gate in judge(found, GateConfig(**config)) if not gate.passed]


BETTER, UNSURE, WORSE = estimate(0.02, 0.01, 0.03), estimate(0.02, -0.01, 0.05), estimate(-0.02, -0.03, -0.01)


def test_better_beyond_the_interval_passes_and_nothing_less_does():
    assert refused(comparison(BETTER)) == []
    assert refused(comparison(UNSURE)) == ["gain mrr"]
    assert refused(comparison(WORSE)) == ["gain mrr"]
    assert refused(comparison(estimate(0.0, 0.0, 0.0))) == ["gain mrr"]
    assert refused(comparison(estimate(None, None, None))) == ["gain mrr"]


def test_a_minimal_gain_and_a_loss_that_is_allowed():
    assert refused(comparison(BETTER), min_gain=0.015) == ["gain mrr"]
    assert refused(comparison(BETTER), min_gain=0.015, certain=False) == []
    assert refused(comparison(UNSURE), min_gain=-0.02) == []
    assert refused(comparison(WORSE), min_gain=-0.02) == ["gain mrr"]


def test_no_slice_may_lose_more_than_it_may():
    lost = {"tail": section(estimate(-0.06, -0.2, 0.1)), "head": section(BETTER)}
    assert refused(comparison(BETTER, slices=lost)) == ["slice tail mrr"]
    assert refused(comparison(BETTER, slices=lost), worst_slice=0.06) == []
    few = {"tail": section(estimate(-0.06, -0.2, 0.1), queries=29)}
    assert refused(comparison(BETTER, slices=few)) == []


def test_absolute_gates_are_all_there_is_without_a_champion():
    names = [gate.name for gate in judge(comparison(), GateConfig(floors={"mrr": 0.5}))]
    assert names == ["cases", "floor mrr", "index recall", "latency", "size", "canaries"]
    assert refused(comparison(), floors={"mrr": 0.5}) == []
    assert refused(comparison(), floors={"mrr": 0.51, "nothing": 0.1}) == ["floor mrr", "floor nothing"]
    assert refused(comparison(cases=99)) == ["cases"]


@pytest.mark.parametrize(
    ("changes", "gate", "told"),
    [
        ({"recall_at_100": 0.89}, "index recall", "recall@100 of the index: 0.8900; at least 0.9000 is needed"),
        ({"p99_ms": 101.0}, "latency", "p99 of one search, in ms: 101.00; at most 100.00 is allowed"),
        ({"bytes": 33 * GIB}, "size", "GiB of files: 33.0000; at most 32.0000 is allowed"),
        ({"canary_problem": "of the query 'x' it finds nothing"}, "canaries", "of the query 'x' it finds nothing"),
    ],
)
def test_each_absolute_gate_says_what_is_wrong(changes, gate, told):
    found = {one.name: one for one in judge(comparison(**changes), GateConfig())}
    assert [name for name, one in found.items() if not one.passed] == [gate]
    assert found[gate].reason == told


@pytest.mark.parametrize(("ours", "champions", "passes"), [(220, 210, True), (220, 99, False), (300, 210, False)])
def test_a_machine_that_slows_the_champion_too_is_no_fault_of_the_candidate(ours, champions, passes):
    found = comparison(BETTER, p99_ms=float(ours))
    found = found.model_copy(update={"second": found.second.model_copy(update={"p99_ms": float(champions)})})
    (gate,) = [one for one in judge(found, GateConfig()) if one.name == "latency"]
    assert gate.passed == passes
    if passes:
        told = "p99 of one search, in ms: 220.00, the champion's beside it 210.00: the machine is slow"
        assert gate.reason == told


def test_gates_that_are_not_wanted():
    bad = comparison(p99_ms=1e9, bytes=1 << 50, canary_problem="wrong")
    assert refused(bad, max_p99_ms=None, max_gib=None, canaries=False) == []


def test_judged_pairs_stand_in_for_clicks():
    none = section(estimate(None, None, None)).model_copy(update={"cases": 0})
    pairs = section(BETTER)
    judged = Section(
        description="",
        cases=500,
        queries=50,
        systems={name: {"auc": figures["mrr"]} for name, figures in pairs.systems.items()},
        differences={name: {"auc": figures["mrr"]} for name, figures in pairs.differences.items()},
    )
    found = comparison(BETTER, cases=0, judgements=judged)
    found.report.slices["all"] = none
    assert refused(found, metrics=["auc"]) == []
    assert refused(found) == ["cases", "gain mrr"]
    assert refused(comparison(BETTER, cases=90, judgements=judged)) == ["cases"], "clicks are what mrr is measured on"


@pytest.mark.parametrize("wrong", [{"metrics": []}, {"worst_slice": -1}, {"max_p99_ms": 0}, {"min_gains": 1}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ValidationError):
        GateConfig(**wrong)
