import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.dataset import Dataset
from twinspire.features.encode import Encoded, encode
from twinspire.features.log import LogConfig, Positives, read_positives
from twinspire.features.spec import FeatureConfig
from twinspire.features.title_log import LONGEST, QUERIES_EACH, pseudo_query, title_positives, with_titles
from twinspire.text import TokeniserConfig, normalise
from twinspire.text.words import words

Shop = Callable[..., Dataset]
TITLES = st.lists(
    st.none() | st.text("aB é-'手机\n7", max_size=12) | st.sampled_from(["", "Red  SHOE", "红色 手机壳"]), max_size=6
)


def asked(positives: Positives) -> list[tuple[str, int]]:
    return [(positives.queries[q], i) for q, i in zip(positives.query.tolist(), positives.item.tolist(), strict=True)]


def stand_in_order(few: list[str], many: list[str]) -> bool:
    rest = iter(many)
    return all(word in rest for word in few)


@given(TITLES, st.integers(0, 3))
def test_pseudo_queries_are_words_of_their_title_in_order(titles: list[str | None], seed: int) -> None:
    column = pl.Series("title", titles, dtype=pl.String)
    made = title_positives(column, seed)
    with_words = [n for n, title in enumerate(titles) if words(title or "")]
    assert np.bincount(made.item, minlength=len(titles)).tolist() == [
        QUERIES_EACH * (n in with_words) for n in range(len(titles))
    ], "as many of each title, and of an empty one none"
    assert made.queries.n_unique() == len(made.queries)
    assert set(made.query.tolist()) == set(range(len(made.queries)))
    for query, item in asked(made):
        assert query == normalise(query) != ""
        assert 1 <= len(words(query)) <= LONGEST
        assert stand_in_order(words(query), words(titles[item] or ""))
    assert (made.user == -1).all()
    again = title_positives(column, seed)
    assert asked(again) == asked(made)


def test_they_are_in_random_order_and_another_seed_makes_others() -> None:
    titles = pl.Series([f"red shoe {n}" for n in range(50)])
    made = title_positives(titles, 0)
    assert made.item.tolist() != sorted(made.item.tolist())
    assert asked(made) != asked(title_positives(titles, 1))


def test_neighbours_and_scattered_words_and_every_length_occur() -> None:
    rng = np.random.default_rng(0)
    found = {pseudo_query("a b, c d e", rng) for _ in range(500)}
    assert {"a", "b, c", "a c", "c d e", "a b, c d", "a b c e"} <= found
    assert "a b, c d e" not in found


def test_a_chinese_title_is_cut_between_its_characters() -> None:
    rng = np.random.default_rng(0)
    found = {pseudo_query("红色 手机壳", rng) for _ in range(500)}
    assert {"红", "手机壳", "红色", "色 手机", "红 手"} <= found


def test_of_a_large_catalogue_there_is_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinspire.features.title_log.MOST", 30)
    made = title_positives(pl.Series([f"red shoe {n}" for n in range(50)]), 0)
    assert len(made) == 30
    assert len(set(made.item.tolist())) > 15


def test_the_logs_queries_keep_their_rows_and_come_last(log: Callable[..., pl.DataFrame], shop_of: Shop) -> None:
    rows = [
        {"at": 0, "query": "Ale", "item": "a", "user": "u"},
        {"at": 5, "query": "dark beer", "item": "b", "user": "u"},
        {"at": 60 * 24 * 30, "query": "cheese", "item": "c"},
    ]
    shop = shop_of(log(rows))
    positives = read_positives(shop, LogConfig(half_life_days=30))
    learnt = with_titles(positives, shop.items["title"], 0)
    assert learnt.queries[: len(positives.queries)].to_list() == positives.queries.to_list()
    assert learnt.queries.n_unique() == len(learnt.queries)
    added = len(learnt) - len(positives)
    assert added == QUERIES_EACH * 6
    for name in ("query", "user", "item", "stop", "weight", "time"):
        np.testing.assert_array_equal(getattr(learnt, name)[added:], getattr(positives, name))
    assert (learnt.time[:added] < positives.time.min()).all()
    np.testing.assert_allclose(learnt.weight[:added], positives.weight.mean())
    titles = shop.items["title"].to_list()
    assert {(query, titles[item].lower()) for query, item in asked(learnt)[:added]} == {
        (title.lower(), title.lower()) for title in titles
    }
    assert learnt.user_ids.to_list() == positives.user_ids.to_list()


def filled(shop: Dataset, folder: Path, fill_up_to: int) -> tuple[Encoded, Positives]:
    config = LogConfig(fill_up_to=fill_up_to)
    return encode(shop, FeatureConfig(), config, TokeniserConfig(hash_bits=16), folder, seed=0)


@pytest.mark.parametrize(("fill_up_to", "titles"), [(21, 24), (20, 0), (0, 0)])
def test_only_a_log_of_fewer_positives_is_filled_up(
    log: Callable[..., pl.DataFrame], shop_of: Shop, tmp_path: Path, fill_up_to: int, titles: int
) -> None:
    shop = shop_of(log([{"at": n, "query": f"q{n % 7}", "item": "abc"[n % 3]} for n in range(20)]))
    made, positives = filled(shop, tmp_path / "encoded", fill_up_to)
    assert (made.meta.positives, made.meta.titles) == (20, titles)
    assert made.meta.training + made.meta.validation == 20 + titles
    assert len(positives) == 20, "what comes back is the log's own"
    assert made.meta.rows["all"] == made.clicks("all").sum() == 20 + titles
    assert json.loads((made.folder / "meta.json").read_text())["titles"] == titles
    # The validation window is the latest part, which is the log's.
    assert made.validation["query"].max() < len(positives.queries)


def test_a_catalogue_without_a_log_writes_its_own(shop_of: Shop, tmp_path: Path) -> None:
    made, positives = filled(shop_of(None), tmp_path / "encoded", 1000)
    assert (made.meta.positives, made.meta.titles, made.meta.trained_until) == (0, 24, None)
    assert len(positives) == 0
    rows = pl.read_parquet(made.folder / "rows" / "all" / "*.parquet")
    assert rows["item"].value_counts()["count"].to_list() == [4] * 6
    features = made.store.query_features(rows["query"].to_numpy(), rows["user"].to_numpy(), rows["stop"].to_numpy())
    assert features["words"].lengths.min() > 0


def test_the_same_seed_encodes_the_same(shop_of: Shop, tmp_path: Path) -> None:
    frames = [
        pl.read_parquet(filled(shop_of(None), tmp_path / name, 1000)[0].folder / "rows" / "all" / "*.parquet")
        for name in ("one", "two")
    ]
    assert frames[0].equals(frames[1])
