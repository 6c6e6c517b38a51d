"""What counts for whom: events worked out by hand."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from twinspire.errors import DatasetError
from twinspire.experiments.events import Events
from twinspire.experiments.spec import Experiment

START = datetime(2026, 12, 1, tzinfo=UTC)


def experiment(**more):
    arms = [{"name": "control"}, {"name": "treatment"}]
    return Experiment.model_validate({"name": "e", "arms": arms, "start": START, "status": "running", **more})


def at(seconds, days=0):
    return START + timedelta(days=days, seconds=seconds)


def write(folder, searches, actions):
    """searches: (time, unit, arm, query, more); actions: (time, user, event, query, value)."""
    exposures = [
        {
            "timestamp": time, "request_id": f"r{number}", "experiment": "e", "arm": arm, "unit_id": unit,
            "user_id": unit, "session_id": f"s-{unit}", "query": query, "results": 10, "took_ms": 5.0, "status": 200,
            "model_version": "1", "override": False, **more,
        }
        for number, (time, unit, arm, query, more) in enumerate(searches)
    ]  # fmt: skip
    interactions = [
        {
            "timestamp": time, "query": query, "item_id": "i", "user_id": user, "session_id": f"s-{user}",
            "event": event, "position": 1, "event_id": f"e{number}", "request_id": None, "value": value,
        }
        for number, (time, user, event, query, value) in enumerate(actions)
    ]  # fmt: skip
    types = {"results": pl.Int32, "took_ms": pl.Float32, "status": pl.Int32, "position": pl.Int32, "value": pl.Float64}
    times = pl.col("timestamp").cast(pl.Datetime("us", "UTC"))
    for table, rows in (("exposures", exposures), ("interactions", interactions)):
        (folder / table).mkdir(exist_ok=True)
        if rows:
            frame = pl.DataFrame(rows, schema_overrides={k: v for k, v in types.items() if k in rows[0]})
            frame.with_columns(times).write_parquet(folder / table / "part.parquet")
    return folder


def sums(folder, **more):
    """Every fact of the whole experiment by arm and unit number."""
    events = Events(folder, experiment(**more))
    facts = pl.concat([step for step, _ in events.steps()]).drop("kind").group_by("unit").sum().sort("unit")
    return facts.join(events.units.frame, on="unit").sort("first")


def test_rewrites_clicks_and_repeats(tmp_path):
    searches = [
        (at(0), "a", "control", "shoe", {}),  # rephrased after 60 s
        (at(60), "a", "control", "red shoes", {}),  # asked again at once: the same search
        (at(70), "a", "control", " Red shoes ", {}),  # clicked, so not rewritten
        (at(200), "a", "control", "hat", {}),  # the next query comes ten minutes later
        (at(800), "a", "control", "mug", {}),
        (at(5000), "b", "treatment", "shoe", {"results": 0}),
    ]
    actions = [(at(80), "a", "click", "red shoes", None), (at(5000 + 3000), "b", "click", "shoe", None)]
    found = sums(write(tmp_path, searches, actions)).to_dicts()
    assert found[0]["searches"] == 4
    assert found[0]["rewritten_searches"] == 1
    assert found[0]["clicked_searches"] == 1
    assert found[0]["clicks"] == 1
    assert found[1]["empty_searches"] == 1
    assert found[1]["clicked_searches"] == 0  # fifty minutes later is not of that search
    assert found[1]["clicks"] == 1


def test_outcomes_count_from_the_first_exposure_on(tmp_path):
    searches = [(at(100), "a", "control", "shoe", {}), (at(0, days=3), "a", "control", "hat", {})]
    actions = [
        (at(50), "a", "purchase", "shoe", 5.0),
        (at(150), "a", "purchase", "shoe", 7.0),
        (at(150, days=1), "a", "purchase", "another page", 11.0),
        (at(150), "stranger", "purchase", "shoe", 99.0),
        (at(160), "a", "impression", "shoe", None),
    ]
    (found,) = sums(write(tmp_path, searches, actions)).to_dicts()
    assert found["purchases"] == 2
    assert found["value"] == 18.0


def test_a_rewrite_across_midnight_counts_once(tmp_path):
    searches = [
        (at(86_390), "a", "control", "shoe", {}),
        (at(10, days=1), "a", "control", "shoes", {}),
        (at(0, days=3), "a", "control", "hat", {}),
    ]
    (found,) = sums(write(tmp_path, searches, [])).to_dicts()
    assert found["searches"] == 3
    assert found["rewritten_searches"] == 1


def test_who_is_left_out(tmp_path):
    searches = [
        (at(0), "a", "control", "shoe", {}),
        (at(1), "tester", "treatment", "shoe", {"override": True}),
        (at(2), "both", "control", "shoe", {}),
        (at(3), "both", "treatment", "shoe", {}),
        (at(4), "other", "treatment", "shoe", {"experiment": "another"}),
        (at(-10), "early", "treatment", "shoe", {}),
        (at(5), "gone", "an arm that was removed", "shoe", {}),
    ]
    events = Events(write(tmp_path, searches, []), experiment())
    assert len(events.units) == 1
    assert events.units.mixed == 1


def test_sessions_as_units(tmp_path):
    searches = [(at(0), "s-a", "control", "shoe", {})]
    actions = [(at(9), "a", "click", "shoe", None)]
    (found,) = sums(write(tmp_path, searches, actions), unit="session").to_dicts()
    assert found["clicks"] == 1


def test_the_end_cuts(tmp_path):
    searches = [(at(0), "a", "control", "shoe", {}), (at(0, days=2), "b", "control", "shoe", {})]
    actions = [(at(5), "a", "click", "shoe", None)]
    events = Events(write(tmp_path, searches, actions), experiment(end=at(0, days=1)))
    assert len(events.units) == 1


def test_nothing_to_read(tmp_path):
    with pytest.raises(DatasetError, match="no exposures/"):
        Events(tmp_path, experiment())
    write(tmp_path, [(at(0), "a", "control", "shoe", {"experiment": "another"})], [])
    with pytest.raises(DatasetError, match="no exposures of experiment 'e'"):
        Events(tmp_path, experiment())


def test_without_interactions(tmp_path):
    write(tmp_path, [(at(0), "a", "control", "shoe", {})], [])
    (found,) = sums(tmp_path).to_dicts()
    assert found["searches"] == 1
    assert Events(tmp_path, experiment()).before() is None
