"""Interleaving: counted by hand, and a planted preference."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from planted import declare
from scipy.stats import binomtest

from twinspire.errors import DatasetError
from twinspire.experiments.preference import preference

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def write(folder, searches, clicks):
    """searches: (request, unit, items, teams); clicks: (request, item)."""
    for table in ("exposures", "interactions"):
        (folder / table).mkdir(exist_ok=True)
    times = pl.lit(NOW).cast(pl.Datetime("us", "UTC")).alias("timestamp")
    texts = {"request_id": pl.String, "unit_id": pl.String}
    exposures = pl.DataFrame(
        searches, {**texts, "items": pl.List(pl.String), "teams": pl.List(pl.Int8)}, orient="row"
    ).with_columns(times, experiment=pl.lit("e"), arm=pl.lit("interleaved"), override=False)
    exposures.write_parquet(folder / "exposures" / "a.parquet")
    interactions = pl.DataFrame(clicks, {"request_id": pl.String, "item_id": pl.String}, orient="row")
    interactions.with_columns(times, event=pl.lit("click")).write_parquet(folder / "interactions" / "a.parquet")
    return folder


def test_counted_by_hand(tmp_path):
    searches = [
        ("r1", "a", ["x", "y", "z"], [0, 1, 0]),
        ("r2", "a", ["x", "y"], [1, 0]),
        ("r3", "b", ["x", "y"], [0, 1]),
        ("r4", "c", ["x", "y"], [0, 1]),
        ("r5", "d", ["x", "y"], [0, 1]),
    ]
    # a: one of the first and two of the second; b: one each; c: the first, clicked twice; d: nothing.
    clicks = [("r1", "x"), ("r1", "y"), ("r2", "x"), ("r3", "x"), ("r3", "y"), ("r4", "x"), ("r4", "x"), ("r9", "x")]
    found = preference(write(tmp_path, searches, clicks), declare(kind="interleave"))
    assert (found.first, found.second, found.ties) == (1, 1, 1)
    assert (found.searches, found.units) == (5, 4)
    assert found.sentence.startswith("Too early")


@pytest.mark.parametrize(("liking", "clear"), [(0.5, False), (0.62, True)])
def test_a_planted_preference(tmp_path, liking, clear):
    generator = np.random.default_rng(1)
    teams = generator.permuted(np.tile([0, 1], (1500, 1)), axis=1)
    wanted = (generator.random(1500) < liking).astype(int)
    searches = [(f"r{n}", f"u{n}", ["x", "y"], row.tolist()) for n, row in enumerate(teams)]
    clicks = [(f"r{n}", "xy"[list(row).index(team)]) for n, (row, team) in enumerate(zip(teams, wanted, strict=True))]
    found = preference(write(tmp_path, searches, clicks), declare(kind="interleave"))
    assert found.second == wanted.sum()
    assert found.low < liking < found.high
    assert found.p_once == pytest.approx(binomtest(int(wanted.sum()), 1500).pvalue)
    assert ("treatment is preferred" in found.sentence) == clear
    assert (found.low > 0.5) == clear


def test_nothing_interleaved(tmp_path, alike):
    with pytest.raises(DatasetError, match="no column teams"):
        preference(alike, declare(kind="interleave"))
    with pytest.raises(DatasetError, match="no exposures/"):
        preference(tmp_path, declare(kind="interleave"))
