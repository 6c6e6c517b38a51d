import shutil
from pathlib import Path

import pytest
import tiny_shop
from edited import edit_manifest

from twinspire import registry
from twinspire.bundle import Bundle
from twinspire.bundle.canaries import write_canaries
from twinspire.bundle.manifest import checksums
from twinspire.mlflow_client import connect

WEEK = ("log.holdout_days=7",)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database with MLflow's tables, made once: its migrations take longer than all the rest."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{path}", create=True)
    return path


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch):
    """The address of a new store, which the environment names too."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("TWINSPIRE_CACHE", str(tmp_path / "cache"))
    return uri


@pytest.fixture
def copy_bundle(tiny_bundle, tmp_path):
    """Copies of the bundle with a changed manifest: other versions of it."""

    def make(name="copy", **changes):
        folder = tmp_path / name
        shutil.copytree(tiny_bundle, folder)
        edit_manifest(folder, **changes)
        return folder

    return make


@pytest.fixture(scope="session")
def hybrid_week(tiny_dataset: Path) -> Path:
    """A bundle that has not seen the shop's last week. Not to be written into."""
    return tiny_shop.fit_without_ray(tiny_dataset, tiny_dataset.parent / "hybrid_week", WEEK, lexical=0.3, memory=0.5)


@pytest.fixture(scope="session")
def plain_week(hybrid_week: Path) -> Path:
    """The same of vectors alone. Not to be written into."""
    folder = hybrid_week.with_name("plain_week")
    shutil.copytree(hybrid_week, folder)
    edit_manifest(folder, name="plain_week", fusion={})
    write_canaries(Bundle.load(folder), folder)
    edit_manifest(folder, files=checksums(folder))
    return folder


@pytest.fixture
def versions(store, copy_bundle):
    """Three registered versions of `shop`, the first its champion."""
    folders = [copy_bundle(f"copy-{number}", version=str(number)) for number in (1, 2, 3)]
    return [
        registry.register(folder, "shop", alias="champion" if number == 0 else None)
        for number, folder in enumerate(folders)
    ]
