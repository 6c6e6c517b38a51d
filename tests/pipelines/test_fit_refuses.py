"""Fit ends well when it cannot go on: exit code, one line, nothing half made."""

import os
import re
import signal
import time
from datetime import UTC, datetime

import mlflow
import polars as pl
import pytest
import torch
from command import refused

from pipelines.fit import fit
from twinspire.config import load_config
from twinspire.errors import TwinspireError

# MLflow, of its own queries
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

STOPS_WITHIN_S = 60  # some seconds on a machine that does nothing else
STARTS_WITHIN_S = 240


def shop(folder, clicks):
    """A dataset of two items and so many clicks."""
    folder.mkdir()
    pl.DataFrame({"item_id": ["a", "b"], "title": ["red shoe", "blue hat"]}).write_parquet(folder / "items.parquet")
    log = {"timestamp": datetime(2026, 1, 1, tzinfo=UTC), "query": "shoe", "item_id": "a", "event": "click"}
    pl.DataFrame([log] * clicks).write_parquet(folder / "interactions.parquet")
    return folder


def test_an_unknown_key_of_the_config(line, tiny_dataset):
    (said,) = refused(line, tiny_dataset, "training.speed=9")
    assert "unknown key training.speed" in said
    assert "batch_size" in said


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("features.query=profile", "features.query: profile needs a users table"),
        ("features.query=history", "features.query: history needs users with events before a search"),
        ("features.query=[{kind: category, column: age}]", "column 'age' needs a users table"),
        ("features.query=[{kind: history, of: colour}]", "history of 'colour' needs such an item feature"),
        ("features.query=[{kind: history, weights: {look: 1}}]", "should be 'click', 'cart' or 'purchase', not 'look'"),
    ],
)
def test_towers_that_the_tables_cannot_feed(tmp_path, setting, says):
    folder = shop(tmp_path / "shop", 10)
    with pytest.raises(TwinspireError, match=re.escape(says)):
        fit(folder, tmp_path / "out" / "bundle", load_config(None, (setting,)))
    assert not list(tmp_path.glob("out/*"))


def test_towers_that_the_tables_cannot_feed_are_one_line(line, tmp_path):
    said = refused(line, shop(tmp_path / "shop", 10), "features.query=profile")[-1]
    assert "features.query: profile needs a users table" in said


def test_a_dataset_without_items(line, tmp_path):
    folder = shop(tmp_path / "shop", 10)
    (folder / "items.parquet").unlink()
    (said,) = refused(line, folder)
    assert "items" in said


def test_an_index_that_faiss_cannot_read(line, tiny_dataset):
    (said,) = refused(line, tiny_dataset, "index.factory=nonsense")
    assert "index.factory: 'nonsense'" in said


def test_a_log_with_one_click_that_titles_may_not_fill_up(line, tmp_path):
    said = refused(line, shop(tmp_path / "shop", 1), "log.fill_up_to=0")[-1]
    assert said.startswith("error: nothing to learn from: the log has 1 positives, the titles give 0 more")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(line, tiny_dataset):
    (said,) = refused(line, tiny_dataset, "training.device=cuda")
    assert "training.device" in said
    assert "RAY_ADDRESS" in said


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("whom", ["terminal", "process"])
def test_ctrl_c_before_the_first_checkpoint_ends_the_training_and_leaves_nothing(line, tiny_dataset, whom):
    settings = ("model.dim=16", "training.batch_size=2", "training.rounds=40", "training.checkpoint_minutes=9")
    long = [part for setting in settings for part in ("--set", setting)]
    process = line.start("fit", "--data", tiny_dataset, "--out", line.folder / "bundle", *long)
    wait_until_training(line, process)
    send = os.killpg if whom == "terminal" else os.kill
    interrupted = time.monotonic()
    send(process.pid, signal.SIGINT)
    ended = line.wait(process, STOPS_WITHIN_S)
    assert ended.code == 130, ended.err
    assert "Traceback" not in ended.err
    assert time.monotonic() - interrupted < STOPS_WITHIN_S
    assert line.left_running() == []
    assert {path.name for path in line.folder.iterdir()} <= {"mlflow.db", "mlartifacts"}
    client = mlflow.MlflowClient(f"sqlite:///{line.folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("twinspire").experiment_id])
    assert run.info.status == "KILLED"


def wait_until_training(line, process):
    """Wait for the first step."""
    until = time.monotonic() + STARTS_WITHIN_S
    while not list(line.folder.glob(".bundle.work/train/progress.json")):
        if process.poll() is not None or time.monotonic() > until:
            pytest.fail(f"no training within {STARTS_WITHIN_S} s: {line.wait(process, 1)}")
        time.sleep(0.1)
