"""Brands: names, Zipf popularity, a price tier, a lean to women or men, the categories they sell in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from twinspire.simulation.arrays import Bools, Doubles, Floats, Ints
    from twinspire.simulation.market import Market

TASTE_DIMENSIONS = 6
_ZIPF = 0.9


@dataclass(frozen=True)
class Brands:
    """M brands; the first ones are named in market.yaml, the rest are made from syllables."""

    name: list[str]
    popularity: Doubles  # (M,) 1 / rank ** 0.9
    tier: Floats  # (M,) mean price tier, 0 low .. 2 high
    lean: Floats  # (M,) -1 men .. 1 women
    sells: Bools  # (M, C)
    lines: Ints  # (M, 3) names of its model lines
    style: Floats  # (M, TASTE_DIMENSIONS)


def brand_count(items: int) -> int:
    """How many brands a catalogue of this size has."""
    return int(np.clip(80 + items // 160, 90, 700))


def _made_names(market: Market, rng: np.random.Generator, homes: Ints) -> list[str]:
    """Unique names of a stem and an end; some carry a word of their home department."""
    raw = market.raw
    ends = raw["brand_ends"]
    codes = rng.permutation(len(raw["brand_stems"]) * len(ends))[: len(homes)]
    tails = rng.random((len(homes), 2))
    names = []
    for code, home, (chance, pick) in zip(codes, homes, tails, strict=True):
        options = raw["brand_tails"][market.departments[home]]
        tail = f" {options[int(pick * len(options))]}" if chance < 0.15 else ""
        names.append(raw["brand_stems"][code // len(ends)] + ends[code % len(ends)] + tail)
    return names


def make_brands(market: Market, rng: np.random.Generator, count: int) -> Brands:
    """Draw `count` brands. A few sell in two departments, most in some categories of one."""
    given = market.raw["brands"]
    made = count - len(given)
    homes = rng.permutation(np.arange(made) % len(market.departments)).astype(np.int32)
    home_categories = market.category_department[None, :] == homes[:, None]  # (made, C)
    second = rng.integers(len(market.departments), size=made)
    wider = (rng.random(made) < 0.12)[:, None] & (market.category_department[None, :] == second[:, None])
    sells = (home_categories | wider) & (rng.random(home_categories.shape) < 0.45)
    first = np.argmax(home_categories * rng.random(home_categories.shape), axis=1)
    sells[np.arange(made), first] = True
    named_sells = np.array([np.isin(market.categories, brand["categories"]) for brand in given])
    free_ranks = np.setdiff1d(np.arange(1, count + 1), [brand["rank"] for brand in given])
    ranks = np.concatenate([[brand["rank"] for brand in given], rng.permutation(free_ranks)[:made]])
    lean = np.clip(rng.normal(0, 0.45, made), -1, 1)
    return Brands(
        name=[brand["name"] for brand in given] + _made_names(market, rng, homes),
        popularity=ranks.astype(float) ** -_ZIPF,
        tier=np.concatenate([[b["tier"] for b in given], rng.uniform(0, 2, made)]).astype(np.float32),
        lean=np.concatenate([[b["lean"] for b in given], lean]).astype(np.float32),
        sells=np.concatenate([named_sells, sells]),
        lines=rng.integers(len(market.raw["lines"]["names"]), size=(count, 3)).astype(np.int32),
        style=rng.normal(0, 1, (count, TASTE_DIMENSIONS)).astype(np.float32),
    )
