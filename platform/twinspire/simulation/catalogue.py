"""The catalogue: what each item is, drawn column by column, and its title composed from that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.simulation.arrays import Doubles, Floats, Ints, choose, choose_rows
from twinspire.simulation.brands import TASTE_DIMENSIONS, Brands
from twinspire.simulation.market import AUDIENCES, SLOTS, TIERS, Market

if TYPE_CHECKING:
    from collections.abc import Sequence

DAYS = 60.0
_KEPT = {"before": 0.8, "after": 0.65, "size": 0.85, "colour": 0.75}  # chance that an item has the attribute
NEW_SHARE = 0.15  # items launched while the log runs
_NUMBERED = ("Electronics", "Appliances")


@dataclass(frozen=True)
class Items:
    """Facts of N items, aligned with the rows of the items table."""

    type: Ints
    category: Ints
    department: Ints
    brand: Ints
    tier: Ints
    audience: Ints
    values: Ints  # (N, 4) attribute value of each slot, -1: none
    price: Doubles
    quality: Floats  # standard normal
    popularity: Doubles  # weight, mean 1
    launch_day: Floats  # 0: there from the start
    style: Floats  # (N, TASTE_DIMENSIONS)


def _brand_of(market: Market, brands: Brands, rng: np.random.Generator, category: Ints) -> Ints:
    chosen = np.zeros(len(category), dtype=np.int32)
    for number in range(len(market.categories)):
        rows = np.flatnonzero(category == number)
        chosen[rows] = choose(rng, brands.popularity**0.75 * brands.sells[:, number], len(rows))
    return chosen


def _values_of(market: Market, rng: np.random.Generator, kind: Ints) -> Ints:
    """One value a slot and item; the first values of a list are the usual ones; some items lack the attribute."""
    values = np.full((len(kind), len(SLOTS)), -1, dtype=np.int32)
    order = np.argsort(kind, kind="stable")
    ends = np.searchsorted(kind[order], np.arange(len(market.slots) + 1))
    for number, slots in enumerate(market.slots):
        rows = order[ends[number] : ends[number + 1]]
        for slot, options in enumerate(slots):
            if options:
                picked = choose(rng, 1.0 / np.arange(1, len(options) + 1) ** 0.4, len(rows))
                kept = rng.random(len(rows)) < _KEPT[SLOTS[slot]]
                values[rows, slot] = np.where(kept, np.array(options, dtype=np.int32)[picked], -1)
    return values


def _audience_of(market: Market, brands: Brands, rng: np.random.Generator, kind: Ints, brand: Ints) -> Ints:
    """The type's shares, bent by the brand's lean to women or men."""
    shares = market.audience_share[kind]
    women, men = AUDIENCES.index("women"), AUDIENCES.index("men")
    shares[:, women] *= np.exp(1.2 * brands.lean[brand])
    shares[:, men] *= np.exp(-1.2 * brands.lean[brand])
    return choose_rows(rng, shares)


def _price_of(market: Market, rng: np.random.Generator, kind: Ints, tier: Ints) -> Doubles:
    price = market.price[kind] * np.array([0.5, 1.0, 2.1])[tier] * np.exp(rng.normal(0, 0.22, len(kind)))
    # Shops end prices in .99, and in full tens less a cent when they are high.
    step = np.where(price < 10, 0.5, np.where(price < 200, 1.0, 10.0))
    ended: Doubles = np.round(np.maximum(np.round(price / step) * step, step) - 0.01, 2)
    return ended


def make_items(
    market: Market, brands: Brands, rng: np.random.Generator, count: int, new_share: float = NEW_SHARE
) -> Items:
    """Draw `count` items; the first ones cover every category, so that small catalogues have them all.

    The share `new_share` of them is launched while the log runs, evenly over its days.
    """
    breadth = market.demand**0.6
    category = choose(rng, breadth, count)
    head = min(count, len(breadth))
    category[:head] = np.arange(head)
    kind = np.zeros(count, dtype=np.int32)
    for number in range(len(breadth)):
        rows, options = np.flatnonzero(category == number), np.flatnonzero(market.type_category == number)
        kind[rows] = options[choose(rng, market.type_share[options], len(rows))]
    brand = _brand_of(market, brands, rng, category)
    distance = np.arange(len(TIERS))[None, :] - brands.tier[brand][:, None]
    tier = choose_rows(rng, np.exp(-(distance**2) / 0.5))
    values = _values_of(market, rng, kind)
    value_style = rng.normal(0, 1, (len(market.values) + 1, TASTE_DIMENSIONS))
    value_style[-1] = 0.0  # the row that "no attribute" (-1) reads
    style = 0.8 * brands.style[brand] + 0.5 * (value_style[values[:, 0]] + value_style[values[:, 3]])
    quality = rng.normal(0, 1, count)
    popularity = np.exp(0.5 * quality + 0.9 * rng.normal(0, 1, count)) * brands.popularity[brand] ** 0.3
    launch = np.where(rng.random(count) < new_share, rng.uniform(0, DAYS, count), 0.0)
    launch[:head] = 0.0
    return Items(
        type=kind,
        category=category,
        department=market.category_department[category],
        brand=brand,
        tier=tier,
        audience=_audience_of(market, brands, rng, kind, brand),
        values=values,
        price=_price_of(market, rng, kind, tier),
        quality=quality.astype(np.float32),
        popularity=popularity / popularity.mean(),
        launch_day=launch.astype(np.float32),
        style=style.astype(np.float32),
    )


def _pick(options: Sequence[str], rng: np.random.Generator, size: int) -> pl.Series:
    return pl.Series(list(options), dtype=pl.String)[rng.integers(len(options), size=size)]


def _lines(market: Market, brands: Brands, items: Items, rng: np.random.Generator) -> pl.Series:
    """Model lines such as "Nova 7 Pro": the brand's line, a number where the trade numbers, a word of the tier."""
    count = len(items.brand)
    raw = market.raw["lines"]
    line = pl.Series(raw["names"])[brands.lines[items.brand, rng.integers(3, size=count)]]
    numbered = np.isin(np.array(market.departments)[items.department], _NUMBERED)
    numbers = rng.integers(2, 30, size=count)
    number = pl.Series(["", *map(str, range(2, 30))])[np.where(numbered, numbers - 1, 0)]
    words = [word for tier in TIERS for word in raw[tier]]
    starts = np.cumsum([0] + [len(raw[tier]) for tier in TIERS])
    width = np.diff(starts)[items.tier]
    suffix = pl.Series(words)[starts[items.tier] + (rng.random(count) * width).astype(int)]
    parts = pl.DataFrame({"line": line, "number": number, "suffix": suffix})
    return parts.select(pl.concat_str(pl.all(), separator=" ")).to_series()


