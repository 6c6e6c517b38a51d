"""Evaluate: one bundle, and bundles against each other, on the clicks that none of them has seen."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import tiny_shop
from click.testing import CliRunner

from pipelines.evaluate import evaluate_bundle, log_report
from twinspire.bundle import Bundle
from twinspire.cli import cli
from twinspire.errors import BundleError, EnvironmentProblem, TwinspireError
from twinspire.evaluation import EvaluationConfig
from twinspire.mlflow_client import connect
from twinspire.training.mlflow_run import start_run

CONFIG = EvaluationConfig(resamples=100)
WEEK, DAYS = 7, 3


@pytest.fixture(scope="module")
def week(tiny_dataset: Path) -> Path:
    """A bundle that has not seen the shop's last week."""
    return tiny_shop.fit_without_ray(tiny_dataset, tiny_dataset.parent / "week", (f"log.holdout_days={WEEK}",))


@pytest.fixture(scope="module")
def days(tiny_dataset: Path) -> Path:
    """One that has not seen the last three days, with other features and two heads."""
    settings = (f"log.holdout_days={DAYS}", "model.heads=2", "features.query=[{kind: ngram_bag}]")
    return tiny_shop.fit_without_ray(tiny_dataset, tiny_dataset.parent / "days", settings)


def clicks_in_the_last(dataset: Path, days: int) -> int:
    """Distinct searches with their item: the shop's sessions are of one search each."""
    log = pl.read_parquet(dataset / "interactions.parquet")
    return log.filter(pl.col("timestamp") >= pl.col("timestamp").max() - timedelta(days=days)).height


def test_a_bundle_and_its_baselines(week: Path, tiny_dataset: Path) -> None:
    report = evaluate_bundle(week, tiny_dataset, CONFIG)
    systems = report.slices["all"].systems
    assert list(systems) == ["model", "bm25", "bm25-u&b", "query memory", "popularity"]
    assert report.cases == pytest.approx(clicks_in_the_last(tiny_dataset, WEEK), abs=1)
    assert systems["model"]["mrr"].value > systems["popularity"]["mrr"].value


def test_bundles_are_compared_on_clicks_that_none_has_seen(week: Path, days: Path, tiny_dataset: Path) -> None:
    report = evaluate_bundle(week, tiny_dataset, CONFIG, against=[days])
    assert report.cases == pytest.approx(clicks_in_the_last(tiny_dataset, DAYS), abs=1)
    section = report.slices["all"]
    assert list(section.systems)[:2] == ["model", "days"]
    difference = section.differences["model - days"]["mrr"].value
    assert difference == pytest.approx(section.systems["model"]["mrr"].value - section.systems["days"]["mrr"].value)
    other_way = evaluate_bundle(days, tiny_dataset, CONFIG, against=[week])
    assert other_way.slices["all"].systems["week"] == section.systems["model"]
    assert other_way.slices["all"].systems["popularity"] == section.systems["popularity"]


def test_a_bundle_against_a_copy_of_itself_differs_by_nothing(week: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(week, tmp_path / "copy")
    section = evaluate_bundle(week, tiny_dataset, CONFIG, against=[tmp_path / "copy"]).slices["all"]
    for estimate in section.differences["model - copy"].values():
        assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_bundles_of_another_catalogue_or_of_one_name_are_refused(
    week: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    smaller = tmp_path / "shop"
    smaller.mkdir()
    items = pl.read_parquet(tiny_dataset / "items.parquet").head(-1)
    items.write_parquet(smaller / "items.parquet")
    log = pl.read_parquet(tiny_dataset / "interactions.parquet")
    log.join(items, on="item_id", how="semi").write_parquet(smaller / "interactions.parquet")
    other = tiny_shop.fit_without_ray(smaller, tmp_path / "smaller")
    assert len(Bundle.load(other).items) == 119
    with pytest.raises(BundleError, match=r"smaller: its catalogue \(119 items\) is not that of .*week \(120 items\)"):
        evaluate_bundle(week, tiny_dataset, CONFIG, against=[other])
    for folders in ([week, week], [tmp_path / "popularity"], [tmp_path / "model"]):
        with pytest.raises(BundleError, match=f"--against {folders[0]}: .* rename the folder"):
            evaluate_bundle(week, tiny_dataset, CONFIG, against=folders)
    with pytest.raises(BundleError, match="nothing: no readable manifest"):
        evaluate_bundle(week, tiny_dataset, CONFIG, against=[tmp_path / "nothing"])
    with pytest.raises(EnvironmentProblem, match="no such folder"):
        evaluate_bundle(week, tiny_dataset, CONFIG, encoder=tmp_path / "nothing")


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow, of its own queries
def test_the_figures_go_to_the_run_that_trained_the_bundle(
    week: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    report = evaluate_bundle(week, tiny_dataset, CONFIG)
    path = tmp_path / "report.json"
    path.write_text(report.model_dump_json())
    bundle = tmp_path / "bundle"
    shutil.copytree(week, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())

    def trained_by(run: str | None) -> str | None:
        (bundle / "manifest.json").write_text(json.dumps(manifest | {"mlflow_run_id": run}))
        return log_report(bundle, path)

    assert "without a run" in str(trained_by(None))
    assert "no MLflow database" in str(trained_by("0" * 32))
    _, run_id = start_run("twinspire", "week", {}, {})
    assert "0" * 32 in str(trained_by("0" * 32))
    assert trained_by(run_id) is None
    logged = connect(uri).get_run(run_id).data.metrics
    assert logged["test/mrr"] == report.value("model", "mrr")
    assert logged["test/head/recall_at_10"] == report.value("model", "recall@10", "head")


def test_the_command_takes_bundles_and_says_one_line(
    week: Path, days: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    own = ["evaluate", "--bundle", str(week), "--data", str(tiny_dataset), "--out", str(out)]
    done = CliRunner().invoke(cli, [*own, "--against", str(days)])
    assert done.exit_code == 0, done.output
    assert "vs days" in done.output
    assert out.is_file()
    for option in ("--against", "--encoder"):
        refused = CliRunner().invoke(cli, [*own, option, str(tmp_path / "nothing")])
        assert isinstance(refused.exception, TwinspireError)
        assert "\n" not in str(refused.exception)
