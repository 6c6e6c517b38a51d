"""The supervision table as rows and negative pairs."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire import dataset
from twinspire.config import load_config
from twinspire.dataset import Dataset
from twinspire.errors import ConfigError
from twinspire.features.encode import Encoded, encode
from twinspire.features.log import LogConfig
from twinspire.features.spec import FeatureConfig
from twinspire.features.supervision import Labels, SupervisionConfig, load_negatives, repeated, save_negatives
from twinspire.text import TokeniserConfig

Frame = Callable[[list[dict[str, object]]], pl.DataFrame]
Shop = Callable[..., Dataset]
TABLE = ["query", "item_id", "label", "source"]


def labelled(shop: Dataset, *rows: tuple[str, str, str]) -> Dataset:
    """The shop with a supervision table of query, item and + or -."""
    labels = {"+": "positive", "-": "negative"}
    full = [(query, item, labels[sign], "someone") for query, item, sign in rows]
    return replace(shop, supervision=pl.DataFrame(full, schema=TABLE, orient="row"))


def shop(log: Frame, shop_of: Shop, clicks: int = 40) -> Dataset:
    return shop_of(log([{"at": at, "query": f"q{at % 4}", "item": "abcd"[at % 4]} for at in range(clicks)]))


def encoded(source: Dataset, folder: Path, **supervision: object) -> Encoded:
    config = SupervisionConfig(**supervision)
    tables = (FeatureConfig(), LogConfig(half_life_days=1, fill_up_to=0), TokeniserConfig())
    return encode(source, *tables, folder / "encoded", 0, supervision=config)[0]


def test_labels_are_rows_of_normal_queries(log: Frame, shop_of: Shop) -> None:
    source = labelled(
        shop(log, shop_of),
        ("Q1 ", "e", "+"),
        ("q1", "e", "+"),
        ("new query", "f", "+"),
        ("q2", "a", "-"),
        ("New  Query", "a", "-"),
        ("nobody asks this", "a", "-"),
        ("q3", "b", "+"),
        ("Q3", "b", "-"),
    )
    queries = pl.Series("query", ["q0", "q1", "q2", "q3"])
    labels = Labels.read(source, queries, SupervisionConfig())
    assert labels.queries.to_list() == ["q0", "q1", "q2", "q3", "new query"]
    assert labels.positives.rows() == [(1, 4), (4, 5)], "once each, and q3 b says nothing"
    assert labels.negatives.rows() == [(2, 0), (4, 0)]


def test_a_share_of_nothing_reads_no_label(log: Frame, shop_of: Shop) -> None:
    source = labelled(shop(log, shop_of), ("new", "e", "+"), ("new", "a", "-"), ("q1", "f", "-"))
    queries = pl.Series("query", ["q0", "q1"])
    without_positives = Labels.read(source, queries, SupervisionConfig(positives=0))
    assert without_positives.queries.to_list() == ["q0", "q1"]
    assert without_positives.negatives.rows() == [(1, 5)], "no row would ask for `new`"
    assert len(without_positives.positives) == 0
    assert len(Labels.read(source, queries, SupervisionConfig(negatives=0)).negatives) == 0


@given(st.integers(0, 400), st.integers(0, 30), st.floats(0, 0.5), st.integers(1, 5))
def test_positive_pairs_take_their_share_and_no_more(rows: int, pairs: int, share: float, repeats: int) -> None:
    config = SupervisionConfig(positives=share, repeats=repeats)
    frame = pl.DataFrame({"query": range(pairs), "item": range(pairs)}, schema={"query": pl.Int32, "item": pl.Int32})
    found = repeated(frame, rows, config, np.random.default_rng(0))
    counts = Counter(found["query"].to_list())
    assert len(found) <= share * (rows + len(found)) + 1
    assert max(counts.values(), default=0) <= repeats
    if len(found) > pairs:
        assert len(counts) == pairs, "none twice before each is there once"
    if pairs * repeats >= rows:
        assert len(found) == round(rows * share / (1 - share))


def test_positive_pairs_are_rows_of_both_parts(log: Frame, shop_of: Shop, tmp_path: Path) -> None:
    """Of nobody, without a history, of the clicks' mean weight, and counted as batches draw them."""
    source = labelled(shop(log, shop_of), ("new query", "f", "+"))
    result = encoded(source, tmp_path, positives=0.2, repeats=3)
    for part, clicks in (("training", 36), ("all", 40)):
        frame = pl.read_parquet(result.folder / "rows" / part / "*.parquet")
        added = frame.filter(pl.col("item") == 5)
        assert (len(frame), len(added)) == (clicks + 3, 3)
        assert added.select("user", "stop").unique().rows() == [(-1, 0)]
        mean = frame.filter(pl.col("item") != 5)["weight"].mean()
        np.testing.assert_allclose(added["weight"].to_numpy(), mean, rtol=1e-6)
        assert added["query"].unique().to_list() == [4]
        assert result.meta.rows[part] == clicks + 3
        np.testing.assert_array_equal(result.clicks(part), np.bincount(frame["item"], minlength=6))
        assert set(frame["item"][-3:]) != {5}, "in random order"
    assert (result.meta.positives, result.meta.training) == (40, 36)
    assert 5 not in result.validation["item"].to_list()
    text = result.dictionaries.text(["new query"])["words"].row(0).tolist()
    assert len(text) == 3, "new, query and both: no other query has them, but a person wrote them"
    assert result.store.queries["words"].row(4).tolist() == text


