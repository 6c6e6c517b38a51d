"""A market that changes while its log runs: fashion turns, items are launched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from twinspire.errors import ConfigError
from twinspire.simulation import simulate, truth
from twinspire.simulation.brands import TASTE_DIMENSIONS
from twinspire.simulation.catalogue import DAYS
from twinspire.simulation.truth import drifting

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.simulation import Truth


def test_fashion_turns_by_half_a_circle() -> None:
    fashion = drifting(np.random.default_rng(0), 61, 0.8)
    assert fashion.shape == (61, TASTE_DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(fashion, axis=1), 0.8, rtol=1e-6)
    np.testing.assert_allclose(fashion[60], -fashion[0], atol=1e-6)
    assert abs(fashion[0] @ fashion[30]) < 1e-6
    steps = (fashion[1:] * fashion[:-1]).sum(1) / 0.64
    np.testing.assert_allclose(steps, np.cos(np.pi / 60), rtol=1e-5)


def test_what_is_in_fashion_is_liked_more_on_its_day_alone(market_truth: Truth) -> None:
    rng = np.random.default_rng(1)
    drifted = replace(market_truth, fashion=drifting(rng, 61, 1.0))
    users, queries = rng.integers(0, 400, 50).astype(np.int32), rng.integers(0, 500, 50).astype(np.int32)
    items = rng.integers(0, 3000, (50, 20)).astype(np.int32)
    still = market_truth.tastes(users, queries, items)
    for day in (0, 30, 60):
        days = np.full(50, day + 0.5, np.float32)
        added = drifted.tastes(users, queries, items, days) - still
        np.testing.assert_allclose(added, drifted.items.style[items] @ drifted.fashion[day], atol=1e-4)
        np.testing.assert_array_equal(market_truth.tastes(users, queries, items, days), still)
    np.testing.assert_array_equal(drifted.tastes(users, queries, items), still)


def test_a_drifting_market_s_clicks_follow_its_fashion(tmp_path: Path) -> None:
    simulate(tmp_path / "market", items=500, users=200, interactions=40_000, seed=2, new_share=0.5, drift=1.5)
    known = truth.load(tmp_path / "market")
    assert known.fashion.shape == (int(DAYS) + 1, TASTE_DIMENSIONS)
    launched = known.items.launch_day
    assert 0.4 < (launched > 0).mean() < 0.6
    items = pl.read_parquet(tmp_path / "market" / "items.parquet").with_row_index("row").select("row", "item_id")
    log = pl.read_parquet(tmp_path / "market" / "interactions" / "*.parquet").join(items, on="item_id")
    day = (pl.col("timestamp") - log["timestamp"].min()).dt.total_seconds() / 86_400
    clicks = log.filter(pl.col("event") == "click").with_columns(day.alias("day"))
    assert (launched[clicks["row"].to_numpy()] < clicks["day"].to_numpy() + 1.1).all(), "nothing before its launch"
    style = known.items.style[clicks["row"].to_numpy()]
    early, late = (clicks["day"] < 15).to_numpy(), (clicks["day"] > 45).to_numpy()
    turned = known.fashion[0] - known.fashion[-1]
    assert (style[early] @ turned).mean() > (style[late] @ turned).mean() + 0.5


@pytest.mark.parametrize(
    ("changed", "named"), [({"drift": -1.0}, "drift is -1"), ({"new_share": 1.5}, "new_share is 1.5")]
)
def test_bad_changes_are_named(tmp_path: Path, changed: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        simulate(tmp_path / "market", items=50, users=1, interactions=1, **changed)
    assert not (tmp_path / "market").exists()
