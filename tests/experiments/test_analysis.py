"""From events to the report: planted truths, sums by another way, and what must not be trusted."""

import re
import shutil
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from planted import START, declare

from twinspire.errors import ConfigError, DatasetError, ExperimentError
from twinspire.experiments.analysis import analyse, baseline_of, check_guardrails, sample_ratio
from twinspire.experiments.events import Events
from twinspire.experiments.page import render
from twinspire.experiments.report import Report
from twinspire.experiments.verdict import decide
from twinspire.simulation.traffic import Traffic, write_events


@pytest.fixture(scope="module")
def report(gained):
    return analyse(gained, declare(end=START + timedelta(days=14)))


def find(comparisons, metric, name="all"):
    return next(one for one in comparisons if one.metric == metric and one.slice == name)


def test_the_planted_gain_is_found(report):
    assert report.verdict.kind == "ship"
    assert report.verdict.arm == "treatment"
    assert report.verdict.sentence.startswith("Ship treatment: conversion rises by ")
    assert report.ratio.trusted
    money = find(report.comparisons, "gmv_per_user")
    truth = 0.25 + 0.4 / 3  # a third of the searches are of the tail
    assert money.low < truth < money.high
    assert money.once.method == "bootstrap"
    assert money.once.low < truth < money.once.high
    clicks = find(report.comparisons, "ctr")
    assert clicks.low < 0.1 < clicks.high
    assert find(report.comparisons, "qrr").better


def test_the_long_tail_gains_most(report):
    lifts = {name: find(report.slices, "ucvr", f"{name} queries").lift for name in ("head", "torso", "long-tail")}
    assert max(lifts, key=lifts.get) == "long-tail"
    assert find(report.slices, "ucvr", "long-tail queries").clear


def test_sums_are_those_of_the_tables(gained, report):
    exposures = pl.read_parquet(gained / "exposures/*.parquet")
    bought = pl.read_parquet(gained / "interactions/*.parquet").filter(event="purchase")
    first = exposures.group_by("unit_id", "arm").agg(pl.col("timestamp").min().alias("first"))
    joined = first.join(bought, left_on="unit_id", right_on="user_id").filter(pl.col("timestamp") >= pl.col("first"))
    for arm, place in (("control", "control"), ("treatment", "treatment")):
        units = first.filter(arm=arm)
        of = joined.filter(arm=arm)
        assert getattr(find(report.comparisons, "ucvr"), place) == pytest.approx(of["unit_id"].n_unique() / len(units))
        expected = of["value"].sum() / len(units)
        assert getattr(find(report.comparisons, "gmv_per_user"), place) == pytest.approx(expected, rel=1e-5)


def test_what_was_known_on_a_day_is_what_a_report_of_that_day_says(gained, report):
    early = analyse(gained, declare(end=START + timedelta(days=14)), until=START + timedelta(days=6))
    then, now = find(early.comparisons, "ucvr").curve, find(report.comparisons, "ucvr").curve
    assert [point.lift for point in then] == pytest.approx([point.lift for point in now[: len(then)]])
    # Only the part of the error that a metric gets may differ, and that does not depend on the day.
    assert [point.low for point in then] == pytest.approx([point.low for point in now[: len(then)]])


def test_no_difference_is_not_found(alike):
    report = analyse(alike, declare())
    assert report.verdict.kind == "keep_running"
    assert report.verdict.sentence.startswith("Keep running: ")
    assert decide(report.model_copy(update={"status": "stopped"}), {}).kind == "no_winner"
    assert not any(one.clear for one in report.comparisons)


def test_lost_units_are_noticed(simulated):
    report = analyse(simulated(lost=0.25, units=6000, days=3, days_before=0, lift=0.5), declare())
    assert not report.ratio.trusted
    assert report.verdict.kind == "distrust"
    assert report.verdict.alarm
    assert "Do not trust this test: " in report.verdict.sentence


