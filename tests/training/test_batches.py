from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.training.batches import Columns, candidates, shuffled_with_negatives, split
from twinspire.training.config import NegativeConfig
from twinspire.training.feed import ROWS, ReadPart

SIZES, COUNTS, ALPHAS = st.integers(2, 50), st.integers(1, 80), st.floats(0, 1)


def rows(length: int, items: int = 20, seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    return {"item": rng.integers(0, items, length).astype(np.int32), "query": np.arange(length)}


@given(SIZES, COUNTS, ALPHAS, st.integers(0, 200))
def test_every_batch_has_the_configured_candidates(size: int, count: int, alpha: float, length: int) -> None:
    config = NegativeConfig(count=count, alpha=alpha)
    assert config.random + config.batch == count
    columns = shuffled_with_negatives(rows(length), config, size, 20, np.random.default_rng(1))
    assert sorted(columns["query"]) == list(range(length)), "the same rows, each once"
    np.testing.assert_array_equal(columns["item"], rows(length)["item"][columns["query"].astype(int)])
    batches = list(split(columns, size))
    assert len(batches) == length // size
    for batch in batches:
        ids, from_log, _ = candidates(batch, config)
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids[:size], batch["item"])
        in_batch = min(config.batch, size - 1)
        assert in_batch + (len(ids) - size) == count, "negatives of one query, before masking"
        assert len(ids) - from_log == config.random
        assert ((ids >= 0) & (ids < 20)).all()


def test_shares_follow_alpha() -> None:
    assert (NegativeConfig(count=100, alpha=0).random, NegativeConfig(count=100, alpha=0).batch) == (0, 100)
    assert (NegativeConfig(count=100, alpha=1).random, NegativeConfig(count=100, alpha=1).batch) == (100, 0)
    assert (NegativeConfig(count=100, alpha=0.3).random, NegativeConfig(count=100, alpha=0.3).batch) == (30, 70)
    assert NegativeConfig(count=100, alpha=0.3).beyond_batch(16) == 55
    assert NegativeConfig(count=100, alpha=0.3).beyond_batch(500) == 0


def chi_square(found: np.ndarray, expected: np.ndarray) -> float:
    """In standard deviations of the statistic, about; beyond 4 it is no chance."""
    kept = expected > 0
    assert (found[~kept] == 0).all()
    free = kept.sum() - 1
    return float((((found - expected)[kept] ** 2 / expected[kept]).sum() - free) / np.sqrt(2 * free))


def test_random_negatives_are_uniform_and_extra_ones_follow_the_clicks() -> None:
    popular = np.minimum(np.random.default_rng(0).geometric(0.2, 4000) - 1, 19).astype(np.int32)
    config = NegativeConfig(count=100, alpha=0.5)
    columns = shuffled_with_negatives({"item": popular}, config, 10, 25, np.random.default_rng(1))
    drawn = np.bincount(columns["random"].ravel(), minlength=25)
    assert abs(chi_square(drawn, np.full(25, drawn.sum() / 25))) < 4
    extra, clicks = np.bincount(columns["extra"].ravel(), minlength=25), np.bincount(popular, minlength=25)
    assert abs(chi_square(extra, clicks / clicks.sum() * extra.sum())) < 4
    assert chi_square(extra, np.full(25, extra.sum() / 25)) > 100


def write_part(path: Path, length: int = 64) -> Path:
    frame = {name: np.arange(length) for name in ROWS} | {"item": np.arange(length, dtype=np.int32) % 9}
    pl.DataFrame(frame).write_parquet(path)
    return path


def test_a_part_is_the_same_for_the_same_seed_and_round_and_differs_otherwise(tmp_path: Path) -> None:
    path = write_part(tmp_path / "part.parquet")

    def read(seed: int = 0, round_: int = 0, part: int = 0) -> Columns:
        reader = ReadPart(NegativeConfig(count=20), batch_size=8, items=9, seed=seed)
        return reader({"path": np.array([str(path)]), "round": np.array([round_]), "part": np.array([part])})

    first = read()
    assert set(first) == {*ROWS, "random", "extra"}
    for name, values in read().items():
        np.testing.assert_array_equal(values, first[name])
    for other in (read(seed=1), read(round_=1), read(part=1)):
        assert not np.array_equal(other["query"], first["query"])
        assert not np.array_equal(other["random"], first["random"])
        assert sorted(other["query"]) == sorted(first["query"])


def test_an_empty_part_gives_no_batches(tmp_path: Path) -> None:
    path = write_part(tmp_path / "part.parquet", length=0)
    reader = ReadPart(NegativeConfig(count=20), batch_size=8, items=9, seed=0)
    columns = reader({"path": np.array([str(path)]), "round": np.array([0]), "part": np.array([0])})
    assert list(split(columns, 8)) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray, of its own settings
def test_negatives_without_width_survive_arrow() -> None:
    """A batch larger than its negatives has no extra ones; Ray Data must carry the empty column all the same."""
    from ray.data.block import BlockAccessor

    columns = shuffled_with_negatives(rows(32), NegativeConfig(count=8, alpha=0), 16, 20, np.random.default_rng(0))
    assert columns["random"].shape == columns["extra"].shape == (32, 0)
    block = BlockAccessor.for_block(BlockAccessor.batch_to_block(columns)).slice(8, 24)
    back = BlockAccessor.for_block(block).to_batch_format("numpy")
    ids, from_log, _ = candidates(back, NegativeConfig(count=8, alpha=0))
    assert (len(ids), from_log) == (16, 16)
