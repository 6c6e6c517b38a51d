"""A candidate against the champion on later clicks: the verdict, its reasons, and what is kept."""

import json
import shutil

import polars as pl
import pytest
import tiny_shop
from click.testing import CliRunner
from mlflow import MlflowClient

from twinspire import registry
from twinspire.cli import cli
from twinspire.errors import RegistryError
from twinspire.evaluation import EvaluationConfig

QUICK = EvaluationConfig(resamples=100)
TOLERANT = registry.GateConfig(min_gain=-0.2)


@pytest.fixture(scope="module")
def filled(empty_store, plain_week, hybrid_week, tmp_path_factory):
    """A store with two versions of `shop`, the first of vectors alone and champion. To be copied."""
    folder = tmp_path_factory.mktemp("filled")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        registry.register(plain_week, "shop", alias="champion")
        registry.register(hybrid_week, "shop", alias="challenger")
    return folder


@pytest.fixture
def shop(filled, tmp_path, monkeypatch):
    """A copy of it, which the environment names."""
    shutil.copy(filled / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("TWINSPIRE_CACHE", str(filled / "cache"))
    return "shop"


def run(*arguments):
    return CliRunner().invoke(cli, ["registry", *map(str, arguments)])


def test_a_verdict_is_kept_as_tags_and_files_a_refusal_too(shop, tiny_dataset):
    decision = registry.judge(shop, "challenger", tiny_dataset, gates=TOLERANT, evaluation=QUICK)
    assert decision.passed, decision.refusals
    assert (decision.candidate, decision.champion) == ("models:/shop/2", "models:/shop/1")
    assert {gate.name for gate in decision.gates} >= {"cases", "gain mrr", "slice head mrr", "canaries", "latency"}
    strict = registry.judge(
        shop, 2, tiny_dataset, gates=registry.GateConfig(min_gain=0.9, floors={"mrr": 0.99}), evaluation=QUICK
    )
    assert not strict.passed
    assert [line.split(":")[0] for line in strict.refusals] == ["floor mrr", "gain mrr"]
    tags = registry.show("shop/2").version.tags
    assert tags["decision"] == "refused"
    assert tags["gate gain mrr"].startswith("refused: mrr ")
    client = MlflowClient()
    kept = [file.path for file in client.list_artifacts(strict.run_id, "decisions")]
    assert len(kept) == 2
    path = client.download_artifacts(strict.run_id, tags["decision_file"])
    with open(path) as file:
        assert registry.Decision.model_validate(json.load(file)) == strict
    beside = {file.path.rpartition("/")[2] for file in client.list_artifacts(strict.run_id, kept[1])}
    assert beside == {"decision.json", "comparison.json", "comparison.html"}


def test_what_cannot_be_judged_is_said(shop, tiny_dataset, tmp_path):
    with pytest.raises(RegistryError, match="models:/shop/1 is the champion already"):
        registry.judge(shop, 1, tiny_dataset)
    with pytest.raises(RegistryError, match="no version 7"):
        registry.judge(shop, 7, tiny_dataset)
    with pytest.raises(RegistryError, match="nothing to judge by"):
        registry.judge(shop, 2)
    with pytest.raises(RegistryError, match="are both shop/1"):
        registry.compare_versions("shop/1", "shop@champion", tiny_dataset)
    with pytest.raises(RegistryError, match="diff --out"):
        registry.read_comparison(tiny_dataset / "items.parquet")


def test_catalogues_may_differ_and_an_item_that_a_bundle_lacks_is_a_miss(shop, tiny_dataset, plain_week, tmp_path):
    """A bundle of a shop that sold no shoes yet, against one that does, on clicks of which some are on shoes."""
    smaller = tmp_path / "smaller"
    smaller.mkdir()
    items = pl.read_parquet(tiny_dataset / "items.parquet")
    without = items.filter(~pl.col("title").str.contains("shoes"))
    without.write_parquet(smaller / "items.parquet")
    log = pl.read_parquet(tiny_dataset / "interactions.parquet")
    log.join(without, on="item_id", how="semi").write_parquet(smaller / "interactions.parquet")
    before = tiny_shop.fit_without_ray(smaller, tmp_path / "before", ("log.holdout_days=7",))
    found = registry.compare_versions(str(before), str(plain_week), tiny_dataset, config=QUICK)
    assert (found.first.items, found.second.items, found.report.items) == (100, 120, 120)
    alone = registry.compare_versions(str(plain_week), None, tiny_dataset, config=QUICK)
    same = found.report.slices["all"].systems["plain_week"]["mrr"].value
    assert same == pytest.approx(alone.report.slices["all"].systems["plain_week"]["mrr"].value, abs=0.02)
    assert found.report.cases == alone.report.cases
    hit = found.report.slices["all"].systems["before"]["recall@100"].value
    assert 0.7 < hit < 0.95  # the share of later clicks that are not on shoes, five of six
    assert found.changes[0].overlap == 0
    assert all("shoes" not in item.title for item in found.changes[0].first)


def test_promote_says_a_line_for_each_gate_and_fails_where_one_refuses(shop, tiny_dataset, tmp_path):
    compared = run(
        "diff",
        "shop/2",
        "shop@champion",
        "--data",
        tiny_dataset,
        "--out",
        tmp_path / "c.json",
        "--html",
        tmp_path / "c.html",
    )
    assert compared.exit_code == 0, compared.output
    for told in ("vs shop/1", "By slice of queries", "search p99, ms", "Results changed most", "kept with MLflow run"):
        assert told in compared.stdout
    page = (tmp_path / "c.html").read_text()
    assert "http" not in page
    assert "<script" not in page
    report = ("--report", tmp_path / "c.json")
    refused = run("promote", "shop", "challenger", *report, "--set", "gates.min_gain=0.9")
    assert refused.exit_code == 1
    lines = refused.stdout.splitlines()
    assert lines[0].startswith("refused  gain mrr ")
    assert len(lines) == 12
    assert lines[-1] == "models:/shop/2 is refused; models:/shop/1 stays champion"
    done = run("promote", "shop", "challenger", *report, "--set", "gates.min_gain=-0.2")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "models:/shop/2 is champion, models:/shop/1 is previous"
    stale = run("promote", "shop", "1", *report)
    assert "the comparison is of shop/2 first, where models:/shop/1 belongs" in str(stale.exception)
    back = run("rollback", "shop", "--reason", "why not")
    assert back.stdout == "models:/shop/1 is champion again\n"
    forced = run("promote", "shop", "2", "--force", "because")
    assert "models:/shop/2 is champion" in forced.stdout
    assert "because" in run("history", "shop").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["promote", "shop", "2"], "give --data DIR"),
        (["promote", "shop", "2", "--data", "d", "--report", "r"], "not both"),
        (["promote", "shop", "2", "--force", " "], "give the reason"),
        (["promote", "shop", "2", "--report", "r", "--set", "gates.min_gian=1"], "min_gian"),
        (["diff", "shop/2", "shop/1", "--html", "x.html"], "--data"),
        (["diff", "shop/2", "shop/9"], "no version 9"),
    ],
)
def test_mistakes_are_one_line(shop, arguments, told):
    done = run(*arguments)
    assert done.exit_code != 0
    assert told in f"{done.output} {done.exception}"


def test_registered_figures_side_by_side_without_data(shop):
    shown = run("diff", "shop/2", "shop/1").stdout
    assert "validation/best_mrr" in shown
    assert "difference" in shown