def test_an_arm_that_fails_is_stopped(simulated):
    folder = simulated(units=3000, days=3, days_before=0, treatment_error=0.05, lift=0.5)
    report = analyse(folder, declare())
    assert report.verdict.kind == "guardrail"
    assert report.verdict.sentence.startswith("Stop treatment: ")
    assert "% of its searches fail, the limit is 1.00%" in report.verdict.sentence
    assert {(guard.arm, guard.name) for guard in report.guards if guard.stops} == {("treatment", "error_share")}
    assert [guard.stops for guard in check_guardrails(folder, declare())] == [guard.stops for guard in report.guards]


def test_slow_servers_are_no_arm_s_doing(simulated):
    report = analyse(simulated(units=2000, days=3, days_before=0, took_ms=60.0), declare())
    assert all(guard.broken for guard in report.guards if guard.name == "p99_ms")
    assert not any(guard.stops for guard in report.guards)
    assert any("limit" in note for note in report.verdict.notes)


def test_three_arms(simulated):
    arms = ("control", "plain", "personal")
    folder = simulated(arms=arms, weights=(2.0, 1.0, 1.0), units=4000, days=3, days_before=0)
    weighted = [{"name": arm, "weight": weight} for arm, weight in zip(arms, (2, 1, 1), strict=True)]
    assert not sample_ratio(Events(folder, declare(arms=arms))).trusted  # equal shares were declared
    report = analyse(folder, type(declare()).model_validate({"name": "e", "start": START, "arms": weighted}))
    assert report.ratio.trusted
    assert {one.arm for one in report.comparisons} == {"plain", "personal"}
    assert "personal against the control" in render(report)


def test_declared_metrics(alike):
    declared = {"buyers_clicks": {"numerator": "any clicks", "denominator": "units", "form": "share"}}
    metrics = {"primary": "buyers_clicks", "secondary": ["ctr"], "declared": declared}
    report = analyse(alike, declare(metrics=metrics))
    found = find(report.comparisons, "buyers_clicks")
    assert 0 < found.control < 1
    assert found.title == "Buyers clicks"
    for wrong in ({"primary": "love"}, {"declared": {"a": {"numerator": "hearts"}}}):
        with pytest.raises((ExperimentError, ValueError), match="known are"):
            declare(metrics=wrong)


def test_too_early(simulated):
    report = analyse(simulated(units=150, days=1, days_before=0), declare())
    assert report.verdict.kind == "too_early"
    assert all(one.lift is None for one in report.comparisons)
    assert "Too early" in render(report)


def test_the_report_is_data(report):
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_the_page_needs_no_network_and_says_first_what_to_do(report):
    page = render(report)
    assert "Ship treatment:" in page
    assert page.index("Ship treatment:") < page.index("<table")
    tags = re.sub(r"<script[^>]*>.*?</script>", lambda found: found.group()[:60], page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=.?(http|//)", tags)
    hostile = report.model_copy(update={"experiment": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in render(hostile)


def test_a_baseline_for_the_planner(alike):
    known = baseline_of(alike, declare(), "ucvr")
    assert 0 < known.value < 1
    assert known.deviation == pytest.approx(np.sqrt((1 - known.value) / known.value), rel=1e-2)
    with pytest.raises(ConfigError, match="--metric love: known are"):
        baseline_of(alike, declare(), "love")


def test_what_comes_in_less_than_a_day_is_no_baseline(tmp_path):
    write_events(tmp_path, "e", START, Traffic(units=400, days=1))
    with pytest.raises(DatasetError, match=r"e has run for 2\d\.\d hours; at least a day"):
        baseline_of(tmp_path, declare(), "ucvr")


def test_a_bundle_that_was_replaced_meanwhile_is_told(alike, tmp_path):
    folder = tmp_path / "events"
    shutil.copytree(alike, folder)
    assert not analyse(folder, declare()).verdict.notes
    last = max((folder / "exposures").iterdir())
    swapped = pl.when(pl.col("arm") == "treatment").then(pl.lit("2")).otherwise("model_version")
    pl.read_parquet(last).with_columns(swapped.alias("model_version")).write_parquet(last)
    found = analyse(folder, declare())
    assert found.versions == {"control": ("1",), "treatment": ("1", "2")}
    (note,) = found.verdict.notes
    assert note.startswith("treatment was answered by 2 versions of its bundle, 2 last")
