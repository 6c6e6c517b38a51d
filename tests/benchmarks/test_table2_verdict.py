"""Whether Table 2 is in the paper's order, on reports made by hand."""

import itertools
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.table2.rows import PAPER, PAPER_ROWS
from benchmarks.table2.show import show
from benchmarks.table2.verdict import COMPARED, SAID, outcome, verdict
from twinspire.evaluation import Estimate, Report, Section

METRICS = ("top1_of_1024", "top10_of_1024", "auc")


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def section(levels: dict[str, float], half: float, paired_half: float) -> Section:
    """Every metric of a row has its level; intervals are so wide, those of paired differences as wide as said."""
    pairs = itertools.permutations(levels, 2)
    return Section(
        description="",
        cases=100,
        queries=10,
        systems={row: {metric: estimate(level, half) for metric in METRICS} for row, level in levels.items()},
        differences={
            f"{a} - {b}": {metric: estimate(levels[a] - levels[b], paired_half) for metric in METRICS} for a, b in pairs
        },
    )


def report_of(clicks: Section | None, judged: Section | None = None) -> Report:
    return Report(
        items=2000,
        cases=100 if clicks else 0,
        cases_evaluated=100 if clicks else 0,
        seed=0,
        resamples=100,
        slices={"all": clicks} if clicks else {},
        judgements=judged,
    )


def holds(report: Report) -> dict[str, str]:
    return {said["statement"]: said["holds"] for said in verdict(report)}


TOP = {name: row.top10 for name, row in PAPER.items()}
AUC = {name: row.auc for name, row in PAPER.items()}


def test_the_papers_own_figures_are_in_the_papers_order() -> None:
    found = holds(report_of(section(TOP, 0.0004, 0.0004), section(AUC, 0.0004, 0.0004)))
    assert set(found.values()) == {SAID["apart"]}
    assert list(found) == [
        "dssm comes last at Top-1",
        "bm25 < dpsr at Top-1",
        "dpsr < dpsr-p < dpsr-h at Top-1",
        "dssm comes last at Top-10",
        "bm25 < dpsr at Top-10",
        "dpsr < dpsr-p < dpsr-h at Top-10",
        "dssm comes last at AUC",
        "dpsr-h < dpsr-p < dpsr at AUC",
    ]


def test_a_statement_is_as_weak_as_its_weakest_pair() -> None:
    report = report_of(section(TOP, 0.004, 0.0004))
    (said,) = (s for s in verdict(report) if s["statement"] == "dpsr < dpsr-p < dpsr-h at Top-10")
    assert said["pairs"] == {"dpsr < dpsr-p": "paired", "dpsr-p < dpsr-h": "apart"}  # 0.979, 0.984, 0.998
    assert said["holds"] == SAID["paired"]
    assert holds(report)["dssm comes last at Top-1"] == SAID["apart"]
    assert holds(report_of(section(TOP, 0.004, 0.006)))[said["statement"]] == SAID["open"]


def test_one_row_below_dssm_is_enough_for_a_no() -> None:
    for row in PAPER_ROWS:
        if row != "dssm":
            found = holds(report_of(section(TOP | {row: 0.01}, 0.001, 0.001)))
            assert found["dssm comes last at Top-1"] == SAID["reversed"], row


@pytest.mark.parametrize(
    ("lower", "higher", "half", "paired_half", "expected"),
    [
        (0.5, 0.6, 0.04, 0.01, "apart"),
        (0.5, 0.6, 0.06, 0.01, "paired"),
        (0.5, 0.6, 0.06, 0.2, "open"),
        (0.6, 0.6, 0.06, 0.01, "open"),
        (0.6, 0.5, 0.06, 0.2, "open"),
        (0.6, 0.5, 0.06, 0.01, "reversed"),
    ],
)
def test_outcomes(lower: float, higher: float, half: float, paired_half: float, expected: str) -> None:
    assert outcome(estimate(lower, half), estimate(higher, half), estimate(higher - lower, paired_half)) == expected


def test_nothing_measured_has_no_outcome() -> None:
    nothing = Estimate(value=None, low=None, high=None)
    assert outcome(nothing, estimate(0.5, 0.1), nothing) is None


def test_rows_that_were_left_out_do_not_count() -> None:
    rows = {row: level for row, level in TOP.items() if row not in ("dssm", "dpsr-p")}
    found = verdict(report_of(section(rows, 0.001, 0.001)))
    assert [said["statement"] for said in found] == ["bm25 < dpsr at Top-1", "bm25 < dpsr at Top-10"]
    judged = {row: AUC[row] for row in ("bm25", "bm25-u&b")}
    assert verdict(report_of(None, section(judged, 0.01, 0.01))) == []


def test_every_pair_of_a_statement_is_asked_of_the_evaluation() -> None:
    differences = section(TOP, 0.1, 0.1).differences
    asked = {f"{a} - {b}": differences[f"{a} - {b}"] for a, b in COMPARED}
    clicks, judged = (section(levels, 0.1, 0.1).model_copy(update={"differences": asked}) for levels in (TOP, AUC))
    assert len(verdict(report_of(clicks, judged))) == 8


def test_the_table_prints_at_80_columns() -> None:
    report = report_of(section(TOP, 0.004, 0.0004))
    figures = {
        "data": "simulated market",
        "items": 2000,
        "clicks": 100,
        "rows": {
            row: {
                "top1": {"value": 0.123, "low": 0.1, "high": 0.2},
                "top10": {"value": None, "low": None, "high": None},
                "milliseconds": {"median": 0.5, "p99": 123.25},
            }
            for row in (*PAPER_ROWS, "query memory")
        },
        "left out": {"popularity": "none", "dssm": "no log", "encoder": "none"},
        "verdict": verdict(report),
    }
    console = Console(width=80, file=StringIO(), record=True)
    show(figures, console)
    text = console.export_text()
    assert "…" not in text
    assert "0.889" in text  # the paper's DPSR-h
    assert "left out: popularity, encoder: none" in text
    assert "left out: dssm: no log" in text
    assert "dssm comes last at Top-10: yes: the intervals do not overlap" in text
    assert "dpsr < dpsr-p paired" in text
