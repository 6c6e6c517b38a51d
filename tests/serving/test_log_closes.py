"""The log of a server is a dataset as it is: with the catalogue beside it, the next model trains on it."""

import asyncio
import shutil

import polars as pl
import pytest
import tiny_shop
from click.testing import CliRunner
from command import CommandLine

from serving.schema import Feedback
from serving.service import Service
from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.cli.events import command as events_command
from twinspire.features.query import Query

PER_REQUEST = 200


@pytest.fixture(scope="module")
def log(tiny_dataset, tmp_path_factory):
    """An events folder to which the tiny shop's log was told, with its items and users beside."""
    folder = tmp_path_factory.mktemp("log") / "events"
    service = Service(folder)
    clicks = pl.read_parquet(tiny_dataset / "interactions.parquet").drop_nulls("user_id")
    told = [Feedback(**row, event_id=f"e{number}") for number, row in enumerate(clicks.to_dicts())]

    async def tell():
        for first in range(0, len(told), PER_REQUEST):
            await service.feedback(told[first : first + PER_REQUEST])
            await service.feedback(told[first : first + 20])  # a retry

    asyncio.run(tell())
    service.close()
    for name in ("items", "users"):
        shutil.copy(tiny_dataset / f"{name}.parquet", folder)
    return folder, clicks


def test_no_row_of_it_is_bad_and_none_is_twice(log):
    folder, clicks = log
    read = dataset.read(folder, require_interactions=True)
    report = read.report.tables["interactions"]
    assert (report.rows, report.bad_rows, report.casts) == (len(clicks), 0, [])
    told = read.interactions.select(clicks.columns).collect()
    order = ["timestamp", "session_id"]
    assert told.sort(order).equals(clicks.sort(order))


def test_a_model_trains_on_it(log, tmp_path):
    bundle = Bundle.load(tiny_shop.fit_without_ray(log[0], tmp_path / "bundle"))
    best = bundle.items[bundle.search([Query("red shoes")], 4).items[0]]
    assert best["title"].str.contains("shoes").any()


def test_the_command_counts_it(log, tmp_path):
    said = CliRunner().invoke(events_command, ["--events", str(log[0])]).output
    assert f"interactions  {len(log[1]):,} rows in 1 parts" in said
    assert "exposures     0 rows in 0 parts" in said


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_fit_trains_on_it_as_a_user_would(log, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    line = CommandLine(folder)
    ended = line("fit", "--data", log[0], "--out", "bundle", "--set", "training.rounds=1", "--set", "model.dim=16")
    assert ended.code == 0, ended.err
    assert Bundle.load(folder / "bundle").manifest.positives > 1_000
    assert line.left_running() == []
