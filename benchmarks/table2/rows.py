"""The rows of Table 2 in the paper's order, ours below, and which of them a dataset can feed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from twinspire.dataset import Dataset

LEXICAL = ("bm25", "bm25-u&b")
TRAINED = ("dssm", "dpsr", "dpsr-p", "dpsr-h")  # each the name of its config
PAPER_ROWS = (*LEXICAL, *TRAINED)
ROWS = (*PAPER_ROWS, "popularity", "query memory", "encoder")


class Printed(NamedTuple):
    """A row of the paper's table: its time is for 15 million items."""

    top1: float
    top10: float
    auc: float
    time: str


PAPER = {
    "bm25": Printed(0.718, 0.947, 0.661, "61 s"),
    "bm25-u&b": Printed(0.721, 0.948, 0.661, "157 s"),
    "dssm": Printed(0.002, 0.016, 0.524, "20 ms"),
    "dpsr": Printed(0.839, 0.979, 0.696, "20 ms"),
    "dpsr-p": Printed(0.868, 0.984, 0.692, "20 ms"),
    "dpsr-h": Printed(0.889, 0.998, 0.685, "20 ms"),
}


def impossible(source: Dataset) -> dict[str, str]:
    """Rows that the data cannot feed, each with the reason; what a model's features lack, its fit says."""
    log = source.report.log
    if log is None:
        return dict.fromkeys((*TRAINED, "popularity", "query memory"), "the data has no interactions")
    if not log.events.get("impression"):
        return {"dssm": "the log has no impressions, so no unclicked ones to train against"}
    return {}
