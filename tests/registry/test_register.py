"""Register, find, fetch and load again, with an SQLite store."""

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from twinspire import mlflow_client, registry
from twinspire.bundle import Bundle
from twinspire.errors import BundleError, EnvironmentProblem, RegistryError
from twinspire.features.query import Query, Shopper

QUERIES = ("red shoes", "lamp", "blue chair")


def same_files(one: Path, other: Path) -> bool:
    names = [sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file()) for root in (one, other)]
    return names[0] == names[1] and all((one / n).read_bytes() == (other / n).read_bytes() for n in names[0])


def test_what_is_fetched_is_what_was_registered(store, tiny_bundle):
    version = registry.register(tiny_bundle, "shop", alias="champion")
    assert (version.name, version.version, version.aliases) == ("shop", 1, ("champion",))
    folder = registry.fetch("models:/shop@champion")
    assert same_files(folder, tiny_bundle)
    assert registry.fetch(version.uri) == folder
    assert not [path for path in folder.parent.iterdir() if path != folder]


def test_a_folder_passes_through(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert registry.fetch(tmp_path) == tmp_path
    assert registry.fetch("bundles/shop") == Path("bundles/shop")


def test_tags_say_what_the_bundle_is(store, tiny_bundle):
    version = registry.register(tiny_bundle, "shop")
    manifest = Bundle.load(tiny_bundle).manifest
    assert version.tags["dataset_fingerprint"] == manifest.dataset_fingerprint
    assert version.tags["trained_until"] == manifest.trained_until
    assert version.tags["bundle_version"] == manifest.version
    assert version.tags["items"] == "120"


def test_an_alias_moves_and_the_fetch_follows(store, tiny_bundle, copy_bundle):
    registry.register(tiny_bundle, "shop", alias="champion")
    before = registry.fetch("models:/shop@champion")
    second = registry.register(copy_bundle(version="later"), "shop")
    assert second.version == 2
    registry.promote(registry.unjudged("shop", 2), force="to see")
    after = registry.fetch("models:/shop@champion")
    assert after != before
    assert json.loads((after / "manifest.json").read_text())["version"] == "later"
    assert registry.fetch("models:/shop/1") == before
    listed = registry.list_versions("shop")
    assert [(v.version, v.aliases) for v in listed] == [(2, ("champion",)), (1, ("previous",))]


def test_another_champion_is_promoted_not_registered(store, tiny_bundle, copy_bundle):
    registry.register(tiny_bundle, "shop", alias="champion")
    later = copy_bundle(version="later")
    with pytest.raises(RegistryError, match="has a champion, version 1; register without the alias champion"):
        registry.register(later, "shop", alias="champion")
    assert [version.version for version in registry.list_versions("shop")] == [1], "nothing was uploaded"
    with pytest.raises(RegistryError, match="alias previous is set by promotions"):
        registry.register(later, "shop", alias="previous")
    assert registry.register(tiny_bundle, "shop", alias="champion").aliases == ("champion",), "said twice"
    assert len(registry.history("shop")) == 1


def test_what_was_fetched_last_is_known_without_mlflow(store, tiny_bundle, copy_bundle, monkeypatch, tmp_path):
    registry.register(tiny_bundle, "shop", alias="champion")
    assert registry.resolve("models:/shop@champion") == "models:/shop/1"
    assert registry.last_fetched("models:/shop@champion") is None
    first = registry.fetch("models:/shop@champion")
    registry.register(copy_bundle(version="later"), "shop")
    registry.promote(registry.unjudged("shop", 2), force="to see")
    assert registry.resolve("models:/shop@champion") == "models:/shop/2"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    assert registry.last_fetched("models:/shop@champion") == ("models:/shop/1", first)
    shutil.rmtree(first)
    assert registry.last_fetched("models:/shop@champion") is None


def test_the_same_bundle_keeps_its_version(store, tiny_bundle):
    first = registry.register(tiny_bundle, "shop")
    again = registry.register(tiny_bundle, "shop", alias="champion", metrics={"recall@10": 0.5})
    assert (again.version, again.aliases) == (first.version, ("champion",))
    assert registry.show("shop@champion").metrics["recall_at_10"] == 0.5
    assert len(registry.list_versions()) == 1
    assert registry.register(tiny_bundle, "other shop").version == 1
    assert [v.name for v in registry.list_versions()] == ["other shop", "shop"]


def test_the_version_belongs_to_the_run_that_trained_it(store, copy_bundle):
    client = MlflowClient(store)
    experiment = client.create_experiment("trials", mlflow_client.artifact_root(store))
    run_id = client.create_run(experiment).info.run_id
    version = registry.register(copy_bundle(mlflow_run_id=run_id), "shop", metrics={"mrr": 0.25})
    run = client.get_run(run_id)
    assert version.run_id == run_id
    assert run.data.metrics["mrr"] == 0.25
    assert [output.model_id for output in run.outputs.model_outputs] == [version.model_id]


def test_a_run_that_this_store_does_not_have_is_replaced(store, copy_bundle, tmp_path):
    version = registry.register(copy_bundle(mlflow_run_id="0" * 32), "shop")
    assert MlflowClient(store).get_run(version.run_id).info.status == "FINISHED"
    location = MlflowClient(store).get_logged_model(version.model_id).artifact_location
    assert location.startswith((tmp_path / "mlartifacts").as_uri())


def test_figures_of_the_fit_and_of_the_report(store, tiny_bundle, tmp_path):
    report = tmp_path / "report.json"
    figures = {"recall@10": {"value": 0.75, "low": 0.7, "high": 0.8}, "auc": {"value": None}}
    report.write_text(
        json.dumps(
            {
                "schema_version": 99,
                "slices": {
                    "all": {"systems": {"bundle": figures, "bm25": {"recall@10": {"value": 0.1}}}},
                    "unseen": {"systems": {"bundle": {"mrr": 0.5}}},
                },
                "judgements": None,
            }
        )
    )
    version = registry.register(tiny_bundle, "shop", report=report)
    metrics = registry.show(version.uri).metrics
    assert metrics["test/recall_at_10"] == 0.75
    assert metrics["test/unseen/mrr"] == 0.5
    assert metrics["index/recall_at_100"] == 1.0
    assert metrics["validation/best_mrr"] > 0.5
    assert "test/auc" not in metrics
    assert [file.path for file in MlflowClient(store).list_artifacts(version.run_id)] == ["report.json"]


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"slices": {"all": {"systems": {"bundle": {}}}}}', "é".encode("latin-1")]
)
def test_a_file_that_is_no_report_is_refused(store, tiny_bundle, tmp_path, text):
    report = tmp_path / "report.json"
    report.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RegistryError, match=r"report\.json"):
        registry.register(tiny_bundle, "shop", report=report)
    assert registry.list_versions() == []


