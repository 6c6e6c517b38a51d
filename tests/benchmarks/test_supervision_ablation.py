"""The ablation's labels are true, and no test of it holds a labelled pair."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from benchmarks.supervision.__main__ import estimates, held_out, supervised
from twinspire import dataset
from twinspire.dataset import Dataset
from twinspire.features.log import LogConfig, read_positives
from twinspire.simulation import Truth, simulate, truth
from twinspire.text import normalise_column

WINDOW = 0.2


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Truth]:
    folder = tmp_path_factory.mktemp("ablation") / "market"
    simulate(folder, items=400, users=200, interactions=20_000, seed=0)
    known = truth.load(folder)
    return supervised(dataset.read(folder), known, WINDOW, queries=60, each=3), known


def test_a_judge_tells_the_truth_of_queries_before_the_window(market: tuple[Dataset, Truth]) -> None:
    source, known = market
    table = source.supervision
    assert table is not None
    assert set(table["label"]) == {"positive", "negative"}
    rows = {item: row for row, item in enumerate(source.items["item_id"])}
    grades = known.relevance(table["query"].to_list(), np.array([rows[item] for item in table["item_id"]]))
    assert (grades[(table["label"] == "positive").to_numpy()] >= 0.99).all()
    assert (grades[(table["label"] == "negative").to_numpy()] < 0.34).all()
    assert table.group_by("query", "label").len()["len"].max() == 3
    positives = read_positives(source, LogConfig())
    earlier = positives.query[: len(positives) - round(len(positives) * WINDOW)]
    assert set(table["query"]) <= set(positives.queries.gather(np.unique(earlier)))


def test_no_test_holds_a_labelled_pair(market: tuple[Dataset, Truth]) -> None:
    source, known = market
    assert source.judgements is not None
    judged = source.judgements.with_columns(query=normalise_column(source.judgements["query"]))
    told = judged.head(40).select("query", "item_id")
    table = told.with_columns(label=pl.lit("negative"), source=pl.lit("test"))
    test = held_out(replace(source, supervision=table), known, WINDOW)
    pairs = set(told.rows())
    names = source.items["item_id"]
    assert len(test.judged) == len(judged) - len(judged.join(told, on=["query", "item_id"], how="semi"))
    assert not {(query, names[item]) for query, item in test.judged.select("query", "item").rows()} & pairs


def test_differences_are_to_the_arm_without() -> None:
    query = np.arange(50)
    base = np.linspace(0, 1, 50)
    figures = {"none": {"m": (base, query)}, "all": {"m": (base + 0.25, query)}}
    levels, differences = estimates(figures)
    assert levels["m"]["none"]["value"] == pytest.approx(0.5)
    found = differences["m"]["all"]
    assert [found[name] for name in ("low", "value", "high")] == pytest.approx([0.25] * 3)