def _audience_words(words: dict[str, list[str]], items: Items, rng: np.random.Generator) -> pl.Series:
    """The audience as a title names it; types made for seniors say so in their type words."""
    count = len(items.brand)
    audience = pl.Series([""]).new_from_index(0, count)
    for code, name in enumerate(AUDIENCES):
        if name in words and name != "senior":
            audience = _pick(words[name], rng, count).zip_with(pl.Series(items.audience == code), audience)
    return audience


def _parts(market: Market, brands: Brands, items: Items, rng: np.random.Generator) -> pl.DataFrame:
    """Every part that a title may have, one column each."""
    count = len(items.brand)
    bodies = [market.raw["types"][market.categories[c]] for c in market.type_category]
    titles = [body[name]["title"] for body, name in zip(bodies, market.types, strict=True)]
    starts = np.cumsum([0] + [len(t) for t in titles])
    chosen = starts[items.type] + (rng.random(count) * np.diff(starts)[items.type]).astype(int)
    values = pl.Series([*market.values, ""])
    columns = {slot: values[items.values[:, number] % len(values)] for number, slot in enumerate(SLOTS)}
    return pl.DataFrame(
        {
            "brand": pl.Series(brands.name)[items.brand],
            "line": _lines(market, brands, items, rng),
            "type": pl.Series([t for many in titles for t in many])[chosen],
            "audience": _audience_words(market.raw["audience_titles"], items, rng),
            "for": _audience_words(market.raw["audience_endings"], items, rng),
            **columns,
        }
    )


def items_table(market: Market, brands: Brands, items: Items, rng: np.random.Generator) -> pl.DataFrame:
    """The items table of the contract: item_id, title, brand, category, price."""
    count = len(items.brand)
    parts = _parts(market, brands, items, rng).with_row_index("row")
    category = pl.Series(items.category)
    pieces = []
    for number, name in enumerate(market.categories):
        order = market.raw["departments"][market.departments[market.category_department[number]]][name]["title"]
        title = pl.concat_str([pl.col(part) for part in order.split()], separator=" ")
        pieces.append(parts.filter(category == number).select("row", title.alias("title")))
    # A type with one audience says it in its type word: "Kids Tablet" needs no "Kids'" before it.
    title = pl.col("title").str.replace(r"(?:Kids'|Children's) (.*)\b(Kids|Children)\b", "${1}${2}")
    for brand in market.raw["brands"]:
        if "drops" in brand:
            title = title.str.replace(rf"^({brand['name']} .*)\b{brand['drops']}\b", "${1}")
    title = title.str.replace_all(r"\s+", " ").str.strip_chars()
    titles = pl.concat(pieces).sort("row").select(title).to_series()
    path = pl.Series(
        [
            " > ".join((market.departments[market.category_department[c]], market.categories[c], name))
            for name, c in zip(market.types, market.type_category, strict=True)
        ]
    )
    return pl.DataFrame(
        {
            "item_id": identifiers("i", count),
            "title": titles,
            "brand": parts["brand"],
            "category": path[items.type],
            "price": items.price,
        }
    )


def identifiers(prefix: str, count: int) -> pl.Series:
    """`count` ids such as i0000042, one width."""
    width = max(6, len(str(count)))
    digits = pl.int_range(count, eager=True).cast(pl.String).str.zfill(width)
    return (pl.lit(prefix) + pl.lit(digits)).pipe(pl.select).to_series()