def test_mlflow_loads_it_as_a_model(store, tiny_bundle, monkeypatch):
    import pandas as pd

    with mlflow_client.quiet():
        version = registry.register(tiny_bundle, "shop", alias="champion")
        monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
        model = mlflow.pyfunc.load_model("models:/shop@champion")
        users = ["u1", None, "nobody"]
        found = model.predict(pd.DataFrame({"query": QUERIES, "user_id": users}), params={"k": 5})
        alone = model.predict(model.input_example)
        nameless = model.predict(pd.DataFrame({"query": QUERIES}))
    bundle = Bundle.load(tiny_bundle)
    asked = [Query(q, Shopper(u) if u else None) for q, u in zip(QUERIES, users, strict=True)]
    expected = bundle.search(asked, 5)
    assert found["item_id"].tolist() == [bundle.item_ids[row] for row in expected.items.ravel()]
    np.testing.assert_allclose(found["score"], expected.scores.ravel(), rtol=1e-5)
    assert found["row"].tolist() == np.repeat([0, 1, 2], 5).tolist()
    assert found["rank"].tolist() == [1, 2, 3, 4, 5] * 3
    assert len(alone) == 10
    assert len(nameless) == 30
    files = mlflow.artifacts.list_artifacts(f"models:/{version.model_id}")
    assert not [file.path for file in files if file.path.endswith((".pkl", ".py", ".pickle"))]


