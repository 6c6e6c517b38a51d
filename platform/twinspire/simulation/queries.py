"""The pool of queries: texts that shoppers type, and what each text asks for.

Each raw draw starts from an item (so that something in the catalogue answers it): a phrase for its type, and perhaps
its brand, an attribute, an audience or a price word. Draws with the same text are one query; a text that came about in
several ways ("apple": the brand, the fruit) keeps up to SENSES meanings, which is where polysemy comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.simulation.arrays import Doubles, Floats, Ints, choose
from twinspire.simulation.market import AUDIENCES, FORM_KINDS, TIERS, Market
from twinspire.simulation.typos import misspell

if TYPE_CHECKING:
    from twinspire.simulation.brands import Brands
    from twinspire.simulation.catalogue import Items

SENSES = 4
KINDS = ("category", "type", "use", "need", "brand", "refined", "typo")
_ZIPF = 0.8
_TYPO_SHARE = 0.12  # of the pool's texts

# What a raw draw adds to the phrase: (brand, phrase, attribute, audience, price word) and its share.
_PATTERNS = np.array(
    [
        (0, 1, 0, 0, 0, 0.46),
        (1, 0, 0, 0, 0, 0.08),
        (1, 1, 0, 0, 0, 0.15),
        (0, 1, 1, 0, 0, 0.10),
        (0, 1, 0, 1, 0, 0.08),
        (0, 1, 0, 0, 1, 0.05),
        (1, 1, 1, 0, 0, 0.03),
        (1, 1, 0, 1, 0, 0.02),
        (0, 1, 1, 1, 0, 0.02),
        (0, 1, 0, 1, 1, 0.01),
    ]
)
_SENSE = ["target", "brand", "value", "audience", "tier"]


@dataclass(frozen=True)
class QueryPool:
    """Q queries. A sense names what is asked for; -1 means "not named". Target -1: no such sense."""

    text: list[str]
    kind: Ints  # (Q,) index of KINDS
    weight: Doubles  # (Q,) Zipf weight
    target: Ints  # (Q, SENSES) row of Market.targets
    brand: Ints  # (Q, SENSES)
    value: Ints  # (Q, SENSES)
    audience: Ints  # (Q, SENSES)
    tier: Ints  # (Q, SENSES)
    share: Floats  # (Q, SENSES) how often the text has this sense
    entry_query: Ints  # (E,) queries by category, ...
    entry_ends: Doubles  # (E,) ... the running sum of their weights, ...
    entry_offsets: Ints  # (C + 1,) ... and where each category starts


def pool_size(items: int, interactions: int) -> int:
    """How many distinct texts a market has: a long tail, but bounded, since each is ranked once."""
    return int(np.clip(interactions // 12, 600, 60_000 if items < 1_000_000 else 20_000))


def _words_for(groups: list[list[str]], chosen: Ints, rng: np.random.Generator) -> pl.Series:
    """A random word of the chosen group of each row; group -1 gives an empty string."""
    flat = [word for group in groups for word in group] + [""]
    starts = np.cumsum([0] + [len(group) for group in groups])
    width = np.append(np.diff(starts), 0)[chosen]
    rows = np.append(starts[:-1], len(flat) - 1)[chosen] + (rng.random(len(chosen)) * width).astype(int)
    words: pl.Series = pl.Series(flat)[rows]
    return words


def _draws(market: Market, brands: Brands, items: Items, rng: np.random.Generator, count: int) -> pl.DataFrame:
    """Raw draws: the facts each names (-1: not named)."""
    per_category = np.bincount(items.category, items.popularity, len(market.categories))
    row = choose(rng, items.popularity / per_category[items.category] * market.demand[items.category], count)
    cover = np.arange(min(len(market.categories), len(items.type)), dtype=np.int32)
    row = np.concatenate([cover, row])  # a phrase for every category, however small the pool
    kind = items.type[row]
    forms = market.forms
    first, last = forms.offsets[kind], forms.offsets[kind + 1]
    low = np.where(first > 0, forms.ends[first - 1], 0.0)
    point = low + rng.random(len(row)) * (forms.ends[last - 1] - low)
    form = np.minimum(np.searchsorted(forms.ends, point, side="right"), last - 1)
    pattern = _PATTERNS[choose(rng, _PATTERNS[:, -1], len(row)), :-1].astype(bool)
    pattern[: len(cover)] = _PATTERNS[0, :-1].astype(bool)
    plain = np.isin(forms.kind[form], [FORM_KINDS.index("use"), FORM_KINDS.index("need")])
    plain &= rng.random(len(row)) < 0.9  # phrases of use are seldom refined
    pattern[plain] = _PATTERNS[0, :-1].astype(bool)
    slot = np.array([0, 1, 2, 3, 3])[rng.integers(5, size=len(row))]
    value = items.values[row, slot]
    named = np.isin(items.audience[row], [AUDIENCES.index(a) for a in ("women", "men", "kids", "senior")])
    own = market.audience_share[kind].max(axis=1) == 1.0  # "kids tablet" need not say kids again
    named &= ~own | (forms.kind[form] == FORM_KINDS.index("category"))
    audience = np.where(pattern[:, 3] & named, items.audience[row], np.where(pattern[:, 1], forms.audience[form], -1))
    return pl.DataFrame(
        {
            "form": np.where(pattern[:, 1], form, -1),
            "target": np.where(pattern[:, 1], forms.target[form], 0),
            "brand": np.where(pattern[:, 0], items.brand[row], -1),
            "value": np.where(pattern[:, 2], value, -1),
            "audience": audience,
            "said": np.where(pattern[:, 3] & named, items.audience[row], -1),
            "tier": np.where(pattern[:, 4] & (items.tier[row] != 1), items.tier[row], -1),
            "category": items.category[row],
        }
    ).cast(pl.Int32)


def _texts(market: Market, brands: Brands, draws: pl.DataFrame, rng: np.random.Generator) -> pl.Series:
    """What is typed: price word, audience, brand, attribute, phrase; some orders vary."""
    raw = market.raw
    audiences = [raw["audience_words"].get(name, [""]) for name in AUDIENCES]
    audience = _words_for(audiences, draws["said"].to_numpy(), rng)
    aliases = {str(k): v for k, v in raw["aliases"].items()}
    values = [[v.lower()] * 2 + [str(a) for a in aliases.get(v, [])] for v in market.values]
    tiers = [raw["tier_words"].get(name, [""]) for name in TIERS]
    frame = pl.DataFrame(
        {
            "price": _words_for(tiers, draws["tier"].to_numpy(), rng),
            "audience": audience,
            "brand": _words_for([[name.lower()] for name in brands.name], draws["brand"].to_numpy(), rng),
            "value": _words_for(values, draws["value"].to_numpy(), rng),
            "form": _words_for([[text] for text in market.forms.text], draws["form"].to_numpy(), rng),
            "late": rng.random(len(draws)) < 0.25,
        }
    )
    behind = pl.col("audience").str.contains(r"^for |gift|guys")
    blank = pl.lit("")
    parts = [
        pl.col("price"),
        pl.when(behind).then(blank).otherwise("audience"),
        pl.col("brand"),
        pl.when("late").then(blank).otherwise("value"),
        pl.col("form"),
        pl.when("late").then("value").otherwise(blank),
        pl.when(behind).then("audience").otherwise(blank),
    ]
    text = pl.concat_str(parts, separator=" ").str.replace_all(r"\s+", " ").str.strip_chars()
    return frame.select(text).to_series()


def _kind_of(market: Market, draws: pl.DataFrame) -> pl.Series:
    form = draws["form"].to_numpy()
    plain = market.forms.kind[np.maximum(form, 0)]
    adorned = ((draws["brand"] >= 0) | (draws["value"] >= 0) | (draws["said"] >= 0) | (draws["tier"] >= 0)).to_numpy()
    kind = np.where(form < 0, KINDS.index("brand"), np.where(adorned, KINDS.index("refined"), plain))
    return pl.Series(kind.astype(np.int32))


def _grouped(draws: pl.DataFrame, rng: np.random.Generator, size: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The `size` most drawn texts with their Zipf weights, and the kept draws."""
    cover = (
        draws.with_row_index("draw")
        .group_by("text")
        .agg(pl.len().alias("count"), pl.col("draw").min(), pl.col("kind").mode().min())
    )
    cover = cover.sort("draw").with_columns(pl.Series("noise", rng.random(len(cover))))
    forced = pl.when(pl.col("draw") < 33).then(1e9).otherwise(0.0)
    kept = cover.sort(forced + pl.col("count") + pl.col("noise"), descending=True).head(size)
    kept = kept.sort(pl.col("count") + pl.col("noise"), descending=True)
    weights = (np.arange(len(kept)) + 2.0) ** -_ZIPF
    kept = kept.with_columns(pl.Series("weight", weights)).with_row_index("query")
    return kept, draws.join(kept.select("text", "query"), on="text", maintain_order="left")


