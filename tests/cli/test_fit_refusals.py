import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from twinspire.cli import cli
from twinspire.dataset import BadRowsError
from twinspire.errors import BundleError, ConfigError, DatasetError, EnvironmentProblem, TwinspireError


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        (["--set", "index.factory=nonsense"], ConfigError, "index.factory"),
        (["--set", "index.factory=PQ7"], ConfigError, "index.factory"),
        (["--set", "features.query=[{kind: category, column: shoe_size}]"], ConfigError, "shoe_size"),
        (["--set", "log.until=1999-01-01T00:00:00Z"], DatasetError, "before 1999-01-01"),
        (["--config", "no-such"], ConfigError, "dpsr-paper"),
        (["--data", "/nowhere"], DatasetError, "/nowhere"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_any_work(
    tiny_dataset: Path, tmp_path: Path, settings: list[str], kind: type[TwinspireError], says: str
) -> None:
    """In one line, without Ray or MLflow having been started, and nothing is left behind."""
    out = tmp_path / "bundle"
    result = CliRunner().invoke(cli, ["fit", "--data", str(tiny_dataset), "--out", str(out), *settings])
    assert isinstance(result.exception, kind), result.exception
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_sharded_tables_without_the_extra_are_refused_before_any_work(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)  # where it is installed it cannot be imported now
    target = ["--data", str(tiny_dataset), "--out", str(tmp_path / "bundle")]
    result = CliRunner().invoke(cli, ["fit", *target, "--set", "training.tables=sharded"])
    assert isinstance(result.exception, EnvironmentProblem), result.exception
    assert "twinspire[gpu-sharded]" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_no_bundle_is_refused_before_training(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(cli, ["fit", "--data", str(tiny_dataset), "--out", str(tmp_path)])
    assert isinstance(result.exception, BundleError)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_target_below_a_file_is_refused_in_one_line(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    out = tmp_path / "notes.txt" / "bundle"
    for command in (["fit", "--data", str(tiny_dataset)], ["simulate", "--items", "50"]):
        result = CliRunner().invoke(cli, [*command, "--out", str(out)])
        assert isinstance(result.exception, EnvironmentProblem), result.exception
        assert "notes.txt" in str(result.exception)
        assert "\n" not in str(result.exception)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "setting", ["item_text=[title, tags]", "item=[{kind: ngram_bag, stream: words}, {kind: category, column: tags}]"]
)
def test_a_column_of_lists_is_no_feature(tiny_dataset: Path, tmp_path: Path, setting: str) -> None:
    shop = shutil.copytree(tiny_dataset, tmp_path / "shop")
    items = pl.read_parquet(shop / "items.parquet")
    items.with_columns(tags=pl.concat_list("brand", "category")).write_parquet(shop / "items.parquet")
    target = ["--data", str(shop), "--out", str(tmp_path / "bundle")]
    result = CliRunner().invoke(cli, ["fit", *target, "--set", f"features.{setting}"])
    assert isinstance(result.exception, ConfigError), result.exception
    assert "column 'tags' of items is List(String)" in str(result.exception)


def test_how_many_bad_rows_are_allowed_is_a_setting(tiny_dataset: Path, tmp_path: Path) -> None:
    shop = shutil.copytree(tiny_dataset, tmp_path / "shop")
    log = pl.read_parquet(shop / "interactions.parquet")
    strange = pl.when(pl.int_range(pl.len()) % 20 == 0).then(pl.lit("no such item")).otherwise("item_id")
    log.with_columns(item_id=strange).write_parquet(shop / "interactions.parquet")
    target = ["--data", str(shop), "--out", str(tmp_path / "bundle")]
    refused = CliRunner().invoke(cli, ["fit", *target])
    assert isinstance(refused.exception, BadRowsError)
    allowed = ("--set", "dataset.max_bad_share=0.05", "--set", "features.item_text=[nothing]")
    result = CliRunner().invoke(cli, ["fit", *target, *allowed])
    assert "interactions: 80 bad rows left out; they are in" in result.stderr
    assert isinstance(result.exception, ConfigError), "it has gone on to the next mistake"
