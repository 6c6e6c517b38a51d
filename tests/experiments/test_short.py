"""An experiment of six hours: steps are hours, and what is planned does not depend on what is seen."""

from datetime import timedelta

from planted import START, declare

from twinspire.experiments.analysis import analyse


def test_six_hours(simulated):
    folder = simulated(units=6000, days=1, days_before=0, visits_a_day=3.0, lift=1.0, buy=0.2)
    short = declare(end=START + timedelta(hours=6))
    report = analyse(folder, short)
    assert report.step_seconds == 3600
    assert report.verdict.kind == "ship"
    half = analyse(folder, short, until=START + timedelta(hours=4))
    curves = [one.comparisons[0].curve for one in (half, report)]
    assert [point.low for point in curves[0][:-1]] == [point.low for point in curves[1][: len(curves[0]) - 1]]


def test_without_an_end_two_weeks_are_planned(simulated):
    folder = simulated(units=1500, days=1, days_before=0, visits_a_day=2.0)
    report = analyse(folder, declare(), until=START + timedelta(hours=5))
    assert any("declare an end" in note for note in report.verdict.notes)
