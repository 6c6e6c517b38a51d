"""The whole job by the command line, on two cores: simulate, validate, fit, evaluate, search, score; and fit again."""

import json
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest
from command import CommandLine, Finished

from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.evaluation import Report

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # MLflow, of its own queries
]

MARKET = ("--items", 600, "--users", 400, "--interactions", 40_000, "--seed", 3)
FIT = ("--set", "log.holdout_days=7", "--set", "training.rounds=3")
K = 20


@dataclass(frozen=True)
class Job:
    """The folder of the job, how its commands ended, and what was there when they had."""

    folder: Path
    ended: dict[str, Finished]
    files: set[str]
    left: list[str]

    @property
    def bundle(self) -> Bundle:
        return Bundle.load(self.folder / "bundle")

    @property
    def runs(self):
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        return client.search_runs([client.get_experiment_by_name("twinspire").experiment_id])


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "job"
    folder.mkdir()
    command_line = CommandLine(folder)
    yield command_line
    command_line.end_all()


@pytest.fixture(scope="module")
def job(line):
    folder = line.folder
    ended = {
        "simulate": line("simulate", *MARKET, "--out", "market"),
        "validate": line("validate", "--data", "market", "--require-interactions"),
        "fit": line("fit", "--data", "market", "--out", "bundle", *FIT),
    }
    assert {name: end.code for name, end in ended.items()} == dict.fromkeys(ended, 0), ended["fit"].err
    items = pl.read_parquet(folder / "market" / "items.parquet")
    users = pl.read_parquet(folder / "market" / "users.parquet")
    queries = pl.DataFrame({"query": ["red dress", "phone", "gift"], "user_id": [users["user_id"][0], None, "nobody"]})
    queries.write_parquet(folder / "queries.parquet")
    pairs = queries.join(items.select("item_id").head(50), how="cross").sample(fraction=1, shuffle=True, seed=0)
    pairs.write_parquet(folder / "pairs.parquet")
    options = ("--bundle", "bundle")
    ended["evaluate"] = line("evaluate", *options, "--data", "market", "--out", "report.json")
    ended["search"] = line("search", *options, "--queries", "queries.parquet", "--k", K, "--out", "found.parquet")
    ended["score"] = line("score", *options, "--pairs", "pairs.parquet", "--out", "scored.parquet")
    return Job(folder, ended, {path.name for path in folder.iterdir()}, line.left_running())


def test_every_command_ends_well(job):
    assert {name: end.code for name, end in job.ended.items()} == dict.fromkeys(job.ended, 0)
    assert "Traceback" not in "".join(end.err for end in job.ended.values())


def test_nothing_is_left_running_and_no_file_beside_the_outputs(job):
    assert job.left == []
    given = {"queries.parquet", "pairs.parquet"}
    made = {"market", "bundle", "report.json", "found.parquet", "scored.parquet", "mlflow.db", "mlartifacts"}
    assert job.files == given | made


def test_the_model_beats_words_and_popularity_on_later_clicks(job):
    report = Report.model_validate_json((job.folder / "report.json").read_text())
    systems = report.slices["all"].systems
    assert systems["model"]["top10_of_1024"].value > systems["bm25"]["top10_of_1024"].value
    for section in (report.slices["all"], report.judgements):
        for metric, estimate in section.systems["model"].items():
            assert estimate.value > section.systems["popularity"][metric].value, metric


def test_the_answers_fit_the_contract(job):
    found = pl.read_parquet(job.folder / "found.parquet")
    assert found.columns == ["row", "rank", "item_id", "score"]
    assert found.group_by("row", maintain_order=True).len()["len"].to_list() == [K] * 3
    for _, answer in found.group_by("row", maintain_order=True):
        assert answer["rank"].to_list() == list(range(1, K + 1))
        assert answer["score"].is_sorted(descending=True)
        assert answer["item_id"].n_unique() == K
    pairs, scored = (pl.read_parquet(job.folder / f"{name}.parquet") for name in ("pairs", "scored"))
    assert scored.columns == [*pairs.columns, "score"]
    assert scored.drop("score").equals(pairs)
    assert scored["score"].is_finite().all()


def test_search_ranks_by_what_score_says(job):
    queries = pl.read_parquet(job.folder / "queries.parquet").with_row_index("row").cast({"row": pl.Int64})
    found = pl.read_parquet(job.folder / "found.parquet").join(queries, on="row")
    scored = pl.read_parquet(job.folder / "scored.parquet")
    both = found.join(scored, on=["query", "item_id"], suffix="_exact")
    assert len(both) > 0
    assert np.allclose(both["score"], both["score_exact"], atol=1e-5)


def test_one_mlflow_run_tells_what_was_done(job):
    (run,) = job.runs
    manifest = job.bundle.manifest
    assert run.info.status == "FINISHED"
    assert run.info.run_id == manifest.mlflow_run_id
    assert run.data.tags["dataset_fingerprint"] == manifest.dataset_fingerprint
    assert manifest.dataset_fingerprint == dataset.read(job.folder / "market").fingerprint
    assert run.data.params["training.rounds"] == "3"
    assert run.data.params["log.holdout_days"] == "7.0"
    assert {"search/loss", "refit/loss", "validation/mrr", "index/recall_at_100"} <= set(run.data.metrics)
    client = mlflow.MlflowClient(f"sqlite:///{job.folder / 'mlflow.db'}")
    history = client.get_metric_history(run.info.run_id, "validation/mrr")
    assert [point.step for point in history] == [1, 2, 3]
    assert max(point.value for point in history) == pytest.approx(manifest.training["best_mrr"])
    artifact = json.loads((job.folder / "mlartifacts" / run.info.run_id / "artifacts" / "manifest.json").read_text())
    assert artifact == manifest.model_dump(mode="json")


def test_a_second_fit_replaces_the_bundle(job, line):
    before = job.bundle.manifest
    files = {path.name for path in job.folder.iterdir()}
    ended = line("fit", "--data", "market", "--out", "bundle", "--set", "training.rounds=1", "--set", "model.dim=16")
    assert ended.code == 0, ended.err
    after = job.bundle.manifest
    assert before.dimensions > after.dimensions == 16
    assert after.trained_until > before.trained_until  # nothing was held out
    assert {path.name for path in job.folder.iterdir()} == files
    assert {run.info.run_id for run in job.runs} == {before.mlflow_run_id, after.mlflow_run_id}
    assert line.left_running() == []
