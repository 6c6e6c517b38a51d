"""`twinspire heads` and `twinspire figures`, on bundles with one head and with two."""

import json
from pathlib import Path

import pytest
import rich_shop
from click.testing import CliRunner

from twinspire.cli.figures import command as figures
from twinspire.cli.heads import command as heads
from twinspire.errors import ConfigError
from twinspire.mlflow_client import connect


def call(command, *arguments: str | Path) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_two_heads_side_by_side(rich: rich_shop.Rich, tmp_path: Path) -> None:
    out = tmp_path / "heads.json"
    text = call(heads, "--bundle", rich.folder, "--query", "jacket", "--query", "mug", "--k", "5", "--out", out)
    assert text.count("head 2: brings") == 2
    report = json.loads(out.read_text())
    assert [entry["query"] for entry in report["queries"]] == ["jacket", "mug"]
    assert report["overall"]["heads"] == 2
    for entry in report["queries"]:
        assert sum(head["brought"] for head in entry["heads"]) == 5
        ranks = sorted(item["rank"] for head in entry["heads"] for item in head["items"] if item["rank"])
        assert ranks == [1, 2, 3, 4, 5]


def test_final_places_are_what_search_finds(rich: rich_shop.Rich, tmp_path: Path) -> None:
    from twinspire.features.query import Query

    out = tmp_path / "heads.json"
    call(heads, "--bundle", rich.folder, "--query", "jacket", "--k", "8", "--out", out)
    (entry,) = json.loads(out.read_text())["queries"]
    place = {item["rank"]: item["item_id"] for head in entry["heads"] for item in head["items"] if item["rank"]}
    found = rich.bundle.search([Query("jacket")], 8).items[0]
    assert [place[rank] for rank in range(1, 9)] == [rich.bundle.item_ids[row] for row in found]


def test_a_bundle_with_one_head_works_and_says_so(tiny_bundle: Path) -> None:
    text = " ".join(call(heads, "--bundle", tiny_bundle, "--query", "red shoes").split())
    assert "one head, which finds everything; fit with --set model.heads=2" in text
    assert "head 1: brings 10 of 10" in text


def test_an_empty_query_and_an_unknown_column_are_one_clear_line(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a query is empty"):
        call(heads, "--bundle", tiny_bundle, "--query", "  ")
    for command, more in ((heads, ()), (figures, ("--out", tmp_path / "out"))):
        with pytest.raises(ConfigError, match="--by colour: the bundle's items have no such column; they have item_id"):
            call(command, "--bundle", tiny_bundle, "--by", "colour", *more)
    assert not (tmp_path / "out").exists()


def test_figures_are_written_and_kept_with_a_run(
    rich: rich_shop.Rich, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    out = tmp_path / "out"
    text = call(figures, "--bundle", rich.folder, "--out", out, "--query", "jacket")
    assert {path.name for path in out.iterdir()} == {"items.png", "heads.png", "figures.html"}
    run = text.split("kept with MLflow run ")[1].strip()
    kept = connect().list_artifacts(run, "figures")
    assert {Path(artifact.path).name for artifact in kept} == {"items.png", "heads.png", "figures.html"}
    assert connect().get_run(run).info.status == "FINISHED"


def test_a_run_that_the_store_has_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.figures import log_figures

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"x")
    first = log_figures([picture], "b")
    assert log_figures([picture], "b", first) == first
    assert log_figures([picture], "b", "0" * 32) not in (first, "0" * 32)
