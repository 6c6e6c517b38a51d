"""What a dataset can feed of Table 2, and what happens to the rest."""

from pathlib import Path

import polars as pl
import pytest
import tiny_shop
from rich.console import Console

from benchmarks.table2.__main__ import figures_of, measure
from benchmarks.table2.rows import TRAINED, impossible
from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.evaluation import EvaluationConfig

HELD = "log.holdout_days=7"
CONFIG = EvaluationConfig(resamples=100)


def judge(folder: Path, items: pl.DataFrame) -> None:
    things = ["shoes", "mug", "tent"]
    pairs = pl.DataFrame({"query": things}).join(items.select("item_id", "title"), how="cross")
    grades = pairs.select("query", "item_id", grade=pl.col("title").str.contains(pl.col("query")).cast(pl.Float32))
    grades.write_parquet(folder / "judgements.parquet")


@pytest.fixture(scope="module")
def judged_only(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    items = pl.read_parquet(tiny_dataset / "items.parquet")
    items.write_parquet(folder / "items.parquet")
    judge(folder, items)
    return folder


def test_without_a_log_only_the_lexical_rows_are_left(judged_only: Path, tmp_path: Path) -> None:
    source = dataset.read(judged_only)
    table = measure(source, tmp_path, (HELD,), None, CONFIG, 5, Console(quiet=True))
    assert set(table.left_out) == {*TRAINED, "popularity", "query memory"}
    figures = figures_of(table)
    assert list(figures["rows"]) == ["bm25", "bm25-u&b"]
    for row in figures["rows"].values():
        assert row["auc"]["value"] == 1
        assert "top1" not in row
        assert 0 < row["milliseconds"]["median"] <= row["milliseconds"]["p99"]
    assert (figures["clicks"], figures["judged pairs"]) == (0, 360)


def test_without_impressions_there_is_no_dssm(tiny_dataset: Path) -> None:
    assert list(impossible(dataset.read(tiny_dataset))) == ["dssm"]


def test_bundles_that_are_there_are_taken_and_a_config_that_is_refused_is_a_line(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    for name in ("dpsr", "dpsr-h"):
        parts = {"dpsr": "text", "dpsr-h": "history"}[name]
        tiny_shop.fit_without_ray(tiny_dataset, tmp_path / "bundles" / name, (HELD, f"features.query={parts}"))
    settings = (HELD, "features.query=[{kind: number, column: height}]")  # which the shop's users do not have
    table = measure(dataset.read(tiny_dataset), tmp_path, settings, None, CONFIG, 5, Console(quiet=True))
    figures = figures_of(table)
    assert list(figures["rows"]) == ["bm25", "bm25-u&b", "dpsr", "dpsr-h", "popularity", "query memory"]
    assert "height" in figures["left out"]["dpsr-p"]
    assert "no impressions" in figures["left out"]["dssm"]
    assert "dpsr - bm25" in figures["differences"]
    statements = {said["statement"] for said in figures["verdict"]}
    assert statements == {"bm25 < dpsr at Top-1", "bm25 < dpsr at Top-10"}
    assert not Bundle.load(tmp_path / "bundles" / "dpsr").encoder.personal
