"""The rows of Table 2 in the paper's order, ours below, and which of them a dataset can feed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

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
    """Rows that the data cannot feed, each with the reason."""
    log = source.report.log
    if source.interactions is None or log is None:
        return dict.fromkeys((*TRAINED, "popularity", "query memory"), "the data has no interactions")
    reasons = {}
    if not log.events.get("impression"):
        reasons["dssm"] = "the log has no impressions, so no unclicked ones to train against"
    profile = [] if source.users is None else [column for column in source.users.columns if column != "user_id"]
    if not profile:
        reasons["dpsr-p"] = "the users have no profile columns"
    users = source.interactions.select(pl.col("user_id").is_not_null().any()).collect(engine="streaming").item()
    if not users:
        reasons |= dict.fromkeys(("dpsr-p", "dpsr-h"), "the log does not say who searched")
    return reasons
