"""Is it the paper's order? Read from intervals, never from the figures alone.

Between a lower and a higher row there are four outcomes: `apart`, their own intervals do not overlap; `paired`, they
do, but the interval of the difference on the same cases lies above zero; `open`, it holds zero; `reversed`, it lies
below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.table2.rows import LEXICAL, PAPER_ROWS

if TYPE_CHECKING:
    from twinspire.evaluation import Report, Section
    from twinspire.evaluation.bootstrap import Estimate

METRICS = {"top1": "top1_of_1024", "top10": "top10_of_1024", "auc": "auc"}
OUTCOMES = ("apart", "paired", "open", "reversed")
SAID = {
    "apart": "yes: the intervals do not overlap",
    "paired": "yes by paired differences; the intervals overlap",
    "open": "not shown: a difference's interval holds zero",
    "reversed": "no: a difference goes the other way",
}


class Statement(NamedTuple):
    """What the paper says of one metric: of each pair the first row lies below the second."""

    text: str
    metric: str
    pairs: tuple[tuple[str, str], ...]


def _statements() -> list[Statement]:
    others = tuple(("dssm", row) for row in PAPER_ROWS if row != "dssm")
    every = []
    for metric, name in (("top1", "Top-1"), ("top10", "Top-10")):
        every += [
            Statement(f"dssm comes last at {name}", metric, others),
            Statement(f"bm25 < dpsr at {name}", metric, tuple((row, "dpsr") for row in LEXICAL)),
            Statement(f"dpsr < dpsr-p < dpsr-h at {name}", metric, (("dpsr", "dpsr-p"), ("dpsr-p", "dpsr-h"))),
        ]
    every += [
        Statement("dssm comes last at AUC", "auc", others),
        Statement("dpsr-h < dpsr-p < dpsr at AUC", "auc", (("dpsr-h", "dpsr-p"), ("dpsr-p", "dpsr"))),
    ]
    return every


STATEMENTS = _statements()
COMPARED = tuple(dict.fromkeys((higher, lower) for said in STATEMENTS for lower, higher in said.pairs))


def section(report: Report, metric: str) -> Section | None:
    """Where a metric's figures stand: clicks for Top-k, judgements for AUC."""
    if metric == "auc":
        return report.judgements
    return report.slices["all"] if report.cases_evaluated else None


def outcome(lower: Estimate, higher: Estimate, difference: Estimate) -> str | None:
    """One of `OUTCOMES` for two rows and the difference `higher - lower`; None where there is nothing measured."""
    if lower.high is None or higher.low is None or difference.low is None or difference.high is None:
        return None
    if difference.high < 0:
        return "reversed"
    if lower.high < higher.low:
        return "apart"
    return "paired" if difference.low > 0 else "open"


def verdict(report: Report) -> list[dict[str, Any]]:
    """Each statement with what holds of it as a whole, that of its weakest pair, and the outcome of each pair.

    Pairs with a row that was left out do not count; a statement with none left is not in the list.
    """
    found = []
    for said in STATEMENTS:
        place = section(report, said.metric)
        if place is None:
            continue
        outcomes: dict[str, str] = {}
        for lower, higher in said.pairs:
            if lower in place.systems and higher in place.systems:
                name = METRICS[said.metric]
                difference = place.differences[f"{higher} - {lower}"][name]
                of_pair = outcome(place.systems[lower][name], place.systems[higher][name], difference)
                if of_pair is not None:
                    outcomes[f"{lower} < {higher}"] = of_pair
        if outcomes:
            weakest = max(outcomes.values(), key=OUTCOMES.index)
            found.append({"statement": said.text, "holds": SAID[weakest], "pairs": outcomes})
    return found