def test_a_damaged_bundle_is_not_registered(store, copy_bundle):
    folder = copy_bundle()
    (folder / "items.arrow").write_bytes(b"not what it was")
    with pytest.raises(BundleError, match=r"items\.arrow"):
        registry.register(folder, "shop")
    assert registry.list_versions() == []


def test_a_damaged_copy_in_the_cache_is_fetched_again(store, tiny_bundle):
    registry.register(tiny_bundle, "shop", alias="champion")
    folder = registry.fetch("models:/shop@champion")
    (folder / "model.safetensors").write_bytes(b"cut")
    assert same_files(registry.fetch("models:/shop@champion"), tiny_bundle)


def test_a_damaged_stored_bundle_is_not_handed_out(store, tiny_bundle, tmp_path):
    registry.register(tiny_bundle, "shop", alias="champion")
    for path in (tmp_path / "mlartifacts").rglob("model.safetensors"):
        path.write_bytes(b"cut")
    with pytest.raises(BundleError, match=r"shop/1: its files at .* are damaged"):
        registry.fetch("models:/shop@champion")
    assert list((tmp_path / "cache" / "bundles").iterdir()) == []


def test_stored_files_that_are_gone(store, tiny_bundle, tmp_path):
    registry.register(tiny_bundle, "shop", alias="champion")
    shutil.rmtree(tmp_path / "mlartifacts")
    with pytest.raises(EnvironmentProblem, match="mlartifacts"):
        registry.fetch("models:/shop@champion")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("models:/stop@champion", "no model 'stop'.*it has shop"),
        ("models:/shop@challenger", r"no alias 'challenger'; it has champion \(version 1\)"),
        ("models:/shop/7", "no version 7; it has 1"),
        ("models:/shop", "NAME@ALIAS"),
        ("models:/shop/../x@champion", "NAME@ALIAS"),
        ("models:/", "NAME@ALIAS"),
        ("models:/shop' or '1'@champion", "NAME@ALIAS"),
    ],
)
def test_what_is_not_there_is_said(store, tiny_bundle, source, message):
    registry.register(tiny_bundle, "shop", alias="champion")
    with pytest.raises(RegistryError, match=message) as caught:
        registry.fetch(source)
    assert "\n" not in str(caught.value)


def test_models_of_others_are_left_alone(store, tiny_bundle):
    client = MlflowClient(store)
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "file:///nowhere")
    assert registry.list_versions() == []
    assert registry.list_versions("foreign") == []
    with pytest.raises(RegistryError, match="no bundle"):
        registry.fetch("models:/foreign/1")


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a'b", "a@b", " a", "..\n", "x" * 101])
def test_names_that_cannot_be(store, tiny_bundle, name):
    with pytest.raises(RegistryError, match="cannot name a model"):
        registry.register(tiny_bundle, name)


@pytest.mark.parametrize("alias", ["", "latest", "v3", "a b", "a/b"])
def test_aliases_that_cannot_be(store, tiny_bundle, alias):
    with pytest.raises(RegistryError, match="alias"):
        registry.register(tiny_bundle, "shop", alias=alias)
    assert registry.list_versions() == []


def test_an_mlflow_that_is_not_there(tiny_bundle, tmp_path):
    with pytest.raises(EnvironmentProblem, match="does not answer"):
        registry.list_versions(uri="http://127.0.0.1:9")
    with pytest.raises(EnvironmentProblem, match="does not answer"):
        registry.list_versions(uri="http://localhost:port")
    with pytest.raises(EnvironmentProblem, match="no MLflow database"):
        registry.fetch("models:/shop@champion", uri=f"sqlite:///{tmp_path}/none.db")
    (tmp_path / "file").write_text("a text, no database")
    for place in ("file", "file/mlflow.db"):
        with pytest.raises(EnvironmentProblem, match="database"):
            registry.register(tiny_bundle, "shop", uri=f"sqlite:///{tmp_path / place}")
