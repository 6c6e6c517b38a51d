import numpy as np
import pytest

from benchmarks.alpha import LOSSES, METRICS, curves, title


def cases(popularity: float, spread: float = 0.0) -> np.ndarray:
    """METRICS of 40 cases, popularity alternating around its mean; the other metrics are 0.5."""
    values = np.full((40, len(METRICS)), 0.5)
    values[:, METRICS.index("popularity")] = popularity + spread * (-1.0) ** np.arange(40)
    return values


def test_changes_are_paired_and_the_title_says_what_was_found() -> None:
    default, without, paper = LOSSES
    found = curves(
        {
            default: [cases(60, 10), cases(60, -10)],
            without: [cases(50, 5), cases(58, 5)],
            paper: [cases(50, 20), cases(62, 20)],
        },
        (0.0, 1.0),
        np.arange(40),
    )
    change = found[2].change["popularity"]
    assert (change.value, change.low, change.high) == pytest.approx((12, 12, 12)), "the spread cancels case by case"
    assert found[1].metrics["popularity"][1].value == pytest.approx(58)
    assert found[0].change["relevance"].value == 0
    assert "+12.0 with the paper's loss" in title(found)
    assert "no change with log-Q" in title(found)
