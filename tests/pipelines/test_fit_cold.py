"""A first model where there are few clicks or none: from the titles alone, from a teacher, and from both."""

import signal
import time
from datetime import UTC, datetime
from shutil import copyfile

import polars as pl
import pytest
import tiny_encoder
import tiny_shop
from command import refused

from twinspire.bundle import Bundle, read_items

SMALL = ("--set", "model.dim=16", "--set", "model.hidden=16")
ASKED = ("acme red shoes", "delta white tent", "cirrus black mug", "borealis green lamp")
STARTS_WITHIN_S = 240


@pytest.fixture(scope="module")
def catalogue(tiny_dataset, tmp_path_factory):
    """The tiny shop's items, and nothing else."""
    folder = tmp_path_factory.mktemp("cold") / "catalogue"
    folder.mkdir()
    copyfile(tiny_dataset / "items.parquet", folder / "items.parquet")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    words = [*tiny_shop.COLOURS, *tiny_shop.THINGS, *tiny_shop.BRANDS]
    return tiny_encoder.write_encoder(tmp_path_factory.mktemp("teacher") / "tiny", words)


def fitted(line, data, *more):
    """The end of a fit that ended well and left only what it should."""
    ended = line("fit", "--data", data, "--out", line.folder / "bundle", *SMALL, *more)
    assert ended.code == 0, ended.err
    return clean(line, ended)


def clean(line, ended):
    assert "Traceback" not in ended.err
    assert line.left_running() == []
    assert {path.name for path in line.folder.iterdir()} == {"mlflow.db", "mlartifacts", "bundle"}
    return ended


def found(line, k=3):
    """By the command line, the titles that each of the asked ones finds."""
    pl.DataFrame({"query": ASKED}).write_parquet(line.folder / "asked.parquet")
    out = line.folder / "found.parquet"
    ended = line(
        "search", "--bundle", line.folder / "bundle", "--queries", line.folder / "asked.parquet", "--k", k, "--out", out
    )
    assert ended.code == 0, ended.err
    items = read_items(line.folder / "bundle").select("item_id", "title")
    titles = pl.read_parquet(out).join(items, on="item_id", how="left", maintain_order="left")
    return [titles.filter(pl.col("row") == row)["title"].to_list() for row in range(len(ASKED))]


@pytest.mark.ray
def test_titles_alone(line, catalogue):
    ended = fitted(line, catalogue)
    assert "0 positives of 0 queries over 120 items" in ended.err
    assert "parts of titles serve as 480 more queries" in ended.err
    manifest = Bundle.load(line.folder / "bundle").manifest
    assert (manifest.positives, manifest.trained_until, manifest.fusion.memory) == (0, None, 0)
    assert manifest.fusion.lexical > 0
    assert [titles[0] for titles in found(line)] == list(ASKED)


@pytest.mark.ray
@pytest.mark.slow
def test_a_teacher_alone(line, catalogue, teacher):
    """It is enough: no training follows."""
    ended = fitted(line, catalogue, "--teacher", teacher)
    assert "no clicks: the towers learn from the teacher alone" in ended.err
    assert "parts of titles" not in ended.err
    assert "ask the teacher" in ended.out
    assert "train" not in ended.out
    assert "MRR" not in ended.out
    manifest = Bundle.load(line.folder / "bundle").manifest
    assert manifest.training["teacher"]
    assert manifest.training["best_mrr"] is None
    assert [titles[0] for titles in found(line)] == list(ASKED)


@pytest.mark.ray
@pytest.mark.slow
def test_a_teacher_and_clicks_and_after_a_kill_the_teacher_is_not_asked_again(line, tiny_dataset, teacher):
    work = line.folder / ".bundle.work"
    command = ("fit", "--data", tiny_dataset, "--out", line.folder / "bundle", *SMALL, "--teacher", teacher)
    process = line.start(*command)
    wait_for(line, process, work / "start.safetensors")
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = (work / "start.safetensors").stat().st_mtime_ns
    process = line.start(*command)
    wait_for(line, process, work / "train" / "progress.json")
    assert made == (work / "start.safetensors").stat().st_mtime_ns
    ended = line.wait(process)
    assert ended.code == 0, ended.err
    clean(line, ended)
    assert "thrown away" not in ended.err
    assert "ask the teacher" not in ended.out
    assert "learn from the teacher" not in ended.out
    assert "train" in ended.out
    manifest = Bundle.load(line.folder / "bundle").manifest
    assert manifest.training["best_mrr"] > 0.3
    assert manifest.training["teacher"]
    assert "validation positives" in manifest.fusion.measured


@pytest.mark.ray
@pytest.mark.slow
def test_a_log_of_one_click(line, catalogue, tmp_path):
    """Also where the item tower reads words alone."""
    data = tmp_path / "shop"
    data.mkdir()
    copyfile(catalogue / "items.parquet", data / "items.parquet")
    log = {"timestamp": datetime(2026, 1, 1, tzinfo=UTC), "query": "sneakers", "item_id": "i0", "event": "click"}
    pl.DataFrame([log]).write_parquet(data / "interactions.parquet")
    ended = fitted(line, data, "--set", "features.item=[{kind: ngram_bag, stream: words}]")
    assert "1 positives of 1 queries over 120 items" in ended.err
    assert "parts of titles serve as 480 more queries" in ended.err
    manifest = Bundle.load(line.folder / "bundle").manifest
    assert (manifest.positives, manifest.trained_until) == (1, "2026-01-01T00:00:00+00:00")
    assert [titles[0] for titles in found(line)] == list(ASKED)


def test_neither_clicks_nor_words(line, tmp_path):
    data = tmp_path / "shop"
    data.mkdir()
    pl.DataFrame({"item_id": ["a", "b"], "title": ["!", "☃ ☃"]}).write_parquet(data / "items.parquet")
    said = refused(line, data)[-1]
    assert said.startswith("error: nothing to learn from: the log has 0 positives, the titles give 0 more")


@pytest.mark.parametrize("what", ["nothing", "text"])
def test_a_teacher_that_is_no_encoder(line, catalogue, tmp_path, what):
    pytest.importorskip("sentence_transformers", reason="needs twinspire[encoder]")
    folder = tmp_path / "teacher"
    if what == "text":
        folder.mkdir()
        (folder / "config.json").write_text("no JSON")
    (said,) = refused(line, catalogue, options=("--teacher", folder))
    assert said.startswith(f"error: encoder {folder}: ")


def wait_for(line, process, path):
    until = time.monotonic() + STARTS_WITHIN_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > until:
            pytest.fail(f"{path.name} is not there: {line.wait(process, 1)}")
        time.sleep(0.05)