def test_negative_pairs_stand_by_query_in_both_parts(log: Frame, shop_of: Shop, tmp_path: Path) -> None:
    result = encoded(labelled(shop(log, shop_of), ("q2", "a", "-"), ("q2", "f", "-"), ("q0", "b", "-")), tmp_path)
    for part in ("training", "all"):
        bags = load_negatives(result.folder / "negatives" / part)
        assert {q: bags["labelled"].row(q).tolist() for q in range(4)} == {0: [1], 1: [], 2: [0, 5], 3: []}
        assert "skipped" not in bags
    assert result.meta.supervision == {"positives": 0, "labelled": 3, "skipped": 0}


def test_without_a_table_the_rows_are_those_of_supervision_left_out(log: Frame, shop_of: Shop, tmp_path: Path) -> None:
    plain = encoded(shop(log, shop_of), tmp_path / "a")
    off = encoded(labelled(shop(log, shop_of), ("q0", "f", "+")), tmp_path / "b", positives=0, negatives=0)
    for part in ("training", "all"):
        files = [result.folder / "rows" / part / "part-00000.parquet" for result in (plain, off)]
        assert pl.read_parquet(files[0]).equals(pl.read_parquet(files[1]))


def test_pairs_of_unknown_items_are_in_quarantine(tiny_dataset: Path, tmp_path: Path) -> None:
    for name in ("items", "interactions", "users"):
        (tmp_path / f"{name}.parquet").write_bytes((tiny_dataset / f"{name}.parquet").read_bytes())
    rows = [("mug", "i1", "positive", "x"), ("mug", "no such item", "negative", "x")]
    pl.DataFrame(rows, schema=TABLE, orient="row").write_parquet(tmp_path / "supervision.parquet")
    source = dataset.read(tmp_path, max_bad_share=0.5)
    assert source.supervision is not None
    assert source.supervision["item_id"].to_list() == ["i1"]
    assert source.report.tables["supervision"].reasons == {"item_id is not in items": 1}


def test_saved_pairs_come_back(tmp_path: Path) -> None:
    pairs = {
        "labelled": pl.DataFrame(
            {"query": [2, 0, 2], "item": [5, 1, 3]}, schema=dict.fromkeys(("query", "item"), pl.Int32)
        )
    }
    pairs["skipped"] = pairs["labelled"].clear()
    save_negatives(pairs, 4, tmp_path / "n")
    found = load_negatives(tmp_path / "n")
    assert list(found) == ["labelled"]
    assert [found["labelled"].row(q).tolist() for q in range(4)] == [[1], [], [3, 5], []]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("supervision.positive=0.1", "supervision.positive"),
        ("supervision.positives=0.9", "supervision.positives"),
        ("supervision.positives=-0.1", "supervision.positives"),
        ("supervision.negatives=1.5", "supervision.negatives"),
        ("supervision.skipped=.nan", "supervision.skipped"),
        ("supervision.skipped=2", "supervision.skipped"),
        ("supervision.min_skips=0", "supervision.min_skips"),
        ("supervision.repeats=0", "supervision.repeats"),
        ("negatives.kind=unclicked", "negatives.kind"),
    ],
)
def test_a_bad_setting_is_one_line(setting: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        load_config(None, (setting,))
    assert "\n" not in str(caught.value)


def test_places_are_a_share_of_the_random_items() -> None:
    assert SupervisionConfig(negatives=0.1, skipped=0.5).places(128) == {"labelled": 13, "skipped": 64}
    assert SupervisionConfig(negatives=0.1).places(0) == {"labelled": 0, "skipped": 0}
