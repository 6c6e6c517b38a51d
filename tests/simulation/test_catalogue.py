"""The catalogue and its words."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from twinspire.simulation.arrays import stream
from twinspire.simulation.brands import make_brands
from twinspire.simulation.catalogue import items_table, make_items
from twinspire.simulation.market import load_market
from twinspire.simulation.queries import KINDS, make_queries
from twinspire.simulation.typos import misspell


@pytest.fixture(scope="module")
def catalogue() -> pl.DataFrame:
    market = load_market()
    brands = make_brands(market, stream(0, "b"), 120)
    items = make_items(market, brands, stream(0, "i"), 8000)
    facts = {"tier": items.tier, "kind": items.type, "brand_row": items.brand}
    return items_table(market, brands, items, stream(0, "t")).with_columns(
        **{k: pl.Series(v) for k, v in facts.items()}
    )


def test_the_market_has_the_papers_breadth(catalogue: pl.DataFrame) -> None:
    market = load_market()
    assert len(market.categories) == 33
    assert len(market.types) == len(set(market.types)) > 130
    levels = catalogue["category"].str.split(" > ")
    assert set(levels.list.len()) == {3}
    assert levels.list.get(1).n_unique() == 33


def test_titles_read_like_titles(catalogue: pl.DataFrame) -> None:
    assert catalogue.filter(~pl.col("title").str.starts_with(pl.col("brand"))).is_empty()
    assert not catalogue["title"].str.contains(r"^\s|\s$|\s\s|None|null").any()
    assert catalogue["title"].n_unique() > 0.9 * len(catalogue)
    assert catalogue["item_id"].n_unique() == len(catalogue)


def test_prices_follow_the_tier_and_brands_have_a_zipf_head(catalogue: pl.DataFrame) -> None:
    assert catalogue["price"].min() > 0  # type: ignore[operator]
    medians = catalogue.group_by("kind", "tier").agg(pl.col("price").median(), pl.len()).filter(pl.col("len") >= 8)
    wide = medians.pivot("tier", index="kind", values="price").drop_nulls()
    assert (wide["0"] < wide["2"]).all()
    counts = catalogue["brand"].value_counts(sort=True)["count"]
    assert counts.head(12).sum() > 3 * counts[12:24].sum() / 2


def test_queries_of_every_kind_with_more_than_one_meaning() -> None:
    market = load_market()
    brands = make_brands(market, stream(0, "b"), 120)
    items = make_items(market, brands, stream(0, "i"), 8000)
    pool = make_queries(market, brands, items, stream(0, "q"), 4000)
    assert len(set(pool.text)) == len(pool.text)
    assert set(np.bincount(pool.kind, minlength=len(KINDS)) > 0) == {True}
    assert (np.diff(pool.entry_offsets) > 0).all()
    senses = dict(zip(pool.text, (pool.target >= 0).sum(axis=1), strict=True))
    assert senses["apple"] >= 2
    assert senses["monitor"] >= 2
    assert pool.weight.sum() == pytest.approx(1.0)
    assert pool.weight.max() > 100 * np.median(pool.weight)


def test_misspelt_words_are_one_slip_away() -> None:
    texts = pl.Series(["running shoes", "refrigerator", "phone"] * 50)
    typos = misspell(texts, stream(0, "typos"))
    lengths = typos.str.len_chars().cast(pl.Int64) - texts.str.len_chars().cast(pl.Int64)
    assert lengths.abs().max() <= 1  # type: ignore[operator]
    assert (typos != texts).mean() > 0.8  # type: ignore[operator]
    assert (typos.str.slice(0, 1) == texts.str.slice(0, 1)).all()
