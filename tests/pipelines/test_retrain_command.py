"""`twinspire retrain` as a user meets it, killed at whatever it says."""

import signal
import time
from datetime import timedelta

import polars as pl
import pytest
import tiny_shop
from command import WITHIN_S, CommandLine

SMALL = (
    "model.dim=16", "model.hidden=16", "negatives.count=64", "training.rounds=2", "log.holdout_days=3",
    "gates.min_cases=20", "gates.worst_slice=1", "gates.max_p99_ms=null",
)  # fmt: skip
SAID = ("2/6 fit", "embed the catalogue", "3/6 evaluate", "4/6 register", "5/6 gate", "6/6 promote")


@pytest.fixture
def data(tmp_path, tiny_dataset):
    """The tiny shop with its log in two parts, of which the second comes later."""
    folder = tmp_path / "shop"
    (folder / "interactions").mkdir(parents=True)
    for name in ("items", "users"):
        (folder / f"{name}.parquet").write_bytes((tiny_dataset / f"{name}.parquet").read_bytes())
    log = pl.read_parquet(tiny_dataset / "interactions.parquet")
    until = tiny_shop.START + timedelta(days=27)
    log.filter(pl.col("timestamp") < until).write_parquet(folder / "interactions" / "part-0.parquet")
    return folder, log.filter(pl.col("timestamp") >= until)


def command(data, *settings):
    options = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    return ("retrain", "--data", data, "--name", "shop", "--out", "retrain", *options)


def last(ended, lines=1):
    """The last lines of what it said."""
    return ended.out.rstrip().splitlines()[-lines:]


def start_and_kill(line: CommandLine, arguments, said):
    """Start the command and kill it as soon as it has said something; False where it ended first."""
    process = line.start(*arguments)
    error = line.folder.parent / f"{line.folder.name}.err.txt"
    out = line.folder.parent / f"{line.folder.name}.out.txt"
    until = time.monotonic() + WITHIN_S
    while said not in error.read_text() + out.read_text():
        if process.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_wherever_it_is_it_goes_on_and_registers_once(line, data):
    folder, _ = data
    killed = [start_and_kill(line, command(folder), said) for said in SAID]
    assert sum(killed) >= 4, killed
    ended = line(*command(folder))
    assert ended.code == 0, ended.err
    assert "models:/shop/1" in ended.out
    listed = line("registry", "list", "shop")
    assert listed.out.count("champion") == 1
    assert "shop-" not in " ".join(path.name for path in (line.folder / "retrain").glob(".*"))
    assert line.left_running() == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_next_day_begins_warm_and_a_bad_one_is_refused(line, data):
    folder, later = data
    first = line(*command(folder))
    assert (first.code, last(first)) == (0, ["promoted: models:/shop/1 is champion, the first"]), first.err
    again = line(*command(folder))
    assert again.code == 0
    assert again.out.strip() == "models:/shop/1 is of the same data and config, and was promoted; nothing to do"

    part = folder / "interactions" / "part-1.parquet"
    later.with_columns(pl.lit("gone").alias("item_id")).write_parquet(part)
    bad = line(*command(folder, "dataset.max_bad_share=0.9"))
    assert bad.code == 3, bad.err
    said, reason = last(bad, 2)
    assert said == "refused: the log; models:/shop/1 stays champion"
    assert reason.startswith("  interactions: of its newest file, part-1.parquet: ")

    later.write_parquet(part)
    warm = line(*command(folder, "training.start=warm", "gates.min_gain=-1"))
    assert warm.code == 0, warm.err
    assert "start warm: from the weights of shop-" in warm.err
    assert last(warm) == ["promoted: models:/shop/2 is champion after models:/shop/1"]
    worse = line(*command(folder, "gates.min_gain=0.5"))
    assert worse.code == 3, worse.err
    assert "refused: models:/shop/3; models:/shop/2 stays champion\n  gain mrr: " in worse.out
    assert line.left_running() == []
