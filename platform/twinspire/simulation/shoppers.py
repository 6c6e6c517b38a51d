"""Shoppers: a visible profile, and a hidden taste that only their history shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from twinspire.simulation.arrays import Bools, Doubles, Floats, Ints, choose, choose_rows
from twinspire.simulation.brands import TASTE_DIMENSIONS, Brands
from twinspire.simulation.catalogue import identifiers
from twinspire.simulation.market import GENDERS, TIERS, Market

_LOYAL_SHARE = 0.75
_CLIMATES = ("cold", "mild", "warm")


@dataclass(frozen=True)
class Shoppers:
    """U shoppers, aligned with the rows of the users table."""

    gender: Ints
    age: Ints
    power: Ints
    city: Ints
    parent: Bools  # shops for children; not in the profile
    affinity: Floats  # (U, C) liking of each category, log units
    loyal_brand: Ints  # (U, departments) the brand preferred there, -1: none
    loyalty: Floats  # (U,) how much, in utility
    taste: Floats  # (U, TASTE_DIMENSIONS)
    activity: Doubles  # relative number of sessions


def _cities(market: Market) -> tuple[list[str], Ints]:
    names = [(city, _CLIMATES.index(climate)) for climate in _CLIMATES for city in market.raw["cities"][climate]]
    return [name for name, _ in names], np.array([climate for _, climate in names], dtype=np.int32)


def _loyal(market: Market, brands: Brands, rng: np.random.Generator, power: Ints) -> Ints:
    """A brand a department, by popularity (flattened) and only faintly by purchase power."""
    chosen = np.full((len(power), len(market.departments)), -1, dtype=np.int32)
    for department in range(len(market.departments)):
        breadth = brands.sells[:, market.category_department == department].sum(axis=1)
        for level in range(len(TIERS)):
            rows = np.flatnonzero(power == level)
            near = np.exp(-0.5 * (brands.tier - level) ** 2)
            chosen[rows, department] = choose(rng, brands.popularity**0.8 * breadth * near, len(rows))
    chosen[rng.random(chosen.shape) >= _LOYAL_SHARE] = -1
    return chosen


def make_shoppers(market: Market, brands: Brands, rng: np.random.Generator, count: int) -> Shoppers:
    """Draw `count` shoppers."""
    gender = (rng.random(count) < 0.48).astype(np.int32)
    age = choose(rng, np.array([0.2, 0.3, 0.22, 0.16, 0.12]), count)
    older = np.array([[0.5, 0.4, 0.1], [0.3, 0.5, 0.2], [0.25, 0.45, 0.3], [0.25, 0.45, 0.3], [0.4, 0.4, 0.2]])
    power = choose_rows(rng, older[age])
    names, climates = _cities(market)
    city = choose(rng, 1.0 / np.arange(1, len(names) + 1) ** 0.3, count)
    climate = np.zeros((len(_CLIMATES), len(market.categories)), dtype=np.float32)
    for row, key in enumerate(_CLIMATES):
        for category, liking in market.raw["climate"][key].items():
            climate[row, market.categories.index(category)] = liking
    own = rng.normal(0, 0.9, (count, len(market.categories))).astype(np.float32)
    return Shoppers(
        gender=gender,
        age=age,
        power=power,
        city=city,
        parent=rng.random(count) < np.array([0.05, 0.5, 0.6, 0.25, 0.1])[age],
        affinity=market.lean[gender, age] + climate[climates[city]] + own,
        loyal_brand=_loyal(market, brands, rng, power),
        loyalty=rng.uniform(0.8, 2.2, count).astype(np.float32),
        taste=rng.normal(0, 1, (count, TASTE_DIMENSIONS)).astype(np.float32),
        activity=np.exp(rng.normal(0, 1.0, count)),
    )


def users_table(market: Market, shoppers: Shoppers) -> pl.DataFrame:
    """The users table: user_id, gender, age_band, purchase_power, city."""
    return pl.DataFrame(
        {
            "user_id": identifiers("u", len(shoppers.gender)),
            "gender": pl.Series(list(GENDERS))[shoppers.gender],
            "age_band": pl.Series(market.raw["ages"])[shoppers.age],
            "purchase_power": pl.Series(["low", "medium", "high"])[shoppers.power],
            "city": pl.Series(_cities(market)[0])[shoppers.city],
        }
    )
