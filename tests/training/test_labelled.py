"""Labelled negatives in batches: dealt by the feed, cut to their places, and seen by those they concern alone."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.features.supervision import SupervisionConfig, save_negatives
from twinspire.ragged import Ragged
from twinspire.training.batches import Candidates, Columns, candidates, split
from twinspire.training.config import NegativeConfig
from twinspire.training.feed import ROWS, ReadPart, Share
from twinspire.training.labelled import dealt

BAGS = st.lists(st.lists(st.integers(0, 20), max_size=6, unique=True), max_size=30)
ITEMS, QUERIES = 25, 6
PAIRS = st.sets(st.tuples(st.integers(0, QUERIES - 1), st.integers(0, ITEMS - 1)), max_size=40)


@given(BAGS, st.integers(1, 4), st.integers(0, 100))
def test_each_bag_gives_what_it_has_once(bags: list[list[int]], each: int, seed: int) -> None:
    columns = dealt(Ragged.from_rows(bags), each, np.random.default_rng(seed))
    assert columns.shape == (len(bags), each)
    for bag, row in zip(bags, columns.tolist(), strict=True):
        given_ = [value for value in row if value >= 0]
        assert len(given_) == len(set(given_)) == min(each, len(bag))
        assert set(given_) <= set(bag)
        assert row[: len(given_)] == given_


def test_what_a_bag_gives_is_drawn_evenly() -> None:
    columns = dealt(Ragged.from_rows([[1, 2, 3, 4]] * 4000), 2, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(columns.ravel(), minlength=5)[1:], 2000, rtol=0.1)


def write(folder: Path, queries: list[int], pairs: dict[str, set[tuple[int, int]]], shown: list[list[int]]) -> Path:
    """An encoded dataset's part with negative pairs beside it; row n has query queries[n] and item n % ITEMS."""
    number = np.arange(len(queries))
    frame = dict.fromkeys(ROWS, number) | {
        "query": np.array(queries, np.int32),
        "item": (number % ITEMS).astype(np.int32),
        "weight": np.ones(len(queries), np.float32),
        "impressions": pl.Series(shown, dtype=pl.List(pl.Int32)),
    }
    path = folder / "rows" / "training" / "part-00000.parquet"
    path.parent.mkdir(parents=True)
    pl.DataFrame(frame).write_parquet(path)
    schema = {"query": pl.Int32, "item": pl.Int32}
    frames = {name: pl.DataFrame(sorted(found), schema=schema, orient="row") for name, found in pairs.items()}
    save_negatives(frames, QUERIES, folder / "negatives" / "training")
    return path


def read(path: Path, negatives: NegativeConfig, supervision: SupervisionConfig, size: int, **more: object) -> Columns:
    reader = ReadPart(negatives, size, ITEMS, 0, supervision=supervision, **more)
    return reader({"path": np.array([str(path)]), "round": np.array([0]), "part": np.array([0])})


def acting(batch: Columns, found: Candidates) -> list[tuple[int, int]]:
    """Pairs of row and labelled item that act on each other."""
    labelled = found.items[len(found.items) - found.concerned.shape[1] :]
    rows, columns = np.nonzero(found.concerned)
    return list(zip(rows.tolist(), labelled[columns].tolist(), strict=True))


@given(
    st.lists(st.integers(0, QUERIES - 1), min_size=8, max_size=40),
    PAIRS,
    PAIRS,
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(2, 8),
    st.floats(0, 1),
)
def test_a_negative_pair_acts_on_its_query_alone(
    tmp_path_factory: pytest.TempPathFactory,
    queries: list[int],
    labelled: set[tuple[int, int]],
    skipped: set[tuple[int, int]],
    negatives: float,
    skips: float,
    size: int,
    alpha: float,
) -> None:
    skipped = skipped - labelled
    pairs = {"labelled": labelled, "skipped": skipped}
    path = write(tmp_path_factory.mktemp("feed"), queries, pairs, [[]] * len(queries))
    config = NegativeConfig(count=20, alpha=alpha)
    supervision = SupervisionConfig(negatives=negatives, skipped=skips)
    places = supervision.places(config.random)
    named = {name: pairs[name] if places[name] else set() for name in pairs}
    for batch in split(read(path, config, supervision, size), size):
        found = candidates(batch, config, supervision)
        asked = batch["query"].tolist()
        meant = {(query, item) for source in named.values() for query, item in source}
        for row, item in acting(batch, found):
            assert (asked[row], item) in meant
        shown = [(asked[row], item) for row, item in acting(batch, found)]
        for source, one in named.items():
            there = {pair for pair in shown if pair in one}
            possible = {pair for pair in one if pair[0] in asked}
            assert len(there) <= places[source]
            if places[source] >= size and len(possible) <= 1:
                assert there == possible, "a batch that holds the query has its pair"
        assert found.concerned.shape[1] == len(set(shown)), "each pair once, each for all the rows of its query"
        plain = candidates({name: batch[name] for name in (*ROWS, "random", "extra")}, config)
        np.testing.assert_array_equal(found.items[: len(plain.items)], plain.items)
        assert found.from_log == plain.from_log


def test_without_pairs_a_part_is_what_it_is_without_supervision(tmp_path: Path) -> None:
    path = write(tmp_path, list(range(QUERIES)) * 4, {}, [[]] * 24)
    config = NegativeConfig(count=16)
    with_, without = (read(path, config, SupervisionConfig(negatives=share, skipped=share), 4) for share in (0.5, 0))
    assert set(with_) == set(without) == {*ROWS, "random", "extra"}
    for name, values in with_.items():
        np.testing.assert_array_equal(values, without[name])


@pytest.mark.parametrize("world", [1, 3])
def test_each_row_sees_the_impressions_of_its_own_search_and_nothing_else(tmp_path: Path, world: int) -> None:
    rng = np.random.default_rng(0)
    shown = [rng.permutation(ITEMS)[: rng.integers(0, 9)].tolist() for _ in range(60)]
    pairs = {"labelled": {(query, 0) for query in range(QUERIES)}}
    path = write(tmp_path, rng.integers(0, QUERIES, 60).tolist(), pairs, shown)
    config = NegativeConfig(kind="impressions", count=5)
    for rank in range(world):
        columns = read(path, config, SupervisionConfig(), 6, share=Share(rank, world))
        for batch in split(columns, 6):
            found = candidates(batch, config)
            assert len(found.items) == 6 + found.concerned.shape[1], "no random set, no others' positives"
            own = {row: [item for other, item in acting(batch, found) if other == row] for row in range(6)}
            for row, number in enumerate(batch["stop"].tolist()):
                assert len(own[row]) == min(5, len(shown[number]))
                assert set(own[row]) <= set(shown[number])
            assert found.concerned.sum() == found.concerned.shape[1], "each is one row's"