def _senses(draws: pl.DataFrame, count: int) -> tuple[dict[str, Ints], Floats]:
    """The most frequent senses of each query as (Q, SENSES) columns."""
    grouped = (
        draws.group_by("query", *_SENSE).len().sort("query", "len", *_SENSE, descending=[False, True, *[False] * 5])
    )
    grouped = grouped.with_columns(pl.int_range(pl.len()).over("query").alias("place")).filter(pl.col("place") < SENSES)
    rows, places = grouped["query"].to_numpy(), grouped["place"].to_numpy()
    columns = {}
    for name in _SENSE:
        columns[name] = np.full((count, SENSES), -1, dtype=np.int32)
        columns[name][rows, places] = grouped[name].to_numpy()
    share = np.zeros((count, SENSES), dtype=np.float32)
    share[rows, places] = grouped["len"].to_numpy()
    share /= share.sum(axis=1, keepdims=True)
    return columns, share


def _with_typos(texts: pl.DataFrame, rng: np.random.Generator, size: int) -> pl.DataFrame:
    """Misspelt copies of some texts: (query, typo, weight)."""
    source = choose(rng, texts["weight"].to_numpy() ** 0.6, size)
    frame = texts.select("query", "text", "weight")[source]
    frame = frame.with_columns(
        misspell(frame["text"], rng).alias("typo"), pl.Series("part", rng.uniform(0.003, 0.04, size))
    )
    frame = frame.filter((pl.col("text").str.len_chars() >= 5) & (pl.col("typo").str.len_chars() >= 4))
    frame = frame.join(texts.select(pl.col("text").alias("typo")), on="typo", how="anti", maintain_order="left")
    frame = frame.unique("typo", keep="first", maintain_order=True)
    return frame.select("query", "typo", (pl.col("weight") * pl.col("part")).alias("weight"))


