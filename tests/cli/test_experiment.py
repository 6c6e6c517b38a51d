"""`twinspire experiment` from the plan to the answer."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from click.testing import CliRunner

from twinspire.cli import cli, main
from twinspire.errors import ExperimentError
from twinspire.simulation.traffic import Traffic, write_events

START = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Experiments `good` and `bad` (its treatment fails), and their events."""
    root = tmp_path_factory.mktemp("cli")
    experiments, events = root / "experiments", root / "events"
    experiments.mkdir()
    for name, traffic in (
        ("good", Traffic(units=6000, days=5, lift=0.9, buy=0.15)),
        ("bad", Traffic(units=2000, days=3, treatment_error=0.1)),
    ):
        write_events(events / name, name, START, traffic)
        (experiments / f"{name}.yaml").write_text(
            f"name: {name}\narms:\n  - {{name: control}}\n  - {{name: treatment}}\nstart: 2026-11-02T00:00:00Z\n"
            "status: running\nguardrails: {error_share: 0.02}\n"
        )
    return experiments, events


def run(*arguments):
    return CliRunner().invoke(cli, ["experiment", *map(str, arguments)], catch_exceptions=False)


def test_report(folders, tmp_path):
    experiments, events = folders
    options = ("--experiments", experiments, "--events", events / "good")
    ended = run("report", "good", *options, "--out", tmp_path / "report.html", "--exit-code")
    assert ended.exit_code == 0
    assert ended.stdout.startswith("Ship treatment: conversion rises by ")
    assert "Ship treatment" in (tmp_path / "report.html").read_text()
    told = json.loads(run("report", "good", *options, "--json").stdout)
    assert told["verdict"]["kind"] == "ship"
    early = json.loads(run("report", "good", *options, "--json", "--until", "2026-11-03").stdout)
    assert early["searches"] < told["searches"]


def test_alarms_have_an_exit_code_and_watch_acts(folders):
    experiments, events = folders
    options = ("--experiments", experiments, "--events", events / "bad")
    assert run("report", "bad", *options, "--exit-code").exit_code == 1
    watched = run("watch", *options, "--once")
    assert "bad: stopped treatment: error_share 0.02: " in watched.stdout
    assert "status: stopped" in (experiments / "bad.yaml").read_text()
    assert run("watch", *options, "--once").stdout == ""


def test_an_interleaved_one_has_a_page_too(tmp_path):
    from twinspire.experiments.tables import EXPOSURES

    rows = [
        {"timestamp": START, "request_id": f"r{n}", "experiment": "mix", "arm": "interleaved", "unit_id": f"u{n}",
         "user_id": f"u{n}", "query": "mug", "override": False, "items": ["a", "b"], "teams": [n % 2, 1 - n % 2]}
        for n in range(80)
    ]  # fmt: skip
    (tmp_path / "exposures").mkdir()
    pl.DataFrame(rows, schema=EXPOSURES).write_parquet(tmp_path / "exposures" / "a.parquet")
    (tmp_path / "mix.yaml").write_text("name: mix\nkind: interleave\narms: [{name: words}, {name: hybrid}]\n")
    ended = run("report", "mix", "--experiments", tmp_path, "--events", tmp_path, "--out", tmp_path / "mix.html")
    assert ended.stdout.startswith("Too early to say: ")
    assert "the draft is fair" in ended.stdout
    assert "Too early to say" in (tmp_path / "mix.html").read_text()
    promote = ("stop", "mix", "--experiments", tmp_path, "--events", tmp_path, "--data", "shop", "--promote")
    (tmp_path / "mix.yaml").write_text((tmp_path / "mix.yaml").read_text() + "status: running\n")
    with pytest.raises(ExperimentError, match="mix interleaves, which shows whose items are clicked more"):
        run(*promote)


def test_stop_says_who_gets_what(tmp_path):
    control = "{name: words, parameters: {retrieval: lexical}}"
    (tmp_path / "w.yaml").write_text(f"name: w\narms: [{control}, {{name: hybrid}}]\nstatus: running\n")
    told = run("stop", "w", "--experiments", tmp_path).stdout
    assert "all who are in it get its control, words: the server's bundle with retrieval=lexical" in told
    assert "others get the server's default" in told


def test_watch_without_events_guards_nothing_and_says_so(folders, tmp_path):
    with pytest.raises(ExperimentError, match="no folder there"):
        run("watch", "--experiments", folders[0], "--events", tmp_path / "typo", "--once")


def test_plan(folders):
    told = run("plan", "--baseline", 0.04, "--per-day", 10000, "--lift", 0.03).stdout
    assert "if you look as often as you like" in " ".join(told.split())
    experiments, events = folders
    like = run("plan", "--like", "good", "--experiments", experiments, "--events", events / "good", "--lift", 0.05)
    assert "conversion" in like.stdout


def test_promote_refuses_what_did_not_win(folders, monkeypatch, capsys):
    experiments, events = folders
    arguments = ["--experiments", str(experiments), "--events", str(events / "good"), "--data", "shop", "--promote"]
    monkeypatch.setattr("sys.argv", ["twinspire", "experiment", "stop", "good", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert said.startswith("error: arm treatment has the server's default; only a bundle of the registry")
    assert "status: running" in (experiments / "good.yaml").read_text()


def test_what_won_is_more_than_a_bundle_brings_along(folders, tmp_path):
    _, events = folders
    text = (
        "name: good\narms: [{name: control}, {name: treatment, bundle: 'models:/shop@new', parameters: {lexical: 1}}]"
    )
    (tmp_path / "good.yaml").write_text(f"{text}\nstart: 2026-11-02T00:00:00Z\nstatus: running\n")
    arguments = ("stop", "good", "--experiments", tmp_path, "--events", events / "good", "--data", "shop", "--promote")
    with pytest.raises(ExperimentError, match="arm treatment differs in lexical too, which its bundle does not bring"):
        run(*arguments)
    assert "status: running" in (tmp_path / "good.yaml").read_text()
    run("stop", "good", "--experiments", tmp_path)
    with pytest.raises(ExperimentError, match="good is stopped, not running"):
        run(*arguments)


@pytest.mark.parametrize("command", [[], ["plan"], ["start"], ["stop"], ["report"], ["watch"]])
def test_help_ends_in_examples(command):
    assert "twinspire experiment" in run(*command, "--help").stdout.split("Examples:")[1]