def make_queries(market: Market, brands: Brands, items: Items, rng: np.random.Generator, size: int) -> QueryPool:
    """Draw about `size` distinct queries with their senses, weights and the categories whose shoppers type them."""
    raw = _draws(market, brands, items, rng, size * 6)
    raw = raw.with_columns(_texts(market, brands, raw, rng).alias("text"), _kind_of(market, raw).alias("kind"))
    typo_count = int(size * _TYPO_SHARE)
    texts, kept = _grouped(raw, rng, size - typo_count)
    columns, share = _senses(kept, len(texts))
    typos = _with_typos(texts, rng, typo_count)
    source = np.concatenate([np.arange(len(texts)), typos["query"].to_numpy()])
    weight = np.concatenate([texts["weight"].to_numpy(), typos["weight"].to_numpy()])
    weight /= weight.sum()
    entries = kept.group_by("query", "category").len()
    entries = entries.with_columns(pl.col("len") / pl.col("len").sum().over("query"))
    all_queries = pl.DataFrame(
        {"query": source.astype(np.uint32), "row": np.arange(len(source), dtype=np.int32), "weight": weight}
    )
    entries = all_queries.join(entries, on="query").sort("category", "row")
    offsets = np.searchsorted(entries["category"].to_numpy(), np.arange(len(market.categories) + 1))
    kind = np.concatenate([texts["kind"].to_numpy(), np.full(len(typos), KINDS.index("typo"))])
    return QueryPool(
        text=texts["text"].to_list() + typos["typo"].to_list(),
        kind=kind.astype(np.int32),
        weight=weight,
        share=share[source],
        entry_query=entries["row"].to_numpy(),
        entry_ends=np.cumsum((entries["weight"] * entries["len"]).to_numpy()),
        entry_offsets=offsets.astype(np.int32),
        **{name: column[source] for name, column in columns.items()},
    )
